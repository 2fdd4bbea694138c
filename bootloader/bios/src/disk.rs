//! Reads the boot disk with the int 13h extensions (BIOS EDD-3, 8.2).

use crate::layout::{BOUNCE, BOUNCE_LEN, PACKET};
use crate::real_mode::{self, Registers};
use oxbow_loader_core::disk::{Disk, DiskError, SECTOR};

/// Sectors in a full piece. Pieces end at multiples of this on the disk: compressed images
/// are unpacked in blocks of the same size, and none is unpacked twice.
const PIECE: u64 = (BOUNCE_LEN / SECTOR) as u64;
/// Sectors in a piece for a BIOS that refuses a full one.
const SMALL_PIECE: u64 = 64;

/// The disk the BIOS booted from.
pub struct BiosDisk {
    piece: u64,
    drive: u8,
}

impl BiosDisk {
    /// The boot disk.
    pub fn new() -> Self {
        BiosDisk {
            piece: PIECE,
            drive: real_mode::drive(),
        }
    }

    fn read_piece(&self, lba: u64, sectors: u64) -> Result<(), DiskError> {
        let mut packet = [0; 16];
        packet[0] = 16;
        packet[2] = sectors as u8;
        packet[6..8].copy_from_slice(&((BOUNCE >> 4) as u16).to_le_bytes());
        packet[8..].copy_from_slice(&lba.to_le_bytes());
        real_mode::set_packet(packet);
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
            return Err(DiskError {
                lba,
                status: (result.eax >> 8) as u8,
            });
        }
        Ok(())
    }
}

impl Disk for BiosDisk {
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let (mut lba, mut rest) = (lba, buf);
        while !rest.is_empty() {
            let room = self.piece - lba % self.piece;
            let sectors = room.min((rest.len() / SECTOR) as u64);
            match self.read_piece(lba, sectors) {
                Ok(()) => {}
                Err(_) if self.piece > SMALL_PIECE && sectors > SMALL_PIECE => {
                    self.piece = SMALL_PIECE;
                    continue;
                }
                Err(error) => return Err(error),
            }
            let (now, later) = rest.split_at_mut(sectors as usize * SECTOR);
            now.copy_from_slice(&real_mode::bounce()[..now.len()]);
            rest = later;
            lba = lba.checked_add(sectors).ok_or(DiskError {
                lba,
                status: DiskError::RANGE,
            })?;
        }
        Ok(())
    }
}
