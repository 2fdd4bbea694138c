//! The form of the kernel file on the disk: compressed, because reading costs more than
//! unpacking, and sealed, so that a damaged or truncated kernel is noticed before it runs.
//!
//! The file is the kernel as one LZ4 block followed by a seal of 32 bytes: [`MAGIC`], the
//! length of the block, the length of the kernel, and the block's XXH64 (seed 0), each
//! little-endian 64-bit. The checksum guards against accidents, not malice.

use core::fmt;
use twox_hash::XxHash64;

/// First eight bytes of a seal.
pub const MAGIC: [u8; 8] = *b"OXBOWLZ4";
/// Length of a seal in bytes.
pub const LEN: usize = 32;
/// Longest kernel that is unpacked.
pub const MAX_UNPACKED: u64 = 256 << 20;

/// Why a seal does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The file ends without a seal: it was cut off or never packed.
    Missing,
    /// The file's length is not the sealed one, or the kernel's is absurd.
    Length,
    /// The content is not what was sealed.
    Checksum,
    /// The content was sealed but cannot be unpacked.
    Content,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SealError::Missing => {
                "truncated, or not packed by oxbow-image (no checksum at its end)"
            }
            SealError::Length => "wrong length",
            SealError::Checksum => "checksum mismatch",
            SealError::Content => "cannot be unpacked",
        })
    }
}

/// The seal of `block`, which unpacks to `unpacked_len` bytes.
pub fn seal(block: &[u8], unpacked_len: u64) -> [u8; LEN] {
    let mut out = [0; LEN];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&(block.len() as u64).to_le_bytes());
    out[16..24].copy_from_slice(&unpacked_len.to_le_bytes());
    out[24..].copy_from_slice(&XxHash64::oneshot(0, block).to_le_bytes());
    out
}

/// A file whose seal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    block: &'a [u8],
    unpacked_len: usize,
}

impl<'a> Sealed<'a> {
    /// Checks the seal of `file`.
    pub fn check(file: &'a [u8]) -> Result<Self, SealError> {
        let (block, tail) = file.split_last_chunk::<LEN>().ok_or(SealError::Missing)?;
        if tail[..8] != MAGIC {
            return Err(SealError::Missing);
        }
        let unpacked_len = u64::from_le_bytes(core::array::from_fn(|i| tail[16 + i]));
        let expected = seal(block, unpacked_len);
        if tail[8..16] != expected[8..16] || unpacked_len > MAX_UNPACKED {
            return Err(SealError::Length);
        }
        if *tail != expected {
            return Err(SealError::Checksum);
        }
        Ok(Sealed {
            block,
            unpacked_len: unpacked_len as usize,
        })
    }

    /// Bytes that [`Sealed::unpack`] needs.
    pub fn unpacked_len(&self) -> usize {
        self.unpacked_len
    }

    /// Unpacks into `out`, which has room for [`Sealed::unpacked_len`] bytes, and returns them.
    pub fn unpack<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], SealError> {
        let out = out.get_mut(..self.unpacked_len).ok_or(SealError::Length)?;
        match lz4_flex::block::decompress_into(self.block, out) {
            Ok(len) if len == self.unpacked_len => Ok(out),
            _ => Err(SealError::Content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, Vec<u8>) {
        let content: Vec<u8> = (0..3000u32).map(|i| (i % 100 * 7) as u8).collect();
        let mut file = lz4_flex::block::compress(&content);
        let seal = seal(&file, content.len() as u64);
        file.extend(seal);
        (content, file)
    }

    #[test]
    fn unpacks_what_was_packed() {
        let (content, file) = sample();
        let sealed = Sealed::check(&file).unwrap();
        let mut out = vec![0; sealed.unpacked_len() + 9];
        assert_eq!(sealed.unpack(&mut out), Ok(&content[..]));
        assert_eq!(sealed.unpack(&mut out[..100]), Err(SealError::Length));
    }

    #[test]
    fn every_single_damage_is_noticed() {
        let (_, file) = sample();
        let mut out = vec![0; 3000];
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0x10;
            let opened = Sealed::check(&bad).and_then(|s| s.unpack(&mut out).map(|_| ()));
            assert!(opened.is_err(), "flip at {at}");
            assert!(Sealed::check(&file[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn sealed_nonsense_is_an_error() {
        let mut out = vec![0; 5000];
        for block in [&[][..], &[0xff; 40], &[0x0f, 0, 0], &[0xf0; 9]] {
            let mut file = block.to_vec();
            file.extend(seal(block, 5000));
            let sealed = Sealed::check(&file).unwrap();
            assert_eq!(sealed.unpack(&mut out), Err(SealError::Content));
        }
        let mut file = vec![0];
        file.extend(seal(&[0], u64::MAX));
        assert_eq!(Sealed::check(&file), Err(SealError::Length));
    }
}
