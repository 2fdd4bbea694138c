//! The seal at the end of a packed kernel file: how the loader notices a damaged or
//! truncated kernel before it runs it.
//!
//! A sealed file is the content followed by 24 bytes: [`MAGIC`], the content's length and
//! its XXH64 (seed 0), both little-endian 64-bit. It guards against accidents, not malice.

use core::fmt;
use twox_hash::XxHash64;

/// First eight bytes of a seal.
pub const MAGIC: [u8; 8] = *b"OXBOWSUM";
/// Length of a seal in bytes.
pub const LEN: usize = 24;

/// Why a seal does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The file ends without a seal: it was cut off or never packed.
    Missing,
    /// The file's length is not the sealed one.
    Length,
    /// The content is not what was sealed.
    Checksum,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SealError::Missing => {
                "truncated, or not packed by oxbow-image (no checksum at its end)"
            }
            SealError::Length => "wrong length",
            SealError::Checksum => "checksum mismatch",
        })
    }
}

/// The seal of `content`.
pub fn seal(content: &[u8]) -> [u8; LEN] {
    let mut out = [0; LEN];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&(content.len() as u64).to_le_bytes());
    out[16..].copy_from_slice(&XxHash64::oneshot(0, content).to_le_bytes());
    out
}

/// The content of a sealed `file`.
pub fn open(file: &[u8]) -> Result<&[u8], SealError> {
    let (content, tail) = file.split_last_chunk::<LEN>().ok_or(SealError::Missing)?;
    if tail[..8] != MAGIC {
        return Err(SealError::Missing);
    }
    let expected = seal(content);
    if tail[8..16] != expected[8..16] {
        return Err(SealError::Length);
    }
    if *tail != expected {
        return Err(SealError::Checksum);
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_damage_is_noticed() {
        let content: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        let mut file = content.clone();
        file.extend(seal(&content));
        assert_eq!(open(&file), Ok(&content[..]));
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0x10;
            assert!(open(&bad).is_err(), "flip at {at}");
            assert!(open(&file[..at]).is_err(), "cut at {at}");
        }
    }
}
