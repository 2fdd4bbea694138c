//! What SFTP's requests do to files.

use std::fs::{self, File, OpenOptions, ReadDir};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt, chown, fchown, lchown, symlink,
};
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::{UtimensatFlags, futimens, utimensat};
use nix::sys::statvfs::{Statvfs, fstatvfs, statvfs};
use nix::sys::time::{TimeSpec, TimeValLike};

use super::listing::Names;
use super::wire::{Attributes, MAX_PACKET, Reader, Status, Writer};

/// Extensions that are announced, with their versions (OpenSSH's PROTOCOL, section 4).
pub const EXTENSIONS: [(&str, &str); 9] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("home-directory", "1"),
];

/// Most bytes of one read or write: a packet without its head.
const MAX_DATA: usize = MAX_PACKET - 1024;
const MAX_HANDLES: usize = 1000;
/// Names per answer to READDIR.
const NAMES_PER_ANSWER: usize = 100;

const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED_REPLY: u8 = 201;

enum Handle {
    File(File),
    /// A directory, and its own two entries that `ReadDir` leaves out.
    Directory(PathBuf, ReadDir, Vec<&'static str>),
}

pub struct Server {
    handles: Vec<Option<Handle>>,
    names: Names,
    read_only: bool,
}

type Done = Result<(), Status>;

impl Server {
    pub fn new(read_only: bool) -> Server {
        Server {
            handles: Vec::new(),
            names: Names::default(),
            read_only,
        }
    }

    /// Does what `request` asks. An answer that is more than a status is written to `answers`.
    ///
    /// # Errors
    /// The status to answer with.
    pub fn request(
        &mut self,
        request: u8,
        id: u32,
        r: &mut Reader<'_>,
        answers: &mut Writer,
    ) -> Done {
        if self.read_only && matches!(request, 6 | 9 | 10 | 13 | 14 | 15 | 18 | 20) {
            return Err(Status::PermissionDenied);
        }
        match request {
            3 => self.open(id, r, answers),
            4 => self.close(r),
            5 => self.read(id, r, answers),
            6 => self.write(r),
            7 => attributes_answer(id, &fs::symlink_metadata(r.path()?)?, answers),
            8 => attributes_answer(id, &self.file(r)?.metadata()?, answers),
            9 => set_attributes(&r.path()?, &r.attributes()?, true),
            10 => {
                let file = self.file(r)?;
                set_file_attributes(file, &r.attributes()?)
            }
            11 => self.open_directory(id, r, answers),
            12 => self.read_directory(id, r, answers),
            13 => remove_file(&r.path()?),
            14 => {
                let path = r.path()?;
                let mode = r.attributes()?.mode.map_or(0o777, |mode| mode & 0o7777);
                Ok(fs::DirBuilder::new().mode(mode).create(path)?)
            }
            15 => Ok(fs::remove_dir(r.path()?)?),
            16 => name_answer(id, real_path(&r.path()?)?.as_os_str().as_bytes(), answers),
            17 => attributes_answer(id, &fs::metadata(r.path()?)?, answers),
            18 => rename(&r.path()?, &r.path()?),
            19 => name_answer(
                id,
                fs::read_link(r.path()?)?.as_os_str().as_bytes(),
                answers,
            ),
            20 => {
                // The target first, as OpenSSH and its clients have it, not as the draft does.
                let target = r.path()?;
                Ok(symlink(target, r.path()?)?)
            }
            200 => self.extended(id, r, answers),
            _ => Err(Status::Unsupported),
        }
    }

