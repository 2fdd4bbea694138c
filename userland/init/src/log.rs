//! Log files: lines with a time stamp, limited in size, one older file kept.
//!
//! A [`Log`] takes bytes as they come, cuts them into lines and writes whole
//! lines to its file. It keeps the last lines in memory, for `svc status` and for
//! when there is no disk to write to. Nothing here waits, and nothing grows: a
//! long line is cut, a file at its limit is renamed to `.1`, and what cannot
//! be written is counted.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::libc::O_NOFOLLOW;

use crate::clock::stamp;

/// A line longer than this continues on the next.
const MAX_LINE: usize = 1024;
/// Bytes of the last lines that stay in memory.
const KEPT: usize = 4096;

/// A file that is renamed when it has grown to its limit.
struct Rotating {
    path: PathBuf,
    limit: u64,
    file: Option<File>,
    size: u64,
    /// Lines that could not be written.
    nr_lost: u64,
}

impl Rotating {
    fn open(&mut self) -> std::io::Result<&mut File> {
        if self.file.is_none() {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .custom_flags(O_NOFOLLOW)
                .open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        // Set above where it was not.
        self.file
            .as_mut()
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn append(&mut self, lines: &[u8], now: SystemTime) {
        let nr_lines = lines.iter().filter(|b| **b == b'\n').count() as u64;
        if self.write(lines, now).is_err() {
            self.nr_lost += nr_lines;
            // The next one tries anew, perhaps on a disk with room.
            self.file = None;
        }
    }

    fn write(&mut self, lines: &[u8], now: SystemTime) -> std::io::Result<()> {
        self.open()?;
        let length = lines.len() as u64;
        if self.size > 0 && self.size + length > self.limit {
            self.file = None;
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            self.open()?;
        }
        if self.nr_lost > 0 {
            let note = format!("{} init: {} lines lost\n", stamp(now), self.nr_lost);
            self.open()?.write_all(note.as_bytes())?;
            self.size += note.len() as u64;
            self.nr_lost = 0;
        }
        self.open()?.write_all(lines)?;
        self.size += length;
        Ok(())
    }
}

pub struct Log {
    file: Rotating,
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    kept: Vec<u8>,
}

impl Log {
    pub fn new(path: &Path, limit: u64) -> Self {
        Self {
            file: Rotating {
                path: path.to_owned(),
                limit,
                file: None,
                size: 0,
                nr_lost: 0,
            },
            partial: Vec::new(),
            kept: Vec::new(),
        }
    }

    pub fn set_limit(&mut self, limit: u64) {
        self.file.limit = limit;
    }

    /// Takes output of a service. Returns the lines that it completed, as logged.
    pub fn feed(&mut self, bytes: &[u8], now: SystemTime) -> Vec<u8> {
        let mut lines = Vec::new();
        let time = stamp(now);
        for byte in bytes {
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
            if *byte == b'\n' || self.partial.len() >= MAX_LINE {
                push_line(&mut lines, &time, &self.partial);
                self.partial.clear();
            }
        }
        self.add(&lines, now);
        lines
    }

    /// Ends a line that the service will not end any more.
    pub fn finish_line(&mut self, now: SystemTime) -> Vec<u8> {
        if self.partial.is_empty() {
            return Vec::new();
        }
        self.feed(b"\n", now)
    }

    /// Adds whole lines, stamped already.
    pub fn add(&mut self, lines: &[u8], now: SystemTime) {
        if lines.is_empty() {
            return;
        }
        self.file.append(lines, now);
        self.kept.extend_from_slice(lines);
        if self.kept.len() > KEPT {
            let from = self.kept.len() - KEPT;
            let next = self.kept[from..].iter().position(|b| *b == b'\n');
            self.kept
                .drain(..next.map_or(self.kept.len(), |at| from + at + 1));
            self.kept.shrink_to(KEPT + MAX_LINE);
        }
    }

    /// The last lines.
    pub fn last_lines(&self, count: usize) -> &[u8] {
        let starts = self.kept.split_inclusive(|b| *b == b'\n').rev().take(count);
        let length: usize = starts.map(<[u8]>::len).sum();
        &self.kept[self.kept.len() - length..]
    }

    /// Bytes in the file, as far as this log wrote them.
    pub fn size(&self) -> u64 {
        self.file.size
    }

    /// Closes the file; the next line opens it again.
    pub fn close(&mut self) {
        self.file.file = None;
    }
}

/// Appends `time`, a blank and `text` as one line. What would confuse a
/// terminal or forge a line is spelt out.
pub fn push_line(lines: &mut Vec<u8>, time: &str, text: &[u8]) {
    lines.extend_from_slice(time.as_bytes());
    lines.push(b' ');
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    for byte in text {
        match byte {
            b'\t' | b' '..=b'~' | 0x80.. => lines.push(*byte),
            _ => lines.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str, limit: u64) -> (Log, PathBuf) {
        let folder = std::env::temp_dir().join(format!("init-log-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("t.log");
        (Log::new(&path, limit), path)
    }

    #[test]
    fn lines_come_in_pieces_and_are_stamped() {
        let (mut log, path) = log("pieces", 100_000);
        let now = SystemTime::UNIX_EPOCH;
        assert!(log.feed(b"one ", now).is_empty());
        assert_eq!(
            log.feed(b"line\r\n\x1b[2J\tx", now),
            b"1970-01-01T00:00:00.000Z one line\n"
        );
        assert_eq!(
            log.finish_line(now),
            b"1970-01-01T00:00:00.000Z \\x1b[2J\tx\n"
        );
        assert!(log.finish_line(now).is_empty());
        let text = std::fs::read_to_string(&path).expect("the file");
        assert_eq!(text.lines().count(), 2);
        assert_eq!(log.last_lines(1), b"1970-01-01T00:00:00.000Z \\x1b[2J\tx\n");
        assert_eq!(log.last_lines(9), text.as_bytes());
    }

    #[test]
    fn files_and_memory_stay_within_limits() {
        let (mut log, path) = log("limits", 10_000);
        for _ in 0..300 {
            log.feed(&[b'x'; 3000], SystemTime::now());
            log.feed(b"short\n", SystemTime::now());
        }
        let older = path.with_file_name("t.log.1");
        for file in [&path, &older] {
            let size = std::fs::metadata(file).expect("both files").len();
            assert!(size <= 10_000, "{size}");
        }
        assert!(log.kept.len() <= KEPT && log.kept.capacity() < 4 * KEPT);
        assert!(log.partial.capacity() <= 2 * MAX_LINE);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let (mut log, path) = log("lost", 100_000);
        std::fs::create_dir_all(&path).expect("a folder in the way");
        log.feed(b"a\nb\n", SystemTime::now());
        assert_eq!(log.file.nr_lost, 2);
        assert!(log.last_lines(5).ends_with(b"b\n"), "kept in memory");
        std::fs::remove_dir(&path).expect("ours");
        log.feed(b"c\n", SystemTime::now());
        let text = std::fs::read_to_string(&path).expect("the file");
        assert!(
            text.contains("init: 2 lines lost\n") && text.ends_with(" c\n"),
            "{text}"
        );
    }
}
