//! Reading archives: listing and unpacking.
//!
//! What an archive says is not to be trusted. Names are made relative and `..` in them
//! is an error; links that point out of the tree are made when all else is done, so
//! that no member can be written through them.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode as Bits, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use tar::{Entry, EntryType};

use super::super::codec::{self, Format, plain};
use super::super::listing::{date, escaped, mode_text};
use super::super::pattern::{Reach, matches};
use super::create::safe_start;
use super::{Existing, Mode, Operand, Options, complain};

pub fn run(options: &Options) -> io::Result<i32> {
    let input: Box<dyn Read> = match &options.file {
        Some(path) => Box::new(File::open(path).map_err(|error| {
            io::Error::other(format!(
                "{}: Cannot open: {}",
                path.display(),
                plain(&error)
            ))
        })?),
        None => Box::new(io::stdin().lock()),
    };
    let mut input = BufReader::with_capacity(1 << 16, input);
    // Whatever was asked for, the archive itself knows whether it is compressed.
    let start = input.fill_buf()?;
    if start.is_empty() {
        return Err(io::Error::other(match options.format {
            Some(_) => "Unexpected EOF in archive",
            None => "This does not look like a tar archive",
        }));
    }
    let format = Format::of_start(start).or(options.format);
    let mut wanted = Vec::new();
    for operand in &options.operands {
        match operand {
            Operand::Name(name) => {
                let name = name.as_bytes();
                let end = name.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
                wanted.push((name[..end].to_vec(), false));
            }
            Operand::Directory(path) if options.mode() == Mode::Extract => {
                std::env::set_current_dir(path).map_err(|error| {
                    let text = plain(&error);
                    io::Error::other(format!("{}: Cannot open: {text}", path.display()))
                })?;
            }
            Operand::Directory(_) => {}
        }
    }
    let root = nix::unistd::geteuid().is_root();
    let mut reader = Reader {
        options,
        wanted,
        exact_modes: options.permissions.unwrap_or(root),
        owners: options.owners.unwrap_or(root),
        mask: mask(),
        directories: Vec::new(),
        links: Vec::new(),
        told_prefixes: Vec::new(),
        width: 19,
        status: 0,
    };
    match format {
        None => reader.all(input)?,
        Some(format) => {
            let packed = codec::reader(format, Box::new(input))?;
            reader.all(BufReader::with_capacity(1 << 16, packed))?;
        }
    }
    reader.close();
    Ok(reader.status)
}

/// The file mode creation mask, which can only be read by setting it.
fn mask() -> u32 {
    let mask = nix::sys::stat::umask(Bits::from_bits_truncate(0o077));
    nix::sys::stat::umask(mask);
    mask.bits()
}

/// What is to be set on a file when it is there.
#[derive(Clone)]
struct Attributes {
    mode: u32,
    owner: Option<(u32, u32)>,
    time: Option<TimeSpec>,
}

struct Reader<'a> {
    options: &'a Options,
    /// Operands, and whether something of that name was there.
    wanted: Vec<(Vec<u8>, bool)>,
    exact_modes: bool,
    owners: bool,
    mask: u32,
    /// Directories get what is theirs at the end: a read-only one must not keep
    /// its files out, nor these change its time.
    directories: Vec<(PathBuf, Attributes)>,
    /// Links that lead out of the tree, made at the end.
    links: Vec<(PathBuf, PathBuf, Attributes)>,
    told_prefixes: Vec<Vec<u8>>,
    /// Of owner and size in a listing.
    width: usize,
    status: i32,
}