    fn extended(&mut self, id: u32, r: &mut Reader<'_>, answers: &mut Writer) -> Done {
        let name = r.string()?;
        if self.read_only
            && matches!(
                name,
                b"posix-rename@openssh.com" | b"hardlink@openssh.com" | b"lsetstat@openssh.com"
            )
        {
            return Err(Status::PermissionDenied);
        }
        match name {
            b"posix-rename@openssh.com" => {
                let from = r.path()?;
                Ok(fs::rename(from, r.path()?)?)
            }
            b"hardlink@openssh.com" => {
                let from = r.path()?;
                Ok(fs::hard_link(from, r.path()?)?)
            }
            b"fsync@openssh.com" => Ok(self.file(r)?.sync_all()?),
            b"statvfs@openssh.com" => statvfs_answer(id, &statvfs(&r.path()?)?, answers),
            b"fstatvfs@openssh.com" => statvfs_answer(id, &fstatvfs(self.file(r)?)?, answers),
            b"lsetstat@openssh.com" => set_attributes(&r.path()?, &r.attributes()?, false),
            b"limits@openssh.com" => {
                answers.packet(EXTENDED_REPLY, |answer| {
                    answer.u32(id);
                    for value in [MAX_PACKET, MAX_DATA, MAX_DATA, MAX_HANDLES] {
                        answer.u64(value as u64);
                    }
                });
                Ok(())
            }
            b"expand-path@openssh.com" => {
                let path = expand(&r.path()?)?;
                name_answer(id, real_path(&path)?.as_os_str().as_bytes(), answers)
            }
            b"home-directory" => {
                let user = std::str::from_utf8(r.string()?).map_err(|_| Status::NoSuchFile)?;
                let home = home_of(user).ok_or(Status::NoSuchFile)?;
                name_answer(id, home.as_os_str().as_bytes(), answers)
            }
            _ => Err(Status::Unsupported),
        }
    }

    fn open(&mut self, id: u32, r: &mut Reader<'_>, answers: &mut Writer) -> Done {
        let path = r.path()?;
        let flags = r.u32()?;
        let has = |bit: u32| flags & bit != 0;
        let (read, write, append, create, truncate, exclusive) =
            (has(1), has(2), has(4), has(8), has(16), has(32));
        if self.read_only && (write || append || create || truncate) {
            return Err(Status::PermissionDenied);
        }
        let mode = r.attributes()?.mode.map_or(0o666, |mode| mode & 0o7777);
        let file = OpenOptions::new()
            .read(read || !write)
            .write(write)
            .append(append && write)
            .create(create && write)
            .truncate(truncate && write && !append)
            .create_new(create && exclusive && write)
            .mode(mode)
            .open(path)?;
        if truncate && append && write {
            file.set_len(0)?;
        }
        self.add(id, Handle::File(file), answers)
    }

    fn add(&mut self, id: u32, handle: Handle, answers: &mut Writer) -> Done {
        let index = match self.handles.iter().position(Option::is_none) {
            Some(index) => index,
            None if self.handles.len() >= MAX_HANDLES => return Err(Status::Failure),
            None => {
                self.handles.push(None);
                self.handles.len() - 1
            }
        };
        self.handles[index] = Some(handle);
        answers.packet(HANDLE, |answer| {
            answer.u32(id);
            answer.string(&(index as u32).to_be_bytes());
        });
        Ok(())
    }

    fn slot(&mut self, r: &mut Reader<'_>) -> Result<&mut Option<Handle>, Status> {
        let index = <[u8; 4]>::try_from(r.string()?).map_err(|_| Status::Failure)?;
        self.handles
            .get_mut(u32::from_be_bytes(index) as usize)
            .ok_or(Status::Failure)
    }

    fn file(&mut self, r: &mut Reader<'_>) -> Result<&File, Status> {
        match self.slot(r)? {
            Some(Handle::File(file)) => Ok(file),
            _ => Err(Status::Failure),
        }
    }

    fn close(&mut self, r: &mut Reader<'_>) -> Done {
        self.slot(r)?.take().map(drop).ok_or(Status::Failure)
    }

    fn read(&mut self, id: u32, r: &mut Reader<'_>, answers: &mut Writer) -> Done {
        let file = self.file(r)?;
        let offset = r.u64()?;
        let wanted = (r.u32()? as usize).min(MAX_DATA);
        let mut result = Ok(0);
        // Read into the answer itself.
        answers.packet(DATA, |answer| {
            answer.u32(id);
            let length_at = answer.bytes.len();
            answer.u32(0);
            let start = answer.bytes.len();
            answer.bytes.resize(start + wanted, 0);
            result = read_at(file, &mut answer.bytes[start..], offset);
            let got = *result.as_ref().unwrap_or(&0);
            answer.bytes.truncate(start + got);
            answer.bytes[length_at..start].copy_from_slice(&(got as u32).to_be_bytes());
        });
        match result? {
            0 if wanted > 0 => Err(Status::Eof),
            _ => Ok(()),
        }
    }

    fn write(&mut self, r: &mut Reader<'_>) -> Done {
        let file = self.file(r)?;
        let offset = r.u64()?;
        Ok(file.write_all_at(r.string()?, offset)?)
    }

