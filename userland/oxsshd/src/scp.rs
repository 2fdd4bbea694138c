//! The far side of scp's old protocol, for clients from before OpenSSH 9 and those that are told `-O`: they run
//! `scp -t PATH` to send and `scp -f PATH...` to fetch. Copies that start here are not offered.
//!
//! The protocol: a line says what comes (`C` file, `D` directory, `E` its end, `T` times), a zero byte agrees, 1 and a
//! line is an error after which it goes on, 2 one after which it does not.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// No line is longer than a name and some numbers.
const MAX_LINE: usize = 8 << 10;
const BLOCK: usize = 128 << 10;

#[derive(Default)]
struct Flags {
    recursive: bool,
    times: bool,
    /// The target has to be a directory.
    directory: bool,
}

pub fn main(arguments: &[String]) -> ExitCode {
    let (mut flags, mut mode, mut paths) = (Flags::default(), None, Vec::new());
    let mut options = true;
    for word in arguments {
        match word.strip_prefix('-').filter(|_| options) {
            Some("-") => options = false,
            Some(letters) if !letters.is_empty() => {
                for letter in letters.chars() {
                    match letter {
                        't' | 'f' => mode = Some(letter),
                        'r' => flags.recursive = true,
                        'p' => flags.times = true,
                        'd' => flags.directory = true,
                        'v' | 'q' => {}
                        _ => return usage(),
                    }
                }
            }
            _ => paths.push(PathBuf::from(word)),
        }
    }
    let mut peer = Peer {
        input: BufReader::with_capacity(BLOCK, io::stdin().lock()),
        output: io::stdout().lock(),
        nr_errors: 0,
    };
    let ended = match (mode, paths.as_slice()) {
        (Some('t'), [target]) => sink(&mut peer, target, &flags),
        (Some('f'), [_, ..]) => source(&mut peer, &paths, &flags),
        _ => return usage(),
    };
    ExitCode::from(u8::from(ended.is_err() || peer.nr_errors > 0))
}

fn usage() -> ExitCode {
    eprintln!(
        "scp: only the far side of a copy is here: scp -t [-dprv] PATH, scp -f [-prv] PATH..."
    );
    ExitCode::from(1)
}

/// The other side.
struct Peer<R, W> {
    input: R,
    output: W,
    nr_errors: usize,
}

impl<R: Read, W: Write> Peer<R, W> {
    fn agree(&mut self) -> io::Result<()> {
        self.output.write_all(&[0])?;
        self.output.flush()
    }

