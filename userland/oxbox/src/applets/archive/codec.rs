//! The compressed formats: recognising, reading and writing them as streams.
//!
//! A compressed file may be several members one after the other, which is one
//! longer file. What follows the last member and is no member is an error, or for
//! gzip, bzip2 and zstd [`Trailing`] garbage that the caller may put up with.

use std::io::{self, BufRead, Cursor, Read, Write};

use lzma_rust2::{LzmaReader, XzOptions, XzReader, XzWriter};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// The most memory that a compressed file may ask for to be read, in KiB: that of `xz -9` and some.
const MEMORY_LIMIT_KIB: u32 = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Gzip,
    Bzip2,
    Xz,
    Lzma,
    Zstd,
}

impl Format {
    pub const ALL: [Self; 5] = [Self::Gzip, Self::Bzip2, Self::Xz, Self::Lzma, Self::Zstd];

    /// The name of the program for it, and its adjective.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Zstd => "zstd",
        }
    }

    /// Endings of file names and what stands in their place uncompressed.
    pub fn suffixes(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Gzip => &[(".gz", ""), (".tgz", ".tar"), (".taz", ".tar"), ("-gz", "")],
            Self::Bzip2 => &[
                (".bz2", ""),
                (".bz", ""),
                (".tbz2", ".tar"),
                (".tbz", ".tar"),
            ],
            Self::Xz => &[(".xz", ""), (".txz", ".tar")],
            Self::Lzma => &[(".lzma", ""), (".tlz", ".tar")],
            Self::Zstd => &[(".zst", ""), (".tzst", ".tar")],
        }
    }

    /// By the ending of a file's name.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        let ends = |format: &Self| {
            let suffixes = format.suffixes().iter();
            suffixes
                .filter(|(suffix, _)| suffix.starts_with('.'))
                .any(|(suffix, _)| name.ends_with(suffix.as_bytes()))
        };
        Self::ALL.into_iter().find(ends)
    }

    /// By a file's first bytes. The old `.lzma` has no signature: its properties
    /// as every encoder writes them, and the upper half of a dictionary size.
    pub fn of_start(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [0x5d, 0, 0, _, 0..=8, ..] => Some(Self::Lzma),
            _ => None,
        }
    }
}

/// What `error` means, in the words of the tools.
pub fn explain(error: &io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_some() {
        return plain(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "unexpected end of file".to_owned(),
        _ if text.contains("checksum") => "invalid compressed data--crc error".to_owned(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput if text.contains("deflate") => {
            "invalid compressed data--format violated".to_owned()
        }
        _ if text.contains("UnexpectedEof") => "unexpected end of file".to_owned(),
        _ if text.contains("XZ magic") => "not in xz format".to_owned(),
        _ if text.starts_with("not in ") => text,
        // What each decoder says of it tells nobody anything.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => "corrupted data".to_owned(),
        _ => text,
    }
}

/// An error of the system without Rust's ` (os error N)`.
pub fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// The end of data that is followed by bytes that belong to no member.
#[derive(Debug)]
pub struct Trailing;

impl std::fmt::Display for Trailing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("decompression OK, trailing garbage ignored")
    }
}

impl std::error::Error for Trailing {}

/// Whether all data was read and only [`Trailing`] bytes were found wrong.
pub fn is_trailing(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Trailing>())
}

type Source = Box<dyn BufRead>;

/// The uncompressed bytes of `input`, which begins with a member of `format`.
pub fn reader(format: Format, input: Source) -> io::Result<Box<dyn Read>> {
    Ok(match format {
        Format::Xz => Box::new(XzReader::new_mem_limit(input, true, MEMORY_LIMIT_KIB)),
        Format::Lzma => Box::new(LzmaReader::new_mem_limit(input, MEMORY_LIMIT_KIB, None)?),
        Format::Gzip | Format::Bzip2 | Format::Zstd => Box::new(Members {
            format,
            first: true,
            member: Member::Between(input),
        }),
    })
}

enum Member {
    Between(Source),
    Gzip(flate2::bufread::GzDecoder<Source>),
    Bzip2(bzip2::bufread::BzDecoder<Source>),
    Zstd(Box<StreamingDecoder<Source, ruzstd::decoding::FrameDecoder>>),
    /// All was read, or an error was.
    Over,
}

