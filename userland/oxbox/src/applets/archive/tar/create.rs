//! Writing archives, in the format that GNU tar writes when not told.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::Whence;
use tar::{EntryType, GnuExtSparseHeader, Header};

use super::super::codec::{Writer, plain};
use super::super::listing::escaped;
use super::{Mode, Operand, Options, complain};

const BLOCK: u64 = 512;
/// Archives are padded to a multiple of this, for tapes and for readers that expect it.
const RECORD: u64 = 20 * BLOCK;

pub fn run(options: &Options) -> io::Result<i32> {
    let names = options
        .operands
        .iter()
        .any(|operand| matches!(operand, Operand::Name(_)));
    if !names && options.mode() == Mode::Create {
        return Err(io::Error::other(
            "Cowardly refusing to create an empty archive",
        ));
    }
    let mut known = HashMap::new();
    let (output, own, position): (Box<dyn Write>, _, _) = match (&options.file, options.mode()) {
        (Some(path), Mode::Create) => {
            let file = File::create(path).map_err(|error| at(path, &error))?;
            let meta = file.metadata()?;
            // Only what is a file can be its own member.
            let own = meta.is_file().then(|| (meta.dev(), meta.ino()));
            (Box::new(file), own, 0)
        }
        (None, Mode::Create) => (Box::new(io::stdout().lock()), None, 0),
        (Some(path), _) => {
            if options.format.is_some() {
                return Err(io::Error::other("Cannot update compressed archives"));
            }
            let (file, end) = end_of_archive(path, &mut known)?;
            let meta = file.metadata()?;
            (Box::new(file), Some((meta.dev(), meta.ino())), end)
        }
        (None, _) => return Err(io::Error::other("Cannot update standard input: use -f")),
    };
    let output = io::BufWriter::with_capacity(1 << 16, output);
    let mut creator = Creator {
        options,
        output: Writer::new(options.format, output, None)?,
        position,
        own,
        links: HashMap::new(),
        known,
        names: Names::default(),
        told_prefixes: Vec::new(),
        status: 0,
        listing: options.file.is_some(),
    };
    creator.all()?;
    creator.finish()
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: Cannot open: {}", path.display(), plain(error)))
}

/// Opens an archive to go on where its last member ends; notes the times of its members.
fn end_of_archive(path: &Path, known: &mut HashMap<Vec<u8>, u64>) -> io::Result<(File, u64)> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let mut file = opened.map_err(|error| at(path, &error))?;
    let mut end = 0;
    if file.metadata()?.len() > 0 {
        let mut archive = tar::Archive::new(&file);
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let size = entry.header().entry_size().unwrap_or(0);
            end = entry.raw_file_position() + size.div_ceil(BLOCK) * BLOCK;
            let name = entry.path_bytes();
            let name = name.strip_suffix(b"/").unwrap_or(&name).to_vec();
            known.insert(name, entry.header().mtime().unwrap_or(0));
        }
    }
    file.seek(SeekFrom::Start(end))?;
    file.set_len(end)?;
    Ok((file, end))
}

/// Names of users and groups, looked up once.
#[derive(Default)]
struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    fn user(&mut self, uid: u32) -> String {
        let known = self.users.entry(uid);
        known.or_insert_with(|| crate::sys::user_name(uid)).clone()
    }

    fn group(&mut self, gid: u32) -> String {
        let known = self.groups.entry(gid);
        known
            .or_insert_with(|| crate::sys::group_name(gid).unwrap_or_default())
            .clone()
    }
}

struct Creator<'a, W: Write> {
    options: &'a Options,
    output: Writer<W>,
    /// Bytes of the archive, not compressed.
    position: u64,
    /// Device and inode of the archive.
    own: Option<(u64, u64)>,
    /// Members that have other names, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Times of the members of an archive that grows.
    known: HashMap<Vec<u8>, u64>,
    names: Names,
    told_prefixes: Vec<Vec<u8>>,
    status: i32,
    /// Names go to standard output, which the archive does not use.
    listing: bool,
}

