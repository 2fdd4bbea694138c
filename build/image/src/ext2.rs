//! Makes, fills and checks the root partition with e2fsprogs, inside the raw disk: no root,
//! no loop device.
//!
//! Files go in by a sorted `debugfs` script rather than by `mke2fs -d`, whose order is that
//! of the host's directories and which keeps the host's owners and change times.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const LABEL: &str = "oxbow-root";
const UUID: &str = "6f78626f-7700-4f78-8000-726f6f740000";
/// Seconds since 1970 of every time stamp: 1980-01-01, as on the EFI system partition.
const EPOCH: &str = "315532800";
const BLOCK: u64 = 4096;
/// Longest directory entry in bytes: what may be left over at the end of each block.
const MAX_ENTRY: usize = 264;

/// An ext2 volume inside a raw disk image.
pub struct Volume<'a> {
    disk: &'a Path,
    offset: u64,
}

/// Where e2fsprogs are: `/sbin` is not on every user's path.
fn tool(name: &str) -> Command {
    let found = ["/usr/sbin", "/sbin"]
        .into_iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|p| p.exists());
    Command::new(found.unwrap_or_else(|| name.into()))
}

/// Runs `command`, with `input`, and returns what it wrote to its two outputs.
fn run(command: &mut Command, input: &str, ok: &[i32]) -> Result<(String, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let fail = |e: std::io::Error| Error::text(format!("{name}: {e} (package e2fsprogs)"));
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let mut stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // In a thread of its own: both pipes could be full.
        scope.spawn(move || {
            stdin
                .take()
                .map(|mut pipe| pipe.write_all(input.as_bytes()))
        });
        child.wait_with_output()
    })
    .map_err(fail)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    if !output.status.code().is_some_and(|code| ok.contains(&code)) {
        return Err(Error::text(format!(
            "{name} failed ({}):\n{out}{err}",
            output.status
        )));
    }
    Ok((out, err))
}

/// `text` as one word of a debugfs command.
pub fn quoted(text: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(text).map_err(|_| Error::text("a file name is not UTF-8"))?;
    if text.contains(['"', '\n', '\\']) || text.starts_with('<') {
        return Err(Error::text(format!(
            "{}: names with a quotation mark, a backslash or a line break, or that begin with '<', cannot be \
             put onto an image",
            text.trim_end_matches("/.").escape_debug()
        )));
    }
    Ok(format!("\"{text}\""))
}

impl<'a> Volume<'a> {
    /// The volume at byte `offset` of `disk`.
    pub fn new(disk: &'a Path, offset: u64) -> Self {
        Volume { disk, offset }
    }

    fn name(&self) -> String {
        format!("{}?offset={}", self.disk.display(), self.offset)
    }

    /// Makes an empty file system of `len` bytes.
    pub fn make(&self, len: u64) -> Result<()> {
        let extended = format!(
            "offset={},root_owner=0:0,hash_seed={UUID},lazy_itable_init=0,nodiscard",
            self.offset
        );
        let mut command = tool("mke2fs");
        command
            .args([
                "-q", "-F", "-t", "ext2", "-b", "4096", "-I", "256", "-m", "0", "-i", "16384",
            ])
            .args([
                "-O",
                "none,filetype,sparse_super,large_file",
                "-U",
                UUID,
                "-L",
                LABEL,
                "-M",
                "/",
            ])
            .args(["-E", &extended])
            .arg(self.disk)
            .arg((len / BLOCK).to_string())
            .env("E2FSPROGS_FAKE_TIME", EPOCH)
            .env("MKE2FS_CONFIG", "/dev/null");
        run(&mut command, "", &[0]).map(|_| ())
    }

    /// Runs a debugfs script that changes the volume; any complaint is an error.
    pub fn edit(&self, script: &str, time: Option<&str>) -> Result<()> {
        let mut command = tool("debugfs");
        command.args(["-w", "-f", "-"]).arg(self.name());
        if let Some(time) = time {
            command.env("E2FSPROGS_FAKE_TIME", time);
        }
        let (_, err) = run(&mut command, script, &[0])?;
        let mut complaints: Vec<&str> = err
            .lines()
            .filter(|line| !line.starts_with("debugfs 1."))
            .collect();
        complaints.dedup();
        complaints.truncate(10);
        if complaints.is_empty() {
            Ok(())
        } else if complaints.iter().any(|c| c.contains("Could not allocate")) {
            Err(Error::text(
                "the root filesystem of the image has no room for it",
            ))
        } else {
            Err(Error::text(format!("debugfs: {}", complaints.join("\n"))))
        }
    }