/// Members one after the other.
struct Members {
    format: Format,
    first: bool,
    member: Member,
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = match &mut self.member {
                Member::Between(_) | Member::Over => 0,
                Member::Gzip(member) => member.read(buffer)?,
                Member::Bzip2(member) => member.read(buffer)?,
                Member::Zstd(member) => member.read(buffer)?,
            };
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let rest = match std::mem::replace(&mut self.member, Member::Over) {
                Member::Over => return Ok(0),
                Member::Between(rest) => rest,
                Member::Gzip(member) => member.into_inner(),
                Member::Bzip2(member) => member.into_inner(),
                Member::Zstd(member) => {
                    let decoder = &member.decoder;
                    if let Some(stated) = decoder.get_checksum_from_data()
                        && decoder.get_calculated_checksum() != Some(stated)
                    {
                        let text = "checksum mismatch";
                        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                    }
                    member.into_inner()
                }
            };
            match self.next(rest)? {
                Some(member) => self.member = member,
                None => return Ok(0),
            }
            self.first = false;
        }
    }
}

impl Members {
    /// The member that `input` begins with; `None` where there is none, and
    /// [`Trailing`] where there is something else.
    fn next(&self, mut input: Source) -> io::Result<Option<Member>> {
        // As many bytes as tell the format, which may come in pieces.
        let mut start = Vec::new();
        while start.len() < 4 {
            let piece = input.fill_buf()?;
            if piece.is_empty() {
                break;
            }
            let count = piece.len().min(4 - start.len());
            start.extend_from_slice(&piece[..count]);
            input.consume(count);
        }
        if start.is_empty() && !self.first {
            return Ok(None);
        }
        let known = Format::of_start(&start) == Some(self.format);
        if !known && self.first {
            let short = start.len() < 2;
            return Err(if short {
                io::ErrorKind::UnexpectedEof.into()
            } else {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("not in {} format", self.format.name()),
                )
            });
        }
        let mut input: Source = Box::new(Cursor::new(start).chain(input));
        if !known {
            // Zeros are the padding of tapes and disks.
            let mut zeros = true;
            loop {
                let piece = input.fill_buf()?;
                if piece.is_empty() {
                    break;
                }
                zeros &= piece.iter().all(|byte| *byte == 0);
                let count = piece.len();
                input.consume(count);
            }
            return match zeros {
                true => Ok(None),
                false => Err(io::Error::other(Trailing)),
            };
        }
        Ok(Some(match self.format {
            Format::Bzip2 => Member::Bzip2(bzip2::bufread::BzDecoder::new(input)),
            Format::Zstd => zstd_member(input)?,
            _ => Member::Gzip(flate2::bufread::GzDecoder::new(input)),
        }))
    }
}

fn zstd_member(mut input: Source) -> io::Result<Member> {
    let mut magic = [0; 4];
    input.read_exact(&mut magic)?;
    // RFC 8878, 3.1.2: a frame that carries no data for us.
    if magic[0] & 0xf0 == 0x50 {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let length = u64::from(u32::from_le_bytes(length));
        let skipped = io::copy(&mut (&mut input).take(length), &mut io::sink())?;
        return match skipped == length {
            true => Ok(Member::Between(input)),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        };
    }
    let input: Source = Box::new(Cursor::new(magic).chain(input));
    let decoder = StreamingDecoder::new(input)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Member::Zstd(Box::new(decoder)))
}

/// Compresses what is written to it; nothing is whole before [`Writer::finish`].
pub enum Writer<W: Write> {
    Plain(W),
    Gzip(flate2::write::GzEncoder<W>),
    Bzip2(bzip2::write::BzEncoder<W>),
    Xz(Box<XzWriter<W>>),
    Zstd(Frames<W>),
}

impl<W: Write> Writer<W> {
    /// `level` is 0 to 9, or what the format's tool takes when not told.
    pub fn new(format: Option<Format>, output: W, level: Option<u32>) -> io::Result<Self> {
        let name = None;
        Self::with_name(format, output, level, name)
    }

    /// As [`Self::new`]; gzip notes the file's name and time (seconds since 1970).
    pub fn with_name(
        format: Option<Format>,
        output: W,
        level: Option<u32>,
        name: Option<(Vec<u8>, u32)>,
    ) -> io::Result<Self> {
        let level = |standard: u32| level.unwrap_or(standard).min(9);
        Ok(match format {
            None => Self::Plain(output),
            Some(Format::Gzip) => {
                let level = flate2::Compression::new(level(6).max(1));
                let mut header = flate2::GzBuilder::new().operating_system(3);
                if let Some((name, time)) = name {
                    header = header.filename(name).mtime(time);
                }
                Self::Gzip(header.write(output, level))
            }
            Some(Format::Bzip2) => {
                let level = bzip2::Compression::new(level(9).max(1));
                Self::Bzip2(bzip2::write::BzEncoder::new(output, level))
            }
            Some(Format::Xz) => {
                let options = XzOptions::with_preset(level(6));
                Self::Xz(Box::new(XzWriter::new(output, options)?))
            }
            Some(Format::Zstd) => Self::Zstd(Frames {
                output,
                pending: Vec::new(),
                nothing_yet: true,
            }),
            Some(Format::Lzma) => {
                return Err(io::Error::other("lzma: can only be read; use xz"));
            }
        })
    }