impl<W: Write> Creator<'_, W> {
    fn all(&mut self) -> io::Result<()> {
        for operand in &self.options.operands {
            match operand {
                Operand::Directory(path) => {
                    std::env::set_current_dir(path).map_err(|error| at(path, &error))?;
                }
                Operand::Name(name) => {
                    let path = PathBuf::from(name);
                    self.tree(&path, None)?;
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, path: &Path, what: &str, error: &io::Error) {
        let text = format!("Cannot {what}: {}", plain(error));
        complain(path.as_os_str().as_bytes(), &text);
        self.status = 2;
    }

    /// Adds `path` and all below it. Only errors of the archive itself end everything.
    fn tree(&mut self, path: &Path, device: Option<u64>) -> io::Result<()> {
        let shown = path.as_os_str().as_bytes();
        if self.options.excluded(trimmed(shown)) {
            return Ok(());
        }
        let meta = if self.options.dereference {
            fs::metadata(path)
        } else {
            fs::symlink_metadata(path)
        };
        let meta = match meta {
            Ok(meta) => meta,
            Err(error) => {
                self.failed(path, "stat", &error);
                return Ok(());
            }
        };
        if self.own == Some((meta.dev(), meta.ino())) {
            complain(shown, "file is the archive; not dumped");
            return Ok(());
        }
        if !meta.is_dir() {
            return self.member(path, &meta);
        }
        let entries = if self.options.no_recursion {
            Vec::new()
        } else {
            match children(path) {
                Ok(entries) => entries,
                Err(error) => {
                    self.failed(path, "open", &error);
                    Vec::new()
                }
            }
        };
        self.member(path, &meta)?;
        let crossed = self.options.one_filesystem && device.is_some_and(|d| d != meta.dev());
        if crossed {
            return Ok(());
        }
        for entry in entries {
            self.tree(&entry, Some(meta.dev()))?;
        }
        if self.options.remove_files
            && let Err(error) = fs::remove_dir(path)
        {
            self.failed(path, "rmdir", &error);
        }
        Ok(())
    }

    /// The name in the archive: relative, without what leads out of where it is unpacked.
    fn name(&mut self, path: &Path) -> Vec<u8> {
        let full = path.as_os_str().as_bytes();
        if self.options.absolute {
            return full.to_vec();
        }
        let kept = safe_start(full);
        let prefix = &full[..kept];
        if !prefix.is_empty() && !self.told_prefixes.iter().any(|told| told == prefix) {
            let shown = String::from_utf8_lossy(prefix).into_owned();
            eprintln!("tar: Removing leading `{shown}' from member names");
            self.told_prefixes.push(prefix.to_vec());
        }
        let name = &full[kept..];
        if name.is_empty() {
            b".".to_vec()
        } else {
            name.to_vec()
        }
    }

    fn member(&mut self, path: &Path, meta: &fs::Metadata) -> io::Result<()> {
        let kind = meta.file_type();
        if kind.is_socket() {
            complain(path.as_os_str().as_bytes(), "socket ignored");
            return Ok(());
        }
        let mut name = self.name(path);
        while name.len() > 1 && name.ends_with(b"/") {
            name.pop();
        }
        let time = u64::try_from(meta.mtime()).unwrap_or(0);
        if self.options.mode() == Mode::Update
            && self.known.get(&name).is_some_and(|had| *had >= time)
        {
            return Ok(());
        }
        if kind.is_dir() {
            name.push(b'/');
        }
        let mut header = self.header(meta);
        let place = (meta.dev(), meta.ino());
        if !kind.is_dir()
            && meta.nlink() > 1
            && let Some(first) = self.links.get(&place).cloned()
        {
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            self.begin(&mut header, &name, Some(&first))?;
            return self.added(path, &name, false);
        }
        let mut file = None;
        if kind.is_symlink() {
            let target = match fs::read_link(path) {
                Ok(target) => target,
                Err(error) => {
                    self.failed(path, "read link", &error);
                    return Ok(());
                }
            };
            header.set_entry_type(EntryType::Symlink);
            self.begin(&mut header, &name, Some(target.as_os_str().as_bytes()))?;
        } else if kind.is_file() {
            match File::open(path) {
                Ok(opened) => file = Some(opened),
                Err(error) => {
                    self.failed(path, "open", &error);
                    return Ok(());
                }
            }
        } else {
            let device = nix::libc::dev_t::from(meta.rdev());
            let (entry_type, major, minor) = if kind.is_dir() {
                (EntryType::Directory, 0, 0)
            } else if kind.is_fifo() {
                (EntryType::Fifo, 0, 0)
            } else {
                let major = nix::libc::major(device);
                let minor = nix::libc::minor(device);
                let block = kind.is_block_device();
                let entry_type = if block {
                    EntryType::Block
                } else {
                    EntryType::Char
                };
                (entry_type, major, minor)
            };
            header.set_entry_type(entry_type);
            if entry_type == EntryType::Char || entry_type == EntryType::Block {
                header.set_device_major(major)?;
                header.set_device_minor(minor)?;
            }
            self.begin(&mut header, &name, None)?;
        }
        if let Some(file) = file {
            self.file(path, &name, &mut header, file)?;
        }
        if meta.nlink() > 1 && !kind.is_dir() {
            self.links.insert(place, name.clone());
        }
        self.added(path, &name, kind.is_dir())
    }

    /// After a member is whole in the archive.
    fn added(&mut self, path: &Path, name: &[u8], directory: bool) -> io::Result<()> {
        if self.options.verbose > 0 {
            let name = escaped(name);
            if self.listing {
                writeln!(io::stdout(), "{name}")?;
            } else {
                writeln!(io::stderr(), "{name}")?;
            }
        }
        if self.options.remove_files
            && !directory
            && let Err(error) = fs::remove_file(path)
        {
            self.failed(path, "unlink", &error);
        }
        Ok(())
    }

    fn header(&mut self, meta: &fs::Metadata) -> Header {
        let options = self.options;
        let mut header = Header::new_gnu();
        header.set_mode(options.fixed_mode.unwrap_or(meta.mode() & 0o7777));
        header.set_mtime(
            options
                .fixed_time
                .unwrap_or(u64::try_from(meta.mtime()).unwrap_or(0)),
        );
        header.set_size(0);
        let user = match &options.owner {
            Some((id, name)) => (*id, name.clone().unwrap_or_default()),
            None => (meta.uid().into(), self.names.user(meta.uid())),
        };
        let group = match &options.group {
            Some((id, name)) => (*id, name.clone().unwrap_or_default()),
            None => (meta.gid().into(), self.names.group(meta.gid())),
        };
        header.set_uid(user.0);
        header.set_gid(group.0);
        if !options.numeric {
            // A name that has no room is left out: the number is there.
            let _ = header.set_username(&user.1);
            let _ = header.set_groupname(&group.1);
        }
        header
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.output.write_all(bytes)
    }

    fn pad(&mut self, unit: u64) -> io::Result<()> {
        let over = self.position % unit;
        if over == 0 {
            return Ok(());
        }
        self.write(&vec![0; (unit - over) as usize])
    }

    /// Writes the header, with names that have no room in members of their own before it.
    fn begin(&mut self, header: &mut Header, name: &[u8], link: Option<&[u8]>) -> io::Result<()> {
        if let Some(link) = link {
            self.long(b'K', link)?;
            let field = &mut header.as_old_mut().linkname;
            let count = link.len().min(field.len());
            field[..count].copy_from_slice(&link[..count]);
        }
        self.long(b'L', name)?;
        let field = &mut header.as_old_mut().name;
        let count = name.len().min(field.len());
        field[..count].copy_from_slice(&name[..count]);
        seal(header)?;
        self.write(header.as_bytes())
    }

    fn long(&mut self, kind: u8, name: &[u8]) -> io::Result<()> {
        if name.len() <= 100 {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        let label = b"././@LongLink";
        header.as_old_mut().name[..label.len()].copy_from_slice(label);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(name.len() as u64 + 1);
        header.set_entry_type(EntryType::new(kind));
        seal(&mut header)?;
        self.write(header.as_bytes())?;
        self.write(name)?;
        self.write(&[0])?;
        self.pad(BLOCK)
    }

    fn file(
        &mut self,
        path: &Path,
        name: &[u8],
        header: &mut Header,
        mut file: File,
    ) -> io::Result<()> {
        let meta = match file.metadata() {
            Ok(meta) => meta,
            Err(error) => {
                self.failed(path, "stat", &error);
                return Ok(());
            }
        };
        let size = meta.len();
        // Looks for holes only where there must be some.
        if self.options.sparse
            && meta.blocks() * BLOCK < size
            && let Ok(map) = data_map(&file, size)
        {
            return self.sparse(path, name, header, &file, size, &map);
        }
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        self.begin(header, name, None)?;
        self.contents(path, &mut file, size)
    }

    /// Exactly `size` bytes, whatever happens to the file meanwhile.
    fn contents(&mut self, path: &Path, file: &mut File, size: u64) -> io::Result<()> {
        let mut left = size;
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            let room = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match file.read(&mut buffer[..room]) {
                Ok(0) => {
                    let text = format!("File shrank by {left} bytes; padding with zeros");
                    complain(path.as_os_str().as_bytes(), &text);
                    self.status = self.status.max(1);
                    break;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.failed(path, "read", &error);
                    break;
                }
            };
            self.write(&buffer[..count])?;
            left -= count as u64;
        }
        buffer.fill(0);
        while left > 0 {
            let count = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            self.write(&buffer[..count])?;
            left -= count as u64;
        }
        self.pad(BLOCK)
    }

    /// A file with holes: a map of its pieces, then only those.
    fn sparse(
        &mut self,
        path: &Path,
        name: &[u8],
        header: &mut Header,
        file: &File,
        size: u64,
        map: &[(u64, u64)],
    ) -> io::Result<()> {
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(map.iter().map(|(_, length)| length).sum());
        let mut rest = map;
        if let Some(gnu) = header.as_gnu_mut() {
            gnu.set_real_size(size);
            for (place, (offset, length)) in gnu.sparse.iter_mut().zip(rest) {
                place.set_offset(*offset);
                place.set_length(*length);
            }
            rest = &rest[rest.len().min(gnu.sparse.len())..];
            gnu.set_is_extended(!rest.is_empty());
        }
        self.begin(header, name, None)?;
        while !rest.is_empty() {
            let mut more = GnuExtSparseHeader::new();
            for (place, (offset, length)) in more.sparse_mut().iter_mut().zip(rest) {
                place.set_offset(*offset);
                place.set_length(*length);
            }
            rest = &rest[rest.len().min(more.sparse().len())..];
            more.set_is_extended(!rest.is_empty());
            self.write(more.as_bytes())?;
        }
        let mut file = file;
        for (offset, length) in map {
            if let Err(error) = file.seek(SeekFrom::Start(*offset)) {
                self.failed(path, "seek", &error);
            }
            self.piece(path, file, *length)?;
        }
        self.pad(BLOCK)
    }

    fn piece(&mut self, path: &Path, file: &File, length: u64) -> io::Result<()> {
        let mut left = length;
        let mut buffer = vec![0; 1 << 16];
        let mut file = file;
        while left > 0 {
            let room = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match file.read(&mut buffer[..room]) {
                Ok(0) | Err(_) => {
                    complain(
                        path.as_os_str().as_bytes(),
                        "File shrank; padding with zeros",
                    );
                    self.status = self.status.max(1);
                    buffer.fill(0);
                    room
                }
                Ok(count) => count,
            };
            self.write(&buffer[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<i32> {
        self.write(&[0; 2 * BLOCK as usize])?;
        self.pad(RECORD)?;
        self.output.finish()?;
        Ok(self.status)
    }
}

/// Sets the checksum, in the form that GNU tar gives it: six digits, NUL, blank.
fn seal(header: &mut Header) -> io::Result<()> {
    header.set_cksum();
    let sum = format!("{:06o}\0 ", header.cksum()?);
    header.as_old_mut().cksum.copy_from_slice(sum.as_bytes());
    Ok(())
}

/// What is in a directory, by name.
fn children(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path)?;
    let mut entries: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    // Always by name: the same tree then makes the same archive.
    entries.sort();
    Ok(entries)
}

/// Pieces of data as offset and length; the last ends at the end of the file.
fn data_map(file: &File, size: u64) -> nix::Result<Vec<(u64, u64)>> {
    use std::os::fd::AsFd as _;
    let seek = |offset: u64, whence| {
        let found = nix::unistd::lseek(file.as_fd(), i64::try_from(offset).unwrap_or(0), whence)?;
        Ok(u64::try_from(found).unwrap_or(0))
    };
    let mut map = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(at, Whence::SeekData) {
            Ok(start) => start,
            Err(nix::errno::Errno::ENXIO) => break,
            Err(error) => return Err(error),
        };
        let end = seek(start, Whence::SeekHole)?.min(size);
        if end <= start {
            break;
        }
        map.push((start, end - start));
        at = end;
    }
    // So that the size is right where a hole is last.
    if map
        .last()
        .is_none_or(|(offset, length)| offset + length < size)
    {
        map.push((size, 0));
    }
    Ok(map)
}

/// Where the part of a name begins that stays below where it is unpacked: after
/// leading slashes, and after the last `..`.
pub fn safe_start(name: &[u8]) -> usize {
    let mut start = 0;
    let mut at = 0;
    while at < name.len() {
        let end = name[at..]
            .iter()
            .position(|b| *b == b'/')
            .map_or(name.len(), |found| at + found);
        if &name[at..end] == b".." || (end == at && start == at) {
            start = (end + 1).min(name.len());
        }
        at = end + 1;
    }
    start
}

fn trimmed(name: &[u8]) -> &[u8] {
    let mut name = name;
    while name.len() > 1 && name.ends_with(b"/") {
        name = &name[..name.len() - 1];
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below() {
        for (name, safe) in [
            ("a/b", "a/b"),
            ("/a/b", "a/b"),
            ("//a", "a"),
            ("../a", "a"),
            ("a/../b", "b"),
            ("/", ""),
            ("..", ""),
            ("./a", "./a"),
            ("a..b/c", "a..b/c"),
        ] {
            let start = safe_start(name.as_bytes());
            assert_eq!(&name[start..], safe, "{name}");
        }
    }
}
