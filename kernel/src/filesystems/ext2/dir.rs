//! Directory blocks: records of inode number, record length, name. Pure functions on one
//! block's bytes. A record never crosses a block; free space belongs to the record before it.

use super::layout::{get16, get32, put16, put32};
use crate::error::{Errno, Result};

const HEADER: usize = 8;
/// File type byte of a directory.
pub const TYPE_DIR: u8 = 2;

/// Bytes that a record for a name of `len` bytes takes at least.
pub const fn record_bytes(len: usize) -> usize {
    (HEADER + len).next_multiple_of(4)
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Byte in the block.
    pub at: usize,
    /// Length of the record.
    pub len: usize,
    /// Inode; 0 for free space.
    pub ino: u32,
    /// File type byte (0 when the filesystem keeps none).
    pub kind: u8,
    /// The name.
    pub name: &'a [u8],
}

impl Entry<'_> {
    /// Whether it is `.` or `..`.
    pub fn is_dots(&self) -> bool {
        self.name == b"." || self.name == b".."
    }
    /// Whether a program can name it.
    pub fn is_name(&self) -> bool {
        !self.name.is_empty() && !self.name.iter().any(|&b| b == 0 || b == b'/')
    }
}

/// Walks a block's records; EUCLEAN at the first that cannot be.
pub struct Entries<'a> {
    raw: &'a [u8],
    at: usize,
    filetype: bool,
}

/// The records of a block.
pub fn entries(raw: &[u8], filetype: bool) -> Entries<'_> {
    Entries {
        raw,
        at: 0,
        filetype,
    }
}

/// The record at byte `at`; none at the end, or where one cannot be.
pub fn record(raw: &[u8], at: usize, filetype: bool) -> Option<Entry<'_>> {
    let mut entries = Entries { raw, at, filetype };
    entries.next()?.ok()
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>>;
    fn next(&mut self) -> Option<Result<Entry<'a>>> {
        if self.at >= self.raw.len() {
            return None;
        }
        let rest = &self.raw[self.at..];
        let len = usize::from(get16(rest, 4));
        let (name_len, kind) = if self.filetype {
            (
                usize::from(rest.get(6).copied().unwrap_or(0)),
                rest.get(7).copied().unwrap_or(0),
            )
        } else {
            (usize::from(get16(rest, 6)), 0)
        };
        let sound = len >= record_bytes(1)
            && len.is_multiple_of(4)
            && len <= rest.len()
            && name_len <= 255
            && HEADER + name_len <= len;
        if !sound {
            self.at = self.raw.len();
            return Some(Err(Errno::EUCLEAN));
        }
        let entry = Entry {
            at: self.at,
            len,
            ino: get32(rest, 0),
            kind,
            name: &rest[HEADER..HEADER + name_len],
        };
        self.at += len;
        Some(Ok(entry))
    }
}

fn put_record(raw: &mut [u8], at: usize, len: usize, ino: u32, kind: u8, name: &[u8], ft: bool) {
    put32(raw, at, ino);
    put16(raw, at + 4, len as u16);
    if ft {
        put16(raw, at + 6, name.len() as u16 | u16::from(kind) << 8);
    } else {
        put16(raw, at + 6, name.len() as u16);
    }
    if let Some(to) = raw.get_mut(at + HEADER..at + HEADER + name.len()) {
        to.copy_from_slice(name);
    }
}

/// Makes the block one piece of free space.
pub fn clear(raw: &mut [u8]) {
    raw.fill(0);
    let len = raw.len() as u16;
    put16(raw, 4, len);
}

/// Makes the block a new directory's first: `.` and `..`.
pub fn start(raw: &mut [u8], me: u32, parent: u32, ft: bool) {
    raw.fill(0);
    let first = record_bytes(1);
    let rest = raw.len() - first;
    put_record(raw, 0, first, me, 2, b".", ft);
    put_record(raw, first, rest, parent, 2, b"..", ft);
}

