//! SFTP version 3 on the wire (draft-ietf-secsh-filexfer-02): numbers, strings, attributes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Longest packet that is taken or sent, without its length field.
pub const MAX_PACKET: usize = 256 << 10;

/// Status codes (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

impl Status {
    /// The text that goes with the code.
    pub fn text(self) -> &'static str {
        match self {
            Status::Ok => "Success",
            Status::Eof => "End of file",
            Status::NoSuchFile => "No such file",
            Status::PermissionDenied => "Permission denied",
            Status::Failure => "Failure",
            Status::BadMessage => "Bad message",
            Status::Unsupported => "Operation unsupported",
        }
    }
}

impl From<std::io::Error> for Status {
    fn from(error: std::io::Error) -> Status {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::EBADF | libc::ELOOP) => Status::NoSuchFile,
            Some(libc::EPERM | libc::EACCES | libc::EFAULT | libc::EROFS) => {
                Status::PermissionDenied
            }
            Some(libc::ENAMETOOLONG | libc::EINVAL) => Status::BadMessage,
            Some(libc::ENOSYS) => Status::Unsupported,
            _ => Status::Failure,
        }
    }
}

impl From<nix::errno::Errno> for Status {
    fn from(error: nix::errno::Errno) -> Status {
        Status::from(std::io::Error::from(error))
    }
}

/// Reads the fields of a request. What is not there is a bad message.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Status> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Status::BadMessage)?;
        self.0 = tail;
        Ok(head)
    }

    pub fn byte(&mut self) -> Result<u8, Status> {
        Ok(self.take(1)?[0])
    }

    pub fn u32(&mut self) -> Result<u32, Status> {
        Ok(u32::from_be_bytes(
            self.take(4)?.try_into().map_err(|_| Status::BadMessage)?,
        ))
    }

    pub fn u64(&mut self) -> Result<u64, Status> {
        Ok(u64::from_be_bytes(
            self.take(8)?.try_into().map_err(|_| Status::BadMessage)?,
        ))
    }

    pub fn string(&mut self) -> Result<&'a [u8], Status> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// A path; an empty one is the directory that the server is in.
    pub fn path(&mut self) -> Result<PathBuf, Status> {
        let bytes = self.string()?;
        if bytes.contains(&0) {
            return Err(Status::NoSuchFile);
        }
        let bytes = if bytes.is_empty() { b"." } else { bytes };
        Ok(PathBuf::from(OsString::from_vec(bytes.to_vec())))
    }

    pub fn attributes(&mut self) -> Result<Attributes, Status> {
        let flags = self.u32()?;
        let mut attributes = Attributes::default();
        if flags & SIZE != 0 {
            attributes.size = Some(self.u64()?);
        }
        if flags & OWNER != 0 {
            attributes.owner = Some((self.u32()?, self.u32()?));
        }
        if flags & MODE != 0 {
            attributes.mode = Some(self.u32()?);
        }
        if flags & TIMES != 0 {
            attributes.times = Some((self.u32()?, self.u32()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Ok(attributes)
    }
}

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// A file's attributes, as far as they are given. Times are seconds since 1970, of access and change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub size: Option<u64>,
    pub owner: Option<(u32, u32)>,
    pub mode: Option<u32>,
    pub times: Option<(u32, u32)>,
}

impl From<&std::fs::Metadata> for Attributes {
    fn from(status: &std::fs::Metadata) -> Attributes {
        Attributes {
            size: Some(status.size()),
            owner: Some((status.uid(), status.gid())),
            mode: Some(status.mode()),
            times: Some((status.atime() as u32, status.mtime() as u32)),
        }
    }
}

/// Answers that wait to be written.
#[derive(Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    /// Appends a packet: its type, and what `fields` appends.
    pub fn packet(&mut self, kind: u8, fields: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.u32(0);
        self.bytes.push(kind);
        fields(self);
        let length = (self.bytes.len() - start - 4) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn string(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.bytes.extend_from_slice(value);
    }

    pub fn attributes(&mut self, attributes: &Attributes) {
        let flag = |there: bool, bit: u32| if there { bit } else { 0 };
        self.u32(
            flag(attributes.size.is_some(), SIZE)
                | flag(attributes.owner.is_some(), OWNER)
                | flag(attributes.mode.is_some(), MODE)
                | flag(attributes.times.is_some(), TIMES),
        );
        if let Some(size) = attributes.size {
            self.u64(size);
        }
        if let Some((user, group)) = attributes.owner {
            self.u32(user);
            self.u32(group);
        }
        if let Some(mode) = attributes.mode {
            self.u32(mode);
        }
        if let Some((access, change)) = attributes.times {
            self.u32(access);
            self.u32(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back() {
        let all = Attributes {
            size: Some(1 << 40),
            owner: Some((1, 2)),
            mode: Some(0o100644),
            times: Some((3, 4)),
        };
        for attributes in [all, Attributes::default(), Attributes { size: None, ..all }] {
            let mut writer = Writer::default();
            writer.attributes(&attributes);
            assert_eq!(Reader(&writer.bytes).attributes(), Ok(attributes));
        }
    }

    #[test]
    fn short_messages_are_bad() {
        assert_eq!(Reader(&[0, 0, 0]).u32(), Err(Status::BadMessage));
        assert_eq!(
            Reader(&[0xff, 0xff, 0xff, 0xff, 1]).string(),
            Err(Status::BadMessage)
        );
        assert_eq!(
            Reader(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).attributes(),
            Err(Status::BadMessage)
        );
        assert_eq!(Reader(&[0, 0, 0, 1, 0]).path(), Err(Status::NoSuchFile));
    }

    #[test]
    fn packets_carry_their_length() {
        let mut writer = Writer::default();
        writer.packet(101, |writer| writer.string(b"ab"));
        assert_eq!(writer.bytes, [0, 0, 0, 7, 101, 0, 0, 0, 2, b'a', b'b']);
    }
}
