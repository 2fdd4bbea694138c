//! Reads the boot disk with the int 13h extensions (BIOS EDD-3, 8.2).
//!
//! Every call costs the same, however little it reads, so whole pieces of the disk are read
//! and the last one is kept in the bounce buffer: partition table, file system and the
//! small files cost three calls instead of a dozen.

use crate::layout::{ANSWER, BOUNCE, BOUNCE_LEN, PACKET};
use crate::real_mode::{self, Registers};
use oxbow_loader_core::disk::{Disk, DiskError, SECTOR};

/// Sectors in a piece. Pieces start at multiples of this on the disk: compressed images are
/// unpacked in blocks of the same size, and none is unpacked twice.
const PIECE: u64 = (BOUNCE_LEN / SECTOR) as u64;
/// Sectors in a read by a BIOS that refuses a whole piece, or at the end of the disk.
const SMALL: u64 = 32;

/// The disk the BIOS booted from.
pub struct BiosDisk {
    drive: u8,
    /// First sector and number of sectors of what the bounce buffer holds.
    held: (u64, u64),
    /// Whether whole pieces can be read.
    pieces: bool,
}

impl BiosDisk {
    /// The boot disk.
    pub fn new() -> Self {
        BiosDisk {
            drive: real_mode::drive(),
            held: (0, 0),
            pieces: true,
        }
    }

    /// Reads into the bounce buffer.
    fn fetch(&mut self, lba: u64, sectors: u64) -> Result<(), DiskError> {
        let mut packet = [0; 16];
        packet[0] = 16;
        packet[2] = sectors as u8;
        packet[6..8].copy_from_slice(&((BOUNCE >> 4) as u16).to_le_bytes());
        packet[8..].copy_from_slice(&lba.to_le_bytes());
        real_mode::set_packet(packet);
        self.held = (0, 0);
        let result = real_mode::call(
            0x13,
            Registers {
                eax: 0x4200,
                edx: self.drive.into(),
                esi: PACKET as u32,
                ..Registers::default()
            },
        );
        if result.carry() {
            let status = (result.eax >> 8) as u8;
            return Err(DiskError { lba, status });
        }
        self.held = (lba, sectors);
        Ok(())
    }

    /// Makes the bounce buffer hold `lba`, and more if it can, of the `wanted` sectors.
    fn hold(&mut self, lba: u64, wanted: u64) -> Result<(), DiskError> {
        let (start, sectors) = self.held;
        if (start..start + sectors).contains(&lba) {
            return Ok(());
        }
        if self.pieces && self.fetch(lba - lba % PIECE, PIECE).is_ok() {
            return Ok(());
        }
        // Past the end of the disk, or too much at once: only what is asked for, in small
        // reads. An error of these is one.
        self.fetch(lba, wanted.min(SMALL))?;
        self.pieces = false;
        Ok(())
    }
}

impl Disk for BiosDisk {
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let (mut lba, mut rest) = (lba, buf);
        while !rest.is_empty() {
            // Addresses near 2^64 are nonsense from a damaged disk.
            if lba >= 1 << 48 {
                let status = DiskError::RANGE;
                return Err(DiskError { lba, status });
            }
            self.hold(lba, (rest.len() / SECTOR) as u64)?;
            let (start, sectors) = self.held;
            let skip = (lba - start) as usize * SECTOR;
            let len = rest.len().min(sectors as usize * SECTOR - skip);
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&real_mode::bounce()[skip..skip + len]);
            rest = later;
            lba += (len / SECTOR) as u64;
        }
        Ok(())
    }
    fn sectors(&mut self) -> Option<u64> {
        // EDD-3, 8.13: drive parameters, of the 26 bytes that the first version has.
        const LEN: u16 = 26;
        let mut parameters = [0; LEN as usize];
        parameters[..2].copy_from_slice(&LEN.to_le_bytes());
        real_mode::set_answer(&parameters);
        let result = real_mode::call(
            0x13,
            Registers {
                eax: 0x4800,
                edx: self.drive.into(),
                esi: ANSWER as u32,
                ..Registers::default()
            },
        );
        let answer = real_mode::answer();
        let sectors = u64::from_le_bytes(core::array::from_fn(|i| answer[16 + i]));
        (!result.carry() && sectors != 0).then_some(sectors)
    }
}