    fn open_directory(&mut self, id: u32, r: &mut Reader<'_>, answers: &mut Writer) -> Done {
        let path = r.path()?;
        let entries = fs::read_dir(&path)?;
        self.add(
            id,
            Handle::Directory(path, entries, vec!["..", "."]),
            answers,
        )
    }

    fn read_directory(&mut self, id: u32, r: &mut Reader<'_>, answers: &mut Writer) -> Done {
        let index = <[u8; 4]>::try_from(r.string()?).map_err(|_| Status::Failure)?;
        let Some(Some(Handle::Directory(path, entries, own))) =
            self.handles.get_mut(u32::from_be_bytes(index) as usize)
        else {
            return Err(Status::Failure);
        };
        let mut found = Vec::new();
        while found.len() < NAMES_PER_ANSWER {
            let name = match own.pop() {
                Some(name) => name.into(),
                None => match entries.next() {
                    None => break,
                    Some(entry) => entry?.file_name(),
                },
            };
            // Gone in the meantime: not there.
            if let Ok(status) = fs::symlink_metadata(path.join(&name)) {
                found.push((name, status));
            }
        }
        if found.is_empty() {
            return Err(Status::Eof);
        }
        answers.packet(NAME, |answer| {
            answer.u32(id);
            answer.u32(found.len() as u32);
            for (name, status) in &found {
                answer.string(name.as_bytes());
                answer.string(&self.names.long_name(name.as_bytes(), status));
                answer.attributes(&Attributes::from(status));
            }
        });
        Ok(())
    }
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset.saturating_add(got as u64)) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn attributes_answer(id: u32, status: &fs::Metadata, answers: &mut Writer) -> Done {
    answers.packet(ATTRS, |answer| {
        answer.u32(id);
        answer.attributes(&Attributes::from(status));
    });
    Ok(())
}

fn name_answer(id: u32, name: &[u8], answers: &mut Writer) -> Done {
    answers.packet(NAME, |answer| {
        answer.u32(id);
        answer.u32(1);
        answer.string(name);
        answer.string(name);
        answer.attributes(&Attributes::default());
    });
    Ok(())
}

fn statvfs_answer(id: u32, status: &Statvfs, answers: &mut Writer) -> Done {
    use nix::sys::statvfs::FsFlags;
    let flags = status.flags();
    let bit = |flag: FsFlags, bit: u64| if flags.contains(flag) { bit } else { 0 };
    let fields = [
        status.block_size(),
        status.fragment_size(),
        status.blocks(),
        status.blocks_free(),
        status.blocks_available(),
        status.files(),
        status.files_free(),
        status.files_available(),
        status.filesystem_id(),
        bit(FsFlags::ST_RDONLY, 1) | bit(FsFlags::ST_NOSUID, 2),
        status.name_max(),
    ];
    answers.packet(EXTENDED_REPLY, |answer| {
        answer.u32(id);
        fields.iter().for_each(|field| answer.u64(*field));
    });
    Ok(())
}

fn time_of(seconds: u32) -> TimeSpec {
    TimeSpec::seconds(i64::from(seconds))
}

/// Changes what is given; all of it is tried, and the first failure told.
fn set_attributes(path: &Path, attributes: &Attributes, follow: bool) -> Done {
    let mut results: Vec<Done> = Vec::new();
    if let Some(size) = attributes.size {
        let truncated = OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| file.set_len(size));
        results.push(truncated.map_err(Status::from));
    }
    if let Some(mode) = attributes.mode {
        // A symbolic link has no permissions that could be changed.
        let changed = if follow {
            fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))
                .map_err(Status::from)
        } else {
            Err(Status::Failure)
        };
        results.push(changed);
    }
    if let Some((access, change)) = attributes.times {
        let flag = if follow {
            UtimensatFlags::FollowSymlink
        } else {
            UtimensatFlags::NoFollowSymlink
        };
        let set = utimensat(
            nix::fcntl::AT_FDCWD,
            path,
            &time_of(access),
            &time_of(change),
            flag,
        );
        results.push(set.map_err(Status::from));
    }
    if let Some((user, group)) = attributes.owner {
        let changed = if follow {
            chown(path, Some(user), Some(group))
        } else {
            lchown(path, Some(user), Some(group))
        };
        results.push(changed.map_err(Status::from));
    }
    results.into_iter().collect()
}

