//! Random numbers that cannot be guessed: a fast-key-erasure generator over keyed BLAKE2b
//! (RFC 7693).
//!
//! Every block is a hash of key and counter; its first half becomes the next key, so that a
//! state seen later tells nothing about numbers given out before. Whatever is hard to predict
//! is stirred in with [`stir`]: the CPU's generator where it has one, time stamps, a
//! device's. May be used from any context; takes a leaf lock.

use blake2::{Blake2b512, Digest};

use crate::arch;
use crate::sync::{IrqLock, Rank};

const KEY_BYTES: usize = 32;
const BLOCK_BYTES: usize = 64;
/// What a block gives out after its half for the key.
const OUT_BYTES: usize = BLOCK_BYTES - KEY_BYTES;

struct Generator {
    key: [u8; KEY_BYTES],
    seeded: bool,
    /// The unused rest of the last block is at its end.
    block: [u8; OUT_BYTES],
    left: usize,
}

static GENERATOR: IrqLock<Generator> = IrqLock::new(
    Rank::Leaf,
    Generator {
        key: [0; KEY_BYTES],
        seeded: false,
        block: [0; OUT_BYTES],
        left: 0,
    },
);

impl Generator {
    /// Makes the next block; `extra` is stirred into the key.
    fn turn(&mut self, extra: &[u8]) {
        let mut hash = Blake2b512::new();
        hash.update(self.key);
        hash.update(arch::tsc().to_le_bytes());
        if let Some(word) = arch::features::hardware_random() {
            hash.update(word.to_le_bytes());
        }
        hash.update(extra);
        let out = hash.finalize();
        self.key.copy_from_slice(&out[..KEY_BYTES]);
        self.block.copy_from_slice(&out[KEY_BYTES..]);
        self.left = OUT_BYTES;
    }

    /// The first numbers need more than one look at the clock.
    fn seed(&mut self) {
        for _ in 0..64 {
            let mut words = [0; 4];
            for word in &mut words {
                *word = arch::features::hardware_random().unwrap_or_else(arch::tsc);
            }
            let words = words.map(u64::to_le_bytes);
            self.turn(words.as_flattened());
        }
        self.seeded = true;
    }

    fn fill(&mut self, out: &mut [u8]) {
        if !self.seeded {
            self.seed();
        }
        let mut done = 0;
        while done < out.len() {
            if self.left == 0 {
                self.turn(&[]);
            }
            let n = self.left.min(out.len() - done);
            let start = OUT_BYTES - self.left;
            let part = &mut self.block[start..start + n];
            out[done..done + n].copy_from_slice(part);
            // What was given out is forgotten.
            part.fill(0);
            self.left -= n;
            done += n;
        }
    }
}

/// Fills `out`. For long requests call in pieces: interrupts are off meanwhile.
pub fn fill(out: &mut [u8]) {
    for piece in out.chunks_mut(256) {
        GENERATOR.lock().fill(piece);
    }
}

/// `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    fill(&mut out);
    out
}

/// A random word.
pub fn word() -> u64 {
    u64::from_le_bytes(bytes())
}

/// Stirs in something that an attacker does not know: a device's random bytes, the moment of
/// an interrupt, what a program wrote to /dev/random.
pub fn stir(input: &[u8]) {
    GENERATOR.lock().turn(input);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_and_cover_all_bits() {
        let mut seen = std::collections::HashSet::new();
        let (mut ones, mut zeros) = (0, 0);
        for _ in 0..1000 {
            let w = word();
            assert!(seen.insert(w));
            ones |= w;
            zeros |= !w;
        }
        assert_eq!((ones, zeros), (u64::MAX, u64::MAX));
        stir(b"something");
        assert!(seen.insert(word()));
    }

    #[test]
    fn what_was_given_out_is_forgotten() {
        let mut g = Generator {
            key: [1; KEY_BYTES],
            seeded: true,
            block: [0; OUT_BYTES],
            left: 0,
        };
        let mut out = [0; 20];
        g.fill(&mut out);
        assert_eq!(g.block[..20], [0; 20]);
        assert_ne!(out, [0; 20]);
    }
}
