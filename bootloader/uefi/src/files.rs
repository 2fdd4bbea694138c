//! Files of the volume that this program was loaded from.

use crate::firmware;
use oxbow_loader_core::LoadError;
use uefi::CStr16;
use uefi::boot::ScopedProtocol;
use uefi::proto::media::file::{Directory, File, FileAttribute, FileMode, RegularFile};
use uefi::proto::media::fs::SimpleFileSystem;
use uefi::{Status, boot};

/// Largest kernel file that is read.
const MAX_FILE: u64 = 256 << 20;

/// The EFI system partition.
pub struct Volume {
    root: Directory,
    // Keeps the protocol open for as long as the directory.
    _fs: ScopedProtocol<SimpleFileSystem>,
}

impl Volume {
    /// Opens the volume this program came from.
    pub fn open() -> Result<Self, LoadError> {
        let failed = |_| LoadError::Firmware("opening the EFI system partition");
        let mut fs = boot::get_image_file_system(boot::image_handle()).map_err(failed)?;
        let root = fs.open_volume().map_err(failed)?;
        Ok(Volume { root, _fs: fs })
    }

    fn file(&mut self, name: &'static str, path: &CStr16) -> Result<(RegularFile, u64), LoadError> {
        let handle = self
            .root
            .open(path, FileMode::Read, FileAttribute::empty())
            .map_err(|e| match e.status() {
                Status::NOT_FOUND => LoadError::Missing(name),
                _ => LoadError::Firmware("opening a file of /oxbow"),
            })?;
        let mut file = handle.into_regular_file().ok_or(LoadError::Missing(name))?;
        let failed = |_| LoadError::Firmware("seeking in a file of /oxbow");
        file.set_position(RegularFile::END_OF_FILE)
            .map_err(failed)?;
        let len = file.get_position().map_err(failed)?;
        file.set_position(0).map_err(failed)?;
        Ok((file, len))
    }

    /// Reads a file into the beginning of `buf`, as much of it as fits, and returns its length
    /// there. `name` is for people.
    pub fn read(
        &mut self,
        name: &'static str,
        path: &CStr16,
        buf: &mut [u8],
    ) -> Result<usize, LoadError> {
        let (mut file, _) = self.file(name, path)?;
        read_all(&mut file, buf)
    }

    /// Reads a file into memory of its own, which is never freed.
    pub fn read_whole(
        &mut self,
        name: &'static str,
        path: &CStr16,
    ) -> Result<&'static [u8], LoadError> {
        let (mut file, len) = self.file(name, path)?;
        if len > MAX_FILE {
            return Err(LoadError::OutOfMemory(len));
        }
        let (_, buf) = firmware::allocate(len.max(1))?;
        let buf = &mut buf[..len as usize];
        let read = read_all(&mut file, buf)?;
        Ok(&buf[..read])
    }
}

fn read_all(file: &mut RegularFile, buf: &mut [u8]) -> Result<usize, LoadError> {
    let mut done = 0;
    while done < buf.len() {
        match file.read(&mut buf[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(_) => return Err(LoadError::Firmware("reading a file of /oxbow")),
        }
    }
    Ok(done)
}