/// The record of `name`.
pub fn find<'a>(raw: &'a [u8], name: &[u8], ft: bool) -> Result<Option<Entry<'a>>> {
    for entry in entries(raw, ft) {
        let entry = entry?;
        if entry.ino != 0 && entry.name == name {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Adds a record; false when the block has no room. EUCLEAN.
pub fn insert(raw: &mut [u8], name: &[u8], ino: u32, kind: u8, ft: bool) -> Result<bool> {
    let need = record_bytes(name.len());
    let mut place = None;
    for entry in entries(raw, ft) {
        let entry = entry?;
        let used = if entry.ino == 0 {
            0
        } else {
            record_bytes(entry.name.len())
        };
        if place.is_none() && entry.len >= used + need {
            place = Some((entry.at, entry.len, used));
        }
    }
    let Some((at, len, used)) = place else {
        return Ok(false);
    };
    if used > 0 {
        put16(raw, at + 4, used as u16);
    }
    put_record(raw, at + used, len - used, ino, kind, name, ft);
    Ok(true)
}

/// Removes the record of `name`, joining its space to the record before it; false when there
/// is none.
pub fn remove(raw: &mut [u8], name: &[u8], ft: bool) -> Result<bool> {
    let mut before = None;
    let mut found = None;
    for entry in entries(raw, ft) {
        let entry = entry?;
        if entry.ino != 0 && entry.name == name {
            found = Some((entry.at, entry.len));
            break;
        }
        before = Some((entry.at, entry.len));
    }
    let Some((at, len)) = found else {
        return Ok(false);
    };
    if let Some((prev, prev_len)) = before {
        put16(raw, prev + 4, (prev_len + len) as u16);
    }
    put32(raw, at, 0);
    Ok(true)
}

/// Lets the record of `name` name another inode; false when there is none.
pub fn replace(raw: &mut [u8], name: &[u8], ino: u32, kind: u8, ft: bool) -> Result<bool> {
    let Some(at) = find(raw, name, ft)?.map(|e| e.at) else {
        return Ok(false);
    };
    put32(raw, at, ino);
    if ft && let Some(byte) = raw.get_mut(at + 7) {
        *byte = kind;
    }
    Ok(true)
}

/// Makes the record at `at`, which [`entries`] told of, free space.
pub fn void(raw: &mut [u8], at: usize) {
    put32(raw, at, 0);
}

/// Sets the file type byte of the record at `at`.
pub fn set_kind(raw: &mut [u8], at: usize, kind: u8) {
    if let Some(byte) = raw.get_mut(at + 7) {
        *byte = kind;
    }
}

/// Whether the block begins with `.`, which names `me`, and `..`.
pub fn has_dots(raw: &[u8], me: u32, ft: bool) -> bool {
    let mut entries = entries(raw, ft);
    let mut is_next = |name: &[u8]| match entries.next() {
        Some(Ok(e)) if e.ino != 0 && e.name == name => Some(e.ino),
        _ => None,
    };
    is_next(b".") == Some(me) && is_next(b"..").is_some()
}

/// Makes what follows the last sound record free space; whether that was needed.
pub fn salvage(raw: &mut [u8], ft: bool) -> bool {
    let (mut last, mut end) = (0, 0);
    for entry in entries(raw, ft) {
        let Ok(entry) = entry else { break };
        (last, end) = (entry.at, entry.at + entry.len);
    }
    let rest = raw.len().saturating_sub(end);
    if rest == 0 {
        return false;
    }
    if rest >= record_bytes(1) {
        raw[end..].fill(0);
        put16(raw, end + 4, rest as u16);
    } else {
        // Too short for a record: it belongs to the one before.
        let len = (raw.len() - last) as u16;
        put16(raw, last + 4, len);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_blocks_are_salvaged() {
        let mut raw = vec![0; 64];
        start(&mut raw, 12, 2, true);
        assert!(!salvage(&mut raw, true) && has_dots(&raw, 12, true));
        assert!(!has_dots(&raw, 13, true));
        insert(&mut raw, b"abc", 20, 1, true).unwrap();
        // The last record reaches past the end.
        put16(&mut raw, 24 + 4, 44);
        assert!(salvage(&mut raw, true));
        assert_eq!(names(&raw), [b".".to_vec(), b"..".to_vec()]);
        insert(&mut raw, b"abcdefghijklmnopqrst", 20, 1, true).unwrap();
        // Eight bytes are left behind it, which no record fits.
        put16(&mut raw, 24 + 4, 32);
        assert!(salvage(&mut raw, true));
        assert!(!salvage(&mut raw, true));
        assert_eq!(names(&raw).len(), 3);
        let mut garbage = pattern();
        assert!(salvage(&mut garbage, true) && names(&garbage).is_empty());
    }

    fn pattern() -> Vec<u8> {
        vec![0xa5; 64]
    }

    fn names(raw: &[u8]) -> Vec<Vec<u8>> {
        entries(raw, true)
            .map(|e| e.unwrap())
            .filter(|e| e.ino != 0)
            .map(|e| e.name.to_vec())
            .collect()
    }

    #[test]
    fn records_split_and_join() {
        let mut raw = vec![0; 1024];
        start(&mut raw, 12, 2, true);
        let mut n = 0;
        while insert(&mut raw, format!("file{n:03}").as_bytes(), 100 + n, 1, true).unwrap() {
            n += 1;
        }
        assert_eq!(n as usize, (1024 - 24) / 16);
        assert!(remove(&mut raw, b"file003", true).unwrap());
        assert!(remove(&mut raw, b"file004", true).unwrap());
        assert!(!remove(&mut raw, b"file004", true).unwrap());
        // The joined space takes a longer name.
        assert!(insert(&mut raw, b"a-name-of-20-bytes-x", 7, 1, true).unwrap());
        assert!(!insert(&mut raw, b"another", 7, 1, true).unwrap());
        assert!(replace(&mut raw, b"file005", 99, 2, true).unwrap());
        let found = find(&raw, b"file005", true).unwrap().unwrap();
        assert_eq!((found.ino, found.kind), (99, 2));
        assert_eq!(names(&raw).len(), 2 + n as usize - 1);
    }

    #[test]
    fn damaged_blocks_are_errors() {
        assert!(find(&[0; 64], b"x", true).is_err());
        let mut raw = vec![0; 64];
        clear(&mut raw);
        put16(&mut raw, 4, 60);
        assert!(find(&raw, b"x", true).is_err());
        put16(&mut raw, 4, 68);
        assert!(insert(&mut raw, b"x", 1, 1, true).is_err());
        put16(&mut raw, 4, 64);
        put16(&mut raw, 6, 200);
        assert!(remove(&mut raw, b"x", true).is_err());
        for len in 0..8 {
            assert!(find(&raw[..len], b"x", true).map_or(true, |f| f.is_none()));
        }
    }
}