    /// Tells an error after which it goes on.
    fn complain(&mut self, path: &Path, error: &dyn std::fmt::Display) -> io::Result<()> {
        self.nr_errors += 1;
        let error = error.to_string();
        // The words without the number that the standard library puts after them.
        let words = error.split(" (os error").next().unwrap_or_default();
        let text = format!("scp: {}: {words}", path.display()).replace('\n', "?");
        self.output.write_all(format!("\x01{text}\n").as_bytes())?;
        self.output.flush()
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.input.read(&mut byte)? == 1).then_some(byte[0]))
    }

    /// The rest of a line, without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                Some(b'\n') => return Ok(line),
                Some(byte) if line.len() < MAX_LINE => line.push(byte),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// The answer to what was sent: whether the other side agrees.
    fn answer(&mut self) -> io::Result<bool> {
        match self.byte()? {
            Some(0) => Ok(true),
            Some(1) => {
                self.line()?;
                self.nr_errors += 1;
                Ok(false)
            }
            _ => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// A `C` or `D` line: mode, size, name.
fn parse_entry(line: &[u8]) -> Option<(u32, u64, &OsStr)> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let text = |part: Option<&[u8]>| std::str::from_utf8(part?).ok().map(String::from);
    let mode = u32::from_str_radix(&text(parts.next())?, 8).ok()?;
    let size = text(parts.next())?.parse().ok()?;
    let name = parts.next()?;
    let plain = !name.is_empty()
        && name != b"."
        && name != b".."
        && !name.contains(&b'/')
        && !name.contains(&0);
    plain.then(|| (mode & 0o7777, size, OsStr::from_bytes(name)))
}

/// A `T` line: times of change and access.
fn parse_times(line: &[u8]) -> Option<fs::FileTimes> {
    let text = std::str::from_utf8(line).ok()?;
    let numbers: Vec<u64> = text
        .split(' ')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let time = |index: usize| Some(UNIX_EPOCH + Duration::from_secs(*numbers.get(index)?));
    Some(
        fs::FileTimes::new()
            .set_modified(time(0)?)
            .set_accessed(time(2)?),
    )
}

/// Takes what the other side sends.
fn sink<R: Read, W: Write>(peer: &mut Peer<R, W>, target: &Path, flags: &Flags) -> io::Result<()> {
    if flags.directory && !target.is_dir() {
        peer.complain(target, &"Not a directory")?;
        return Err(io::ErrorKind::NotADirectory.into());
    }
    peer.agree()?;
    take_entries(peer, target, flags, 0)
}

/// Takes entries into `target` until its end. Directories are at most as deep as paths can be long.
fn take_entries<R: Read, W: Write>(
    peer: &mut Peer<R, W>,
    target: &Path,
    flags: &Flags,
    depth: usize,
) -> io::Result<()> {
    let mut times = None;
    loop {
        match peer.byte()? {
            None if depth == 0 => return Ok(()),
            Some(b'E') if depth > 0 => {
                peer.line()?;
                return peer.agree();
            }
            Some(1) => {
                peer.line()?;
                peer.nr_errors += 1;
            }
            Some(b'T') => {
                let line = peer.line()?;
                times = Some(parse_times(&line).ok_or(io::ErrorKind::InvalidData)?);
                peer.agree()?;
            }
            Some(kind @ (b'C' | b'D')) => {
                let line = peer.line()?;
                let (mode, size, name) = parse_entry(&line).ok_or(io::ErrorKind::InvalidData)?;
                let path = if target.is_dir() {
                    target.join(name)
                } else {
                    target.to_path_buf()
                };
                let times = times.take();
                if kind == b'C' {
                    take_file(peer, &path, mode, size, times, flags)?;
                } else if flags.recursive && depth < 512 {
                    take_directory(peer, &path, mode, times, flags, depth)?;
                } else {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn take_directory<R: Read, W: Write>(
    peer: &mut Peer<R, W>,
    path: &Path,
    mode: u32,
    times: Option<fs::FileTimes>,
    flags: &Flags,
    depth: usize,
) -> io::Result<()> {
    if !path.is_dir() {
        // Its owner must be able to fill it.
        if let Err(error) = DirBuilder::new().mode(mode | 0o700).create(path) {
            peer.complain(path, &error)?;
            return Err(error);
        }
    }
    peer.agree()?;
    take_entries(peer, path, flags, depth + 1)?;
    if flags.times {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    }
    if let Some(times) = times {
        let _ = File::open(path).and_then(|folder| folder.set_times(times));
    }
    Ok(())
}

fn take_file<R: Read, W: Write>(
    peer: &mut Peer<R, W>,
    path: &Path,
    mode: u32,
    size: u64,
    times: Option<fs::FileTimes>,
    flags: &Flags,
) -> io::Result<()> {
    let file = match OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .open(path)
    {
        Ok(file) => file,
        // Told in the place of an agreement: the other side leaves the file out.
        Err(error) => return peer.complain(path, &error),
    };
    peer.agree()?;
    let mut failed = copy_exactly(&mut peer.input, &file, size)?;
    let sent_well = peer.answer()?;
    if failed.is_none() {
        failed = file
            .set_len(size)
            .err()
            .filter(|_| file.metadata().is_ok_and(|status| status.is_file()));
    }
    if flags.times {
        failed = failed.or(file.set_permissions(fs::Permissions::from_mode(mode)).err());
    }
    if let Some(times) = times {
        failed = failed.or(file.set_times(times).err());
    }
    match failed {
        Some(error) => peer.complain(path, &error),
        None if sent_well => peer.agree(),
        // The other side has told what was wrong with its file.
        None => Ok(()),
    }
}

/// Takes `size` bytes and writes them; all are taken even if they cannot be written.
///
/// # Errors
/// Of the other side; one of the file is the result.
fn copy_exactly(
    input: &mut impl Read,
    mut file: &File,
    size: u64,
) -> io::Result<Option<io::Error>> {
    let mut block = vec![0; BLOCK];
    let (mut left, mut failed) = (size, None);
    while left > 0 {
        let part = left.min(BLOCK as u64) as usize;
        input.read_exact(&mut block[..part])?;
        if failed.is_none() {
            failed = file.write_all(&block[..part]).err();
        }
        left -= part as u64;
    }
    Ok(failed)
}

/// Sends `paths`.
fn source<R: Read, W: Write>(
    peer: &mut Peer<R, W>,
    paths: &[PathBuf],
    flags: &Flags,
) -> io::Result<()> {
    if !peer.answer()? {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    paths.iter().try_for_each(|path| send(peer, path, flags))
}

fn send<R: Read, W: Write>(peer: &mut Peer<R, W>, path: &Path, flags: &Flags) -> io::Result<()> {
    // Not to wait for a writer where somebody put a FIFO.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let (file, status) = match opened.and_then(|file| file.metadata().map(|status| (file, status)))
    {
        Ok(opened) => opened,
        Err(error) => return peer.complain(path, &error),
    };
    let real = path.canonicalize().unwrap_or_default();
    let name = path
        .file_name()
        .or(real.file_name())
        .unwrap_or(OsStr::new("/"))
        .to_owned();
    if status.is_dir() && !flags.recursive {
        return peer.complain(path, &"not a regular file");
    }
    if !status.is_dir() && !status.is_file() {
        return peer.complain(path, &"not a regular file");
    }
    if flags.times {
        let seconds = |time: io::Result<SystemTime>| {
            time.ok()
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                .map_or(0, |time| time.as_secs())
        };
        let line = format!(
            "T{} 0 {} 0\n",
            seconds(status.modified()),
            seconds(status.accessed())
        );
        peer.output.write_all(line.as_bytes())?;
        peer.output.flush()?;
        if !peer.answer()? {
            return Ok(());
        }
    }
    let (kind, size) = if status.is_dir() {
        ('D', 0)
    } else {
        ('C', status.size())
    };
    let mut line = format!("{kind}{:04o} {size} ", status.mode() & 0o7777).into_bytes();
    line.extend_from_slice(name.as_bytes());
    line.push(b'\n');
    peer.output.write_all(&line)?;
    peer.output.flush()?;
    if !peer.answer()? {
        return Ok(());
    }
    if status.is_dir() {
        return send_directory(peer, path, flags);
    }
    let failed = send_exactly(&mut peer.output, &file, size)?;
    match failed {
        Some(error) => peer.complain(path, &error)?,
        None => peer.agree()?,
    }
    peer.answer().map(drop)
}

fn send_directory<R: Read, W: Write>(
    peer: &mut Peer<R, W>,
    path: &Path,
    flags: &Flags,
) -> io::Result<()> {
    match fs::read_dir(path) {
        Err(error) => peer.complain(path, &error)?,
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => send(peer, &entry.path(), flags)?,
                    Err(error) => peer.complain(path, &error)?,
                }
            }
        }
    }
    peer.output.write_all(b"E\n")?;
    peer.output.flush()?;
    peer.answer().map(drop)
}

/// Sends `size` bytes, zeros where the file has become shorter or cannot be read: the other side counts.
fn send_exactly(
    output: &mut impl Write,
    mut file: &File,
    size: u64,
) -> io::Result<Option<io::Error>> {
    let mut block = vec![0; BLOCK];
    let (mut left, mut failed) = (size, None);
    while left > 0 {
        let part = left.min(BLOCK as u64) as usize;
        if failed.is_none() {
            failed = file.read_exact(&mut block[..part]).err();
        }
        if failed.is_some() {
            block.fill(0);
        }
        output.write_all(&block[..part])?;
        left -= part as u64;
    }
    output.flush()?;
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        assert_eq!(
            parse_entry(b"0644 12 a b"),
            Some((0o644, 12, OsStr::new("a b")))
        );
        for bad in [
            &b"0644 1 ../x"[..],
            b"0644 1 ..",
            b"0644 1 /x",
            b"0644 1 ",
            b"0644 x a",
            b"9 1 a",
            b"0644 -1 a",
            b"",
        ] {
            assert_eq!(parse_entry(bad), None);
        }
        assert!(parse_times(b"1 0 2 0").is_some());
        assert!(parse_times(b"1 0").is_none());
    }

    #[test]
    fn a_tree_goes_and_comes() {
        let folder = std::env::temp_dir().join(format!("oxsshd-scp-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let all = Flags {
            recursive: true,
            times: true,
            directory: false,
        };
        let input: &[u8] = b"T5 0 6 0\nD0750 0 d\nC0600 3 f\nabc\0E\n";
        let mut peer = Peer {
            input,
            output: Vec::new(),
            nr_errors: 0,
        };
        sink(&mut peer, &folder, &all).unwrap();
        assert_eq!((peer.output, peer.nr_errors), (vec![0; 6], 0));
        let status = fs::metadata(folder.join("d")).unwrap();
        assert_eq!((status.mode() & 0o777, status.mtime()), (0o750, 5));
        assert_eq!(fs::read(folder.join("d/f")).unwrap(), b"abc");

        let plain = Flags {
            recursive: true,
            ..Flags::default()
        };
        let mut peer = Peer {
            input: &[0u8; 5][..],
            output: Vec::new(),
            nr_errors: 0,
        };
        source(&mut peer, &[folder.join("d")], &plain).unwrap();
        assert_eq!(peer.output, b"D0750 0 d\nC0600 3 f\nabc\0E\n");
        fs::remove_dir_all(folder).unwrap();
    }
}