fn set_file_attributes(file: &File, attributes: &Attributes) -> Done {
    let mut results: Vec<Done> = Vec::new();
    if let Some(size) = attributes.size {
        results.push(file.set_len(size).map_err(Status::from));
    }
    if let Some(mode) = attributes.mode {
        results.push(
            file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
                .map_err(Status::from),
        );
    }
    if let Some((access, change)) = attributes.times {
        results
            .push(futimens(file.as_fd(), &time_of(access), &time_of(change)).map_err(Status::from));
    }
    if let Some((user, group)) = attributes.owner {
        results.push(fchown(file, Some(user), Some(group)).map_err(Status::from));
    }
    results.into_iter().collect()
}

/// unlink(2), whose error for a directory says more than "is a directory".
fn remove_file(path: &Path) -> Done {
    Ok(fs::remove_file(path)?)
}

/// Version 3's rename does not replace what is there.
fn rename(from: &Path, to: &Path) -> Done {
    let status = fs::symlink_metadata(from)?;
    if status.is_file() {
        match fs::hard_link(from, to) {
            Ok(()) => return Ok(fs::remove_file(from)?),
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(
                        libc::EOPNOTSUPP | libc::EPERM | libc::ENOSYS | libc::EXDEV | libc::EMLINK
                    )
                ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(Status::Failure);
    }
    Ok(fs::rename(from, to)?)
}

/// The canonical path. The last component need not exist: clients ask before they create.
fn real_path(path: &Path) -> Result<PathBuf, Status> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let absolute = std::env::current_dir()?.join(path);
            let (Some(parent), Some(Component::Normal(name))) =
                (absolute.parent(), absolute.components().next_back())
            else {
                return Err(error.into());
            };
            Ok(fs::canonicalize(parent)?.join(name))
        }
        Err(error) => Err(error.into()),
    }
}

/// `~` and `~USER` at the start.
fn expand(path: &Path) -> Result<PathBuf, Status> {
    let bytes = path.as_os_str().as_bytes();
    let Some(rest) = bytes.strip_prefix(b"~") else {
        return Ok(path.to_path_buf());
    };
    let end = rest
        .iter()
        .position(|byte| *byte == b'/')
        .unwrap_or(rest.len());
    let user = std::str::from_utf8(&rest[..end]).map_err(|_| Status::NoSuchFile)?;
    let home = home_of(user).ok_or(Status::NoSuchFile)?;
    let below = rest[end..]
        .iter()
        .position(|byte| *byte != b'/')
        .map_or(&[][..], |at| &rest[end + at..]);
    Ok(home.join(std::ffi::OsStr::from_bytes(below)))
}

/// A user's home; one's own for an empty name.
fn home_of(user: &str) -> Option<PathBuf> {
    use nix::unistd::{User, getuid};
    let found = if user.is_empty() {
        User::from_uid(getuid())
    } else {
        User::from_name(user)
    };
    Some(found.ok()??.dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rename_replaces_nothing() {
        let folder = std::env::temp_dir().join(format!("oxsshd-rename-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (a, b) = (folder.join("a"), folder.join("b"));
        fs::write(&a, "a").unwrap();
        fs::write(&b, "b").unwrap();
        assert_eq!(rename(&a, &b), Err(Status::Failure));
        assert_eq!(fs::read(&b).unwrap(), b"b");
        fs::remove_file(&b).unwrap();
        assert_eq!(rename(&a, &b), Ok(()));
        assert!(!a.exists() && b.exists());
        assert_eq!(rename(&a, &b), Err(Status::NoSuchFile));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn paths_that_are_not_there_yet() {
        assert_eq!(
            real_path(Path::new("/proc/../tmp/./oxsshd-none")),
            Ok(PathBuf::from("/tmp/oxsshd-none"))
        );
        assert_eq!(
            real_path(Path::new("/nowhere/at/all")),
            Err(Status::NoSuchFile)
        );
        let root = home_of("root").unwrap();
        assert_eq!(expand(Path::new("~root//x/y")), Ok(root.join("x/y")));
        assert_eq!(expand(Path::new("~root")), Ok(root.join("")));
        assert_eq!(expand(Path::new("a~")), Ok(PathBuf::from("a~")));
    }
}