impl Reader<'_> {
    fn all(&mut self, input: impl Read) -> io::Result<()> {
        let mut archive = tar::Archive::new(input);
        archive.set_ignore_zeros(self.options.ignore_zeros);
        let mut first = true;
        for entry in archive.entries()? {
            let mut entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.broken(error, first),
            };
            first = false;
            if entry.header().entry_type() == EntryType::XGlobalHeader {
                continue;
            }
            let name = entry.path_bytes().into_owned();
            if !self.is_wanted(&name) || self.options.excluded(trimmed(&name)) {
                continue;
            }
            if self.options.mode() == Mode::List {
                self.list(&mut entry, &name)?;
                continue;
            }
            if self.options.verbose > 0 {
                if self.options.to_stdout {
                    eprintln!("{}", escaped(&name));
                } else {
                    self.list(&mut entry, &name)?;
                }
            }
            if self.options.to_stdout {
                if entry.header().entry_type().is_file() || is_sparse(&entry) {
                    self.copy(&mut entry, &mut io::stdout().lock())?;
                }
                continue;
            }
            if let Err(failure) = self.unpack(&mut entry, &name) {
                match failure {
                    Failure::Archive(error) => {
                        self.close();
                        return self.broken(error, false);
                    }
                    Failure::Member(text) => {
                        complain(&name, &text);
                        self.status = 2;
                    }
                }
            }
        }
        let missing = self.wanted.iter().filter(|(_, found)| !found);
        for (name, _) in missing {
            complain(name, "Not found in archive");
            self.status = 2;
        }
        Ok(())
    }

    /// Says what is wrong with an archive that cannot be read further.
    fn broken(&mut self, error: io::Error, first: bool) -> io::Result<()> {
        let text = error.to_string();
        if error.kind() == io::ErrorKind::UnexpectedEof || text.contains("entire block") {
            return Err(io::Error::other("Unexpected EOF in archive"));
        }
        if error.raw_os_error().is_some() || error.get_ref().is_none() {
            return Err(io::Error::other(plain(&error)));
        }
        if text.contains("numeric field") || text.contains("checksum mismatch") {
            let text = if first {
                "This does not look like a tar archive"
            } else {
                "Skipping to next header: the archive is damaged here"
            };
            eprintln!("tar: {text}");
            self.status = 2;
            return Ok(());
        }
        Err(error)
    }

    fn is_wanted(&mut self, name: &[u8]) -> bool {
        if self.wanted.is_empty() {
            return true;
        }
        let name = trimmed(name);
        let mut any = false;
        for (pattern, found) in &mut self.wanted {
            let fits = if self.options.wildcards {
                matches(pattern, name, Reach::LeadingDirectory)
            } else {
                name.strip_prefix(pattern.as_slice())
                    .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            };
            *found |= fits;
            any |= fits;
        }
        any
    }

    fn list<R: Read>(&mut self, entry: &mut Entry<'_, R>, name: &[u8]) -> io::Result<()> {
        let mut line = String::new();
        let long = match self.options.mode() {
            Mode::List => self.options.verbose > 0,
            _ => self.options.verbose > 1,
        };
        let header = entry.header();
        let kind = header.entry_type();
        if long {
            let letter = match kind {
                EntryType::Directory => 'd',
                EntryType::Symlink => 'l',
                EntryType::Link => 'h',
                EntryType::Char => 'c',
                EntryType::Block => 'b',
                EntryType::Fifo => 'p',
                _ => '-',
            };
            let who = |name: Option<&[u8]>, id: u64| match name {
                Some(name) if !name.is_empty() && !self.options.numeric => {
                    String::from_utf8_lossy(name).into_owned()
                }
                _ => id.to_string(),
            };
            let user = who(header.username_bytes(), header.uid().unwrap_or(0));
            let group = who(header.groupname_bytes(), header.gid().unwrap_or(0));
            let size = match letter {
                'c' | 'b' => format!(
                    "{},{}",
                    header.device_major()?.unwrap_or(0),
                    header.device_minor()?.unwrap_or(0)
                ),
                _ => header.size().unwrap_or(0).to_string(),
            };
            let mode = mode_text(letter, header.mode().unwrap_or(0));
            let owner = format!("{user}/{group}");
            let used = owner.len() + 1 + size.len();
            self.width = self.width.max(used);
            let pad = self.width - owner.len();
            let time = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
            line = format!("{mode} {owner}{size:>pad$} {} ", date(time));
        }
        line.push_str(&escaped(name));
        if kind.is_dir() && !name.ends_with(b"/") {
            line.push('/');
        }
        if long
            && let Some(target) = entry.link_name_bytes()
            && matches!(kind, EntryType::Link | EntryType::Symlink)
        {
            let arrow = if kind == EntryType::Link {
                " link to "
            } else {
                " -> "
            };
            line.push_str(arrow);
            line.push_str(&escaped(&target));
        }
        line.push('\n');
        io::stdout().write_all(line.as_bytes())
    }

    /// Where a member goes; `None`: nowhere (the directory itself, all components stripped).
    fn target(&mut self, name: &[u8]) -> Option<PathBuf> {
        let kept = if self.options.absolute {
            0
        } else {
            safe_start(name)
        };
        let prefix = &name[..kept];
        if !prefix.is_empty() && !self.told_prefixes.iter().any(|told| told == prefix) {
            let shown = String::from_utf8_lossy(prefix).into_owned();
            eprintln!("tar: Removing leading `{shown}' from member names");
            self.told_prefixes.push(prefix.to_vec());
        }
        let path = Path::new(OsStr::from_bytes(&name[kept..]));
        let target: PathBuf = path
            .components()
            .filter(|component| *component != Component::CurDir)
            .skip(self.options.strip)
            .collect();
        (!target.as_os_str().is_empty()).then_some(target)
    }

    fn attributes<R: Read>(&self, entry: &mut Entry<'_, R>) -> Attributes {
        let fraction = entry.pax_extensions().ok().flatten().and_then(|pairs| {
            let mut pairs = pairs.flatten();
            let pair = pairs.find(|pair| pair.key_bytes() == b"mtime")?;
            let (_, digits) = pair.value().ok()?.split_once('.')?;
            let digits: String = digits.chars().chain("000000000".chars()).take(9).collect();
            digits.parse::<i64>().ok()
        });
        let header = entry.header();
        let mode = header.mode().unwrap_or(0o644) & 0o7777;
        let mode = if self.exact_modes {
            mode
        } else {
            mode & 0o777 & !self.mask
        };
        let id = |value: io::Result<u64>| u32::try_from(value.unwrap_or(0)).unwrap_or(0);
        let owner = self.owners.then(|| {
            let named = |name: Option<&[u8]>, look: fn(&str) -> Option<u32>| {
                let name = std::str::from_utf8(name?).ok()?;
                let usable = !self.options.numeric && !name.is_empty();
                usable.then(|| look(name)).flatten()
            };
            let uid = named(header.username_bytes(), crate::sys::user_id);
            let gid = named(header.groupname_bytes(), crate::sys::group_id);
            (
                uid.unwrap_or_else(|| id(header.uid())),
                gid.unwrap_or_else(|| id(header.gid())),
            )
        });
        let seconds = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
        Attributes {
            mode,
            owner,
            time: (!self.options.no_times).then(|| TimeSpec::new(seconds, fraction.unwrap_or(0))),
        }
    }

    fn unpack<R: Read>(&mut self, entry: &mut Entry<'_, R>, name: &[u8]) -> Result<(), Failure> {
        let Some(target) = self.target(name) else {
            return Ok(());
        };
        let mut components = name.split(|byte| *byte == b'/');
        if !self.options.absolute && components.any(|component| component == b"..") {
            return Err(Failure::Member("Member name contains '..'".to_owned()));
        }
        let attributes = self.attributes(entry);
        // The member replaces a link of that name which was to be made later.
        self.links.retain(|(path, _, _)| *path != target);
        if let Some(parent) = target.parent()
            && !parent.as_os_str().is_empty()
        {
            fs::create_dir_all(parent).map_err(|error| cannot("mkdir", &error))?;
        }
        let header = entry.header();
        match header.entry_type() {
            EntryType::Directory => return self.directory(target, attributes),
            EntryType::Symlink => {
                let link = link_target(entry)?;
                let safe =
                    !link.is_absolute() && !link.components().any(|c| c == Component::ParentDir);
                if !safe && !self.options.absolute {
                    self.make_way(&target, |_| Ok(()))?;
                    self.links.push((target, link, attributes));
                    return Ok(());
                }
                self.make_way(&target, |path| std::os::unix::fs::symlink(&link, path))?;
                self.finish_link(&target, &attributes);
                return Ok(());
            }
            EntryType::Link => {
                let link = link_target(entry)?;
                let Some(link) = self.target(link.as_os_str().as_bytes()) else {
                    return Err(Failure::Member("Cannot link to nothing".to_owned()));
                };
                if link == target {
                    return Ok(());
                }
                // A link that is still to be made has its other name then, too.
                if let Some(at) = self.links.iter().position(|(path, _, _)| *path == link) {
                    let (_, to, attributes) = self.links[at].clone();
                    self.links.push((target, to, attributes));
                    return Ok(());
                }
                return self.make_way(&target, |path| fs::hard_link(&link, path));
            }
            EntryType::Fifo => {
                self.node(&target, SFlag::S_IFIFO, 0)?;
            }
            kind @ (EntryType::Char | EntryType::Block) => {
                let number = |value: io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
                let device = makedev(
                    number(header.device_major()).into(),
                    number(header.device_minor()).into(),
                );
                let kind = match kind {
                    EntryType::Char => SFlag::S_IFCHR,
                    _ => SFlag::S_IFBLK,
                };
                self.node(&target, kind, device)?;
            }
            _ => {
                let Some(file) = self.create(&target)? else {
                    return Ok(());
                };
                let mut output = Sparse {
                    file: &file,
                    holes: is_sparse(entry),
                    at: 0,
                };
                let size = self.copy(entry, &mut output).map_err(Failure::of_copy)?;
                file.set_len(size)
                    .map_err(|error| cannot("write", &error))?;
                return self.finish_file(&file, &attributes);
            }
        }
        self.finish_node(&target, &attributes)
    }

    /// Copies a member's data; an error of `output` is an [`OutputError`].
    fn copy<R: Read>(&self, entry: &mut Entry<'_, R>, output: &mut impl Write) -> io::Result<u64> {
        let mut buffer = vec![0; 1 << 16];
        let mut size = 0;
        let stated = entry.size();
        loop {
            let count = match entry.read(&mut buffer) {
                Ok(0) if size < stated => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => return Ok(size),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if let Err(error) = output.write_all(&buffer[..count]) {
                return Err(io::Error::other(OutputError(error)));
            }
            size += count as u64;
        }
    }

    fn directory(&mut self, target: PathBuf, attributes: Attributes) -> Result<(), Failure> {
        // Not through a link: the archive's directory takes its place.
        match fs::symlink_metadata(&target) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) if self.options.existing == Existing::Skip => return Ok(()),
            Ok(_) if self.options.existing == Existing::Keep => {
                return Err(Failure::Member("Cannot mkdir: File exists".to_owned()));
            }
            Ok(_) => {
                fs::remove_file(&target).map_err(|error| cannot("unlink", &error))?;
                fs::create_dir(&target).map_err(|error| cannot("mkdir", &error))?;
            }
            Err(_) => fs::create_dir(&target).map_err(|error| cannot("mkdir", &error))?,
        }
        // Until the end we must be able to fill it.
        let ours = fs::Permissions::from_mode(attributes.mode | 0o700);
        // What cannot be changed (somebody else's) is told at the end.
        let _ = fs::set_permissions(&target, ours);
        self.directories.push((target, attributes));
        Ok(())
    }

    /// Calls `make` for `path`; where something is there, does with it what was asked for.
    fn make_way(&self, path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> Result<(), Failure> {
        let result = match fs::symlink_metadata(path) {
            Err(_) => make(path),
            Ok(_) => Err(io::Error::from_raw_os_error(nix::libc::EEXIST)),
        };
        match result {
            Err(error) if error.raw_os_error() == Some(nix::libc::EEXIST) => {
                match self.options.existing {
                    Existing::Skip => return Ok(()),
                    Existing::Keep => return Err(cannot("open", &error)),
                    Existing::Replace | Existing::Overwrite => remove(path)?,
                }
                make(path).map_err(|error| cannot("create", &error))
            }
            other => other.map_err(|error| cannot("create", &error)),
        }
    }

    fn node(&self, target: &Path, kind: SFlag, device: u64) -> Result<(), Failure> {
        self.make_way(target, |path| {
            mknod(path, kind, Bits::from_bits_truncate(0o600), device).map_err(Into::into)
        })
    }

    /// A new file of that name; `None` where one is to stay.
    fn create(&self, target: &Path) -> Result<Option<File>, Failure> {
        let mut how = OpenOptions::new();
        how.write(true).mode(0o600);
        how.custom_flags(nix::libc::O_NOFOLLOW);
        if self.options.existing == Existing::Overwrite && target.is_file() {
            let file = how.truncate(true).open(target);
            return file.map(Some).map_err(|error| cannot("open", &error));
        }
        how.create_new(true);
        match how.open(target) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.raw_os_error() == Some(nix::libc::EEXIST) => {
                match self.options.existing {
                    Existing::Skip => return Ok(None),
                    Existing::Keep => return Err(cannot("open", &error)),
                    Existing::Replace | Existing::Overwrite => remove(target)?,
                }
                let file = how.open(target);
                file.map(Some).map_err(|error| cannot("open", &error))
            }
            Err(error) => Err(cannot("open", &error)),
        }
    }

    fn finish_file(&self, file: &File, attributes: &Attributes) -> Result<(), Failure> {
        // Owner first: changing it takes set-id bits away.
        if let Some((uid, gid)) = attributes.owner {
            std::os::unix::fs::fchown(file, Some(uid), Some(gid)).map_err(|error| {
                cannot(&format!("change ownership to uid {uid}, gid {gid}"), &error)
            })?;
        }
        file.set_permissions(fs::Permissions::from_mode(attributes.mode))
            .map_err(|error| cannot("change mode", &error))?;
        if let Some(time) = &attributes.time {
            nix::sys::stat::futimens(file, &TimeSpec::UTIME_OMIT, time)
                .map_err(|error| cannot("utime", &error.into()))?;
        }
        Ok(())
    }

    fn finish_node(&self, target: &Path, attributes: &Attributes) -> Result<(), Failure> {
        if let Some((uid, gid)) = attributes.owner {
            std::os::unix::fs::lchown(target, Some(uid), Some(gid)).map_err(|error| {
                cannot(&format!("change ownership to uid {uid}, gid {gid}"), &error)
            })?;
        }
        fs::set_permissions(target, fs::Permissions::from_mode(attributes.mode))
            .map_err(|error| cannot("change mode", &error))?;
        set_time(target, attributes).map_err(|error| cannot("utime", &error.into()))
    }

    /// Owner and time of a symbolic link, as far as the filesystem keeps them.
    fn finish_link(&self, target: &Path, attributes: &Attributes) {
        if let Some((uid, gid)) = attributes.owner {
            let _ = std::os::unix::fs::lchown(target, Some(uid), Some(gid));
        }
        let _ = set_time(target, attributes);
    }

    /// Makes the links that had to wait, and gives directories what is theirs,
    /// the innermost first.
    fn close(&mut self) {
        for (path, link, attributes) in std::mem::take(&mut self.links) {
            match self.make_way(&path, |path| std::os::unix::fs::symlink(&link, path)) {
                Ok(()) => self.finish_link(&path, &attributes),
                Err(failure) => self.tell(&path, failure),
            }
        }
        for (path, attributes) in std::mem::take(&mut self.directories).iter().rev() {
            // Something else may have come in its place.
            if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
                && let Err(failure) = self.finish_node(path, attributes)
            {
                self.tell(path, failure);
            }
        }
    }

    fn tell(&mut self, path: &Path, failure: Failure) {
        let text = match failure {
            Failure::Member(text) => text,
            Failure::Archive(error) => plain(&error),
        };
        complain(path.as_os_str().as_bytes(), &text);
        self.status = 2;
    }
}

