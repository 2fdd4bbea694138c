//! A disk as the loader sees it: 512-byte sectors, read only.

use core::fmt;

/// Bytes in a sector.
pub const SECTOR: usize = 512;

/// A read that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// First sector of the failed read.
    pub lba: u64,
    /// The firmware's status, or [`DiskError::RANGE`].
    pub status: u8,
}

impl DiskError {
    /// Status of a read that was refused before it reached the firmware.
    pub const RANGE: u8 = 0xff;
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "disk read error at sector {} (status {:#04x})",
            self.lba, self.status
        )
    }
}

/// Reads sectors.
pub trait Disk {
    /// Fills `buf`, a multiple of [`SECTOR`] bytes, from sector `lba` on.
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), DiskError>;
    /// How many sectors there are, if that can be known.
    fn sectors(&mut self) -> Option<u64> {
        None
    }
}