    /// What debugfs says of `path`: `None` when there is nothing.
    pub fn stat(&self, path: &Path) -> Result<Option<String>> {
        let request = format!("stat {}\n", quoted(path.as_os_str().as_bytes())?);
        let (out, _) = run(
            tool("debugfs").args(["-f", "-"]).arg(self.name()),
            &request,
            &[0],
        )?;
        Ok(out.contains("Inode:").then_some(out))
    }

    /// Copies `dir`'s content into the volume's root directory.
    pub fn fill(&self, dir: &Path) -> Result<()> {
        let mut script = String::new();
        let mut links = BTreeMap::new();
        walk(dir, Path::new("/"), &mut script, &mut links)?;
        for (path, count) in links.values().filter(|(_, count)| *count > 1) {
            let _ = writeln!(
                script,
                "sif {} links_count {count}",
                quoted(path.as_os_str().as_bytes())?
            );
        }
        self.edit(&script, Some(EPOCH))
    }

    /// Repairs what can be repaired without asking; an error if that is not all.
    pub fn repair(&self) -> Result<()> {
        run(
            tool("e2fsck").args(["-f", "-p"]).arg(self.name()),
            "",
            &[0, 1],
        )
        .map(|_| ())
    }

    /// Checks the volume and changes nothing.
    pub fn check(&self) -> Result<()> {
        run(tool("e2fsck").args(["-f", "-n"]).arg(self.name()), "", &[0]).map(|_| ())
    }
}

/// The commands that give `path`, whose parent is the working directory, its owner and mode.
pub fn own(script: &mut String, name: &str, mode: u32) {
    for (field, value) in [
        ("uid", "0".into()),
        ("gid", "0".into()),
        ("mode", format!("0{mode:o}")),
    ] {
        let _ = writeln!(script, "sif {name} {field} {value}");
    }
}

/// The commands that put `source` into the working directory as `name`.
pub fn write_file(script: &mut String, source: &Path, name: &str, mode: u32) -> Result<()> {
    let source = std::path::absolute(source).map_err(|e| Error::file(source, e))?;
    let _ = writeln!(
        script,
        "write {} {name}",
        quoted(source.as_os_str().as_bytes())?
    );
    own(script, name, mode);
    Ok(())
}

/// First name and number of names of each host file that has several, by device and inode.
type Links = BTreeMap<(u64, u64), (PathBuf, u64)>;

fn walk(host: &Path, guest: &Path, script: &mut String, links: &mut Links) -> Result<()> {
    let mut names = std::fs::read_dir(host)
        .and_then(|entries| {
            entries
                .map(|e| e.map(|e| e.file_name()))
                .collect::<std::io::Result<Vec<_>>>()
        })
        .map_err(|e| Error::file(host, e))?;
    names.sort();
    let mut directories = Vec::new();
    let _ = writeln!(script, "cd {}", quoted(guest.as_os_str().as_bytes())?);
    // Unlike the other commands, `ln` does not make room in a full directory.
    let longest: usize = names
        .iter()
        .map(|name| name.len().next_multiple_of(4) + 8)
        .sum();
    let fits = BLOCK as usize - MAX_ENTRY;
    for _ in 0..longest / fits {
        let _ = writeln!(script, "expand_dir .");
    }
    for file_name in names {
        let (from, to) = (host.join(&file_name), guest.join(&file_name));
        let name = quoted(file_name.as_bytes())?;
        let meta = from.symlink_metadata().map_err(|e| Error::file(&from, e))?;
        let mode = meta.permissions().mode();
        if meta.is_dir() {
            if to != Path::new("/lost+found") {
                let _ = writeln!(script, "mkdir {name}");
            }
            let mode = match to.to_str() {
                Some("/tmp") => 0o041777,
                Some("/root") => 0o040700,
                _ => mode,
            };
            own(script, &name, mode);
            directories.push((from, to));
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&from).map_err(|e| Error::file(&from, e))?;
            let _ = writeln!(
                script,
                "symlink {name} {}",
                quoted(target.as_os_str().as_bytes())?
            );
            own(script, &name, 0o120777);
        } else if meta.is_file() {
            if meta.nlink() > 1 {
                let (first, count) = links
                    .entry((meta.dev(), meta.ino()))
                    .or_insert_with(|| (to.clone(), 0));
                *count += 1;
                if *count > 1 {
                    let _ = writeln!(
                        script,
                        "ln {} {name}",
                        quoted(first.as_os_str().as_bytes())?
                    );
                    continue;
                }
            }
            write_file(script, &from, &name, mode)?;
        } else {
            return Err(Error::file(
                &from,
                "only files, directories and symbolic links go onto the image",
            ));
        }
    }
    for (from, to) in directories {
        walk(&from, &to, script, links)?;
    }
    Ok(())
}