/// Why a member was not unpacked.
enum Failure {
    /// The archive cannot be read.
    Archive(io::Error),
    /// This member cannot be made; others can.
    Member(String),
}

impl Failure {
    fn of_copy(error: io::Error) -> Self {
        match error.downcast::<OutputError>() {
            Ok(OutputError(error)) => cannot("write", &error),
            Err(error) => Self::Archive(error),
        }
    }
}

/// An error of what is written, not of what is read.
#[derive(Debug)]
struct OutputError(io::Error);

impl std::fmt::Display for OutputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cannot write: {}", plain(&self.0))
    }
}

impl std::error::Error for OutputError {}

fn cannot(what: &str, error: &io::Error) -> Failure {
    Failure::Member(format!("Cannot {what}: {}", plain(error)))
}

/// Removes a file, or a directory that is empty.
fn remove(path: &Path) -> Result<(), Failure> {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let removed = if is_dir {
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    };
    removed.map_err(|error| {
        if is_dir {
            return Failure::Member("Cannot open: File exists".to_owned());
        }
        cannot("unlink", &error)
    })
}

fn set_time(path: &Path, attributes: &Attributes) -> Result<(), Errno> {
    match &attributes.time {
        None => Ok(()),
        Some(time) => utimensat(
            AT_FDCWD,
            path,
            &TimeSpec::UTIME_OMIT,
            time,
            UtimensatFlags::NoFollowSymlink,
        ),
    }
}

