//! What a process's directory holds.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use super::links::{Link, check, open_file};
use super::mounts;
use super::status::{self, Subject};
use super::system::adjustment;
use crate::error::{Errno, Result};
use crate::process::{self, Pid, Process, Task};
use crate::vfs;
use crate::vm::space::Prot;

/// A process or thread that a name stands for. Names the same one only while it lives.
#[derive(Clone)]
pub struct Who {
    /// The process.
    pub process: Arc<Process>,
    /// A thread of it, below task/.
    pub tid: Option<Pid>,
}

impl Who {
    /// The process `pid`; ENOENT.
    pub fn find(pid: Pid) -> Result<Who> {
        let process = process::find(pid).ok_or(Errno::ENOENT)?;
        Ok(Who { process, tid: None })
    }
    /// Whether the ids still stand for the same.
    pub fn is_there(&self) -> bool {
        let same =
            process::find(self.process.pid()).is_some_and(|p| Arc::ptr_eq(&p, &self.process));
        same && self.tid.is_none_or(|_| self.task().is_some())
    }
    /// The thread: the named one, or the oldest.
    pub fn task(&self) -> Option<Arc<Task>> {
        match self.tid {
            None => self.process.main_task(),
            Some(tid) => {
                let threads = self.process.threads();
                threads.into_iter().find(|t| t.tid() == tid)
            }
        }
    }
    /// As [`Who::task`]; ESRCH for one that ended.
    pub fn live(&self) -> Result<Arc<Task>> {
        self.task().ok_or(Errno::ESRCH)
    }
    fn show(&self, make: impl FnOnce(&Subject<'_>) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let task = self.task();
        make(&Subject {
            process: &self.process,
            task: task.as_deref(),
            single: self.tid.is_some(),
        })
    }
}

/// A file or link in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Text, made by [`read`].
    Text,
    /// A magic link.
    Link(Link),
    /// fd, fdinfo, task.
    Dir(Sub),
}

/// A directory in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sub {
    /// Links to open files.
    Fd,
    /// Their state.
    FdInfo,
    /// Threads.
    Task,
}

/// Names, kinds and permission bits.
pub const ITEMS: &[(&str, What, u32)] = &[
    ("task", What::Dir(Sub::Task), 0o555),
    ("fd", What::Dir(Sub::Fd), 0o500),
    ("fdinfo", What::Dir(Sub::FdInfo), 0o555),
    ("environ", What::Text, 0o400),
    ("auxv", What::Text, 0o400),
    ("status", What::Text, 0o444),
    ("limits", What::Text, 0o444),
    ("comm", What::Text, 0o644),
    ("cmdline", What::Text, 0o444),
    ("stat", What::Text, 0o444),
    ("statm", What::Text, 0o444),
    ("maps", What::Text, 0o444),
    ("cwd", What::Link(Link::Cwd), 0o777),
    ("root", What::Link(Link::Root), 0o777),
    ("exe", What::Link(Link::Exe), 0o777),
    ("mounts", What::Text, 0o444),
    ("mountinfo", What::Text, 0o444),
    ("wchan", What::Text, 0o444),
    ("oom_score_adj", What::Text, 0o644),
    ("children", What::Text, 0o444),
];

/// The content of text file `name`.
pub fn read(who: &Who, name: &str) -> Result<Vec<u8>> {
    let p = &who.process;
    // Reaped since it was opened.
    if p.ppid() == 0 && p.pid() != 1 {
        return Err(Errno::ESRCH);
    }
    match name {
        "environ" => {
            check(p)?;
            Ok(p.environ())
        }
        "auxv" => {
            check(p)?;
            Ok(p.auxv())
        }
        "status" => who.show(status::status),
        "limits" => who.show(status::limits),
        "comm" => {
            let mut comm = who.task().map_or_else(|| p.comm(), |t| t.comm());
            comm.push(b'\n');
            Ok(comm)
        }
        "cmdline" => Ok(p.cmdline()),
        "stat" => who.show(status::stat),
        "statm" => who.show(status::statm),
        "maps" => {
            check(p)?;
            Ok(maps(p))
        }
        "mounts" | "mountinfo" => {
            let root = who.live()?.try_fs().ok_or(Errno::EINVAL)?.root();
            Ok(if name == "mounts" {
                mounts::mounts(&root)
            } else {
                mounts::mountinfo(&root)
            })
        }
        // Where a thread sleeps has no name here: as on a kernel without symbols.
        "wchan" => Ok(b"0".to_vec()),
        "oom_score_adj" => Ok(alloc::format!("{}\n", p.oom_score_adj()).into_bytes()),
        "children" => {
            let mut out = String::new();
            for child in p.children() {
                let _ = write!(out, "{child} ");
            }
            Ok(out.into_bytes())
        }
        _ => Err(Errno::ENOENT),
    }
}