    pub fn finish(self) -> io::Result<W> {
        let mut output = match self {
            Self::Plain(output) => output,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Bzip2(encoder) => encoder.finish()?,
            Self::Xz(encoder) => encoder.finish()?,
            Self::Zstd(frames) => frames.finish()?,
        };
        output.flush()?;
        Ok(output)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Bzip2(encoder) => encoder.write(bytes),
            Self::Xz(encoder) => encoder.write(bytes),
            Self::Zstd(frames) => frames.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Bzip2(encoder) => encoder.flush(),
            Self::Xz(encoder) => encoder.flush(),
            // A frame ends when it is full.
            Self::Zstd(_) => Ok(()),
        }
    }
}

/// zstd: one frame per piece of the input, so that memory is bounded and an
/// error of the output is one (the crate's own stream panics).
pub struct Frames<W> {
    output: W,
    pending: Vec<u8>,
    nothing_yet: bool,
}

const FRAME_BYTES: usize = 4 << 20;

impl<W: Write> Frames<W> {
    fn frame(&mut self) -> io::Result<()> {
        // The encoder has one level, about zstd's first.
        let packed = compress_to_vec(&self.pending[..], CompressionLevel::Fastest);
        self.pending.clear();
        self.nothing_yet = false;
        self.output.write_all(&packed)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(FRAME_BYTES - self.pending.len());
        self.pending.extend_from_slice(&bytes[..count]);
        if self.pending.len() == FRAME_BYTES {
            self.frame()?;
        }
        Ok(count)
    }

    fn finish(mut self) -> io::Result<W> {
        if !self.pending.is_empty() || self.nothing_yet {
            self.frame()?;
        }
        Ok(self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(format: Format, data: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new(Some(format), Vec::new(), None).expect("encoder");
        writer.write_all(data).expect("memory");
        writer.finish().expect("memory")
    }

    fn unpacked(format: Format, data: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        reader(format, Box::new(Cursor::new(data)))?.read_to_end(&mut all)?;
        Ok(all)
    }

    const WRITTEN: [Format; 4] = [Format::Gzip, Format::Bzip2, Format::Xz, Format::Zstd];

    #[test]
    fn all_formats_come_back() {
        let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7 % 251) as u8).collect();
        for format in WRITTEN {
            for data in [&data[..], &data[..1], &[]] {
                let file = packed(format, data);
                assert_eq!(Format::of_start(&file), Some(format));
                assert!(unpacked(format, file).expect("valid") == data, "{format:?}");
            }
        }
    }

    #[test]
    fn members_follow_each_other() {
        for format in WRITTEN {
            let mut file = packed(format, b"one ");
            file.extend(packed(format, b"two"));
            assert_eq!(unpacked(format, file).expect("valid"), b"one two");
        }
    }

    #[test]
    fn cut_and_broken_files_are_errors() {
        let data: Vec<u8> = (0..50_000_u32).map(|n| ((n * n) >> 5) as u8).collect();
        for format in WRITTEN {
            let file = packed(format, &data);
            for cut in [0, 1, 3, 5, 9, 20, file.len() / 2, file.len() - 1] {
                assert!(
                    unpacked(format, file[..cut].to_vec()).is_err(),
                    "{format:?} {cut}"
                );
            }
            let mut broken = file.clone();
            broken[file.len() / 2] ^= 0x55;
            assert!(
                unpacked(format, broken).map_or(true, |got| got != data),
                "{format:?}"
            );
        }
    }

    #[test]
    fn padding_is_ignored_and_garbage_is_told() {
        for format in [Format::Gzip, Format::Bzip2] {
            let mut file = packed(format, b"x");
            file.extend([0; 600]);
            assert_eq!(unpacked(format, file.clone()).expect("padded"), b"x");
            file.push(7);
            let error = unpacked(format, file).expect_err("garbage");
            assert!(is_trailing(&error));
        }
    }
}