fn link_target<R: Read>(entry: &Entry<'_, R>) -> Result<PathBuf, Failure> {
    match entry.link_name_bytes() {
        Some(bytes) => Ok(PathBuf::from(OsStr::from_bytes(&bytes))),
        None => Err(Failure::Member("link without a target".to_owned())),
    }
}

fn is_sparse<R: Read>(entry: &Entry<'_, R>) -> bool {
    entry.header().entry_type() == EntryType::GNUSparse
}

fn trimmed(name: &[u8]) -> &[u8] {
    name.strip_suffix(b"/").unwrap_or(name)
}

/// Writes a file; of one that had holes, blocks of zeros become holes.
struct Sparse<'a> {
    file: &'a File,
    holes: bool,
    at: u64,
}

impl Write for Sparse<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.holes {
            return self.file.write(bytes);
        }
        let to_boundary = 4096 - (self.at % 4096) as usize;
        let piece = &bytes[..bytes.len().min(to_boundary)];
        if piece.iter().any(|byte| *byte != 0) {
            self.file.seek(SeekFrom::Start(self.at))?;
            self.file.write_all(piece)?;
        }
        self.at += piece.len() as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn zeros_become_holes() {
        let path = std::env::temp_dir().join(format!("oxbow-sparse-{}", std::process::id()));
        let file = File::create(&path).expect("temporary file");
        let mut output = Sparse {
            file: &file,
            holes: true,
            at: 0,
        };
        let mut data = vec![0; 1 << 20];
        data.extend(b"end");
        output.write_all(&data).expect("written");
        file.set_len(output.at).expect("size");
        assert!(fs::read(&path).expect("read") == data);
        assert!(file.metadata().expect("metadata").blocks() < 100);
        let _ = fs::remove_file(path);
    }
}