/// Whether text file `name` takes input.
pub fn is_writable(name: &str) -> bool {
    matches!(name, "comm" | "oom_score_adj")
}

/// Takes what a program wrote to text file `name`.
pub fn write(who: &Who, name: &str, input: &[u8]) -> Result<()> {
    match name {
        "comm" => {
            // A thread's name is for its own process to set.
            let caller = process::try_current().ok_or(Errno::EINVAL)?;
            if caller.pid() != who.process.pid() {
                return Err(Errno::EINVAL);
            }
            let end = input.iter().position(|&b| b == b'\n' || b == 0);
            who.live()?.set_comm(&input[..end.unwrap_or(input.len())]);
            Ok(())
        }
        "oom_score_adj" => {
            let caller = process::try_current().ok_or(Errno::EACCES)?;
            let value = adjustment(input)?;
            who.process.set_oom_score_adj(&caller.cred(), value)
        }
        _ => Err(Errno::EIO),
    }
}

/// /proc/pid/maps.
fn maps(p: &Process) -> Vec<u8> {
    /// Column that names begin at.
    const NAME_AT: usize = 73;
    let mut out = Vec::new();
    let Some(space) = p.space() else { return out };
    // What the areas are is copied first: naming a file may take locks.
    let mut areas = Vec::new();
    space.for_each_vma(|v| {
        areas.push((
            (v.start, v.end, v.offset),
            v.prot,
            v.shared,
            v.file.cloned(),
            (v.is_heap, v.is_stack, v.is_shared_anonymous),
        ));
    });
    for ((start, end, offset), prot, shared, file, (heap, stack, zero)) in areas {
        let bit = |p: Prot, c: char| if prot.contains(p) { c } else { '-' };
        let (dev, ino) = file.as_ref().map_or((0, 0), |f| f.id());
        let dev = vfs::Dev::decode(dev);
        let mut line = alloc::format!(
            "{start:08x}-{end:08x} {}{}{}{} {offset:08x} {:02x}:{:02x} {ino} ",
            bit(Prot::READ, 'r'),
            bit(Prot::WRITE, 'w'),
            bit(Prot::EXEC, 'x'),
            if shared { 's' } else { 'p' },
            dev.major,
            dev.minor,
        )
        .into_bytes();
        let name = match &file {
            Some(file) => file.path(),
            None if heap => b"[heap]".to_vec(),
            None if stack => b"[stack]".to_vec(),
            None if zero => b"/dev/zero (deleted)".to_vec(),
            None => Vec::new(),
        };
        if !name.is_empty() {
            line.resize(line.len().max(NAME_AT), b' ');
            for &b in &name {
                if b == b'\n' {
                    line.extend_from_slice(b"\\012");
                } else {
                    line.push(b);
                }
            }
        }
        line.push(b'\n');
        out.extend_from_slice(&line);
    }
    out
}

/// /proc/pid/fdinfo/N.
pub fn fdinfo(who: &Who, fd: i32) -> Result<Vec<u8>> {
    check(&who.process)?;
    let task = who.live()?;
    let file = open_file(&task, fd)?;
    let close_on_exec = task
        .try_files()
        .and_then(|f| f.get_with_flag(fd).ok())
        .is_some_and(|(_, flag)| flag);
    let mut flags = file.flags();
    if close_on_exec {
        flags |= crate::abi::O_CLOEXEC;
    }
    let mount = vfs::location(&file).map_or(0, |p| p.mount.id);
    let ino = vfs::fstat(&file).map_or(0, |st| st.st_ino);
    let mut out = String::new();
    let _ = write!(
        out,
        "pos:\t{}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{ino}\n",
        file.position(),
    );
    Ok(out.into_bytes())
}

/// Reads a decimal id without sign or leading zeros.
pub fn parse_id(name: &[u8]) -> Option<i32> {
    let canonical = name == b"0" || !name.starts_with(b"0");
    if name.is_empty() || !canonical || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(name).ok()?.parse().ok()
}

/// Descriptors that are open now.
pub fn descriptors(who: &Who) -> Vec<i32> {
    let Some(files) = who.task().and_then(|t| t.try_files()) else {
        return Vec::new();
    };
    let all = files.list(0, 1 << 20);
    all.into_iter().map(|(fd, _, _)| fd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_canonical() {
        assert_eq!(parse_id(b"0"), Some(0));
        assert_eq!(parse_id(b"12"), Some(12));
        for bad in [&b""[..], b"012", b"-1", b"1x", b"99999999999"] {
            assert_eq!(parse_id(bad), None);
        }
    }
}
