//! Random numbers for programs and for the kernel: a ChaCha20 generator that is fed with
//! entropy from wherever there is some.
//!
//! The state is one 256-bit key. Each request takes the first block of the key's stream as the
//! new key (so what was given out cannot be computed from a later state) and a second key
//! for the request's own bytes, which are made without the lock. Entropy is mixed in by
//! hashing (BLAKE2s) the old key with it.
//!
//! Sources: the CPU's generator and time stamps on first use; drivers by [`add`]. The generator
//! counts as seeded when a source that is trusted to be random has given [`SEED_BYTES`], or,
//! on a machine without one, when time-stamp jitter has been collected.

use blake2::{Blake2s256, Digest};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::sched::{WaitError, WaitQueue};
use crate::sync::{IrqLock, Rank};

/// Trusted bytes that make the generator seeded.
pub const SEED_BYTES: u32 = 32;

/// Guarded key of the generator.
static KEY: IrqLock<[u8; 32]> = IrqLock::new(Rank::Leaf, [0; 32]);
static TRUSTED_BYTES: AtomicU32 = AtomicU32::new(0);
static SEEDED: AtomicBool = AtomicBool::new(false);
/// Who waits for the seed (getrandom without GRND_NONBLOCK).
static WAITING: WaitQueue = WaitQueue::new();

/// How much of some input counts as random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// All of it.
    Full,
    /// None: it is mixed in, and does no harm (programs that write to /dev/random).
    None,
}

fn mix(key: &mut [u8; 32], input: &[u8]) {
    let mut hash = Blake2s256::new();
    hash.update(*key);
    hash.update(input);
    key.copy_from_slice(&hash.finalize());
}

/// Mixes entropy in. From any context.
pub fn add(input: &[u8], trust: Trust) {
    {
        let mut key = KEY.lock();
        mix(&mut key, input);
    }
    if trust == Trust::Full {
        let n = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let before = TRUSTED_BYTES.fetch_add(n.min(1 << 20), Ordering::AcqRel);
        if before.saturating_add(n) >= SEED_BYTES {
            set_seeded();
        }
    }
}

fn set_seeded() {
    if !SEEDED.swap(true, Ordering::AcqRel) {
        WAITING.wake_all();
    }
}

/// Whether enough entropy came for keys.
pub fn is_seeded() -> bool {
    ensure_init();
    SEEDED.load(Ordering::Acquire)
}

/// Sleeps until the generator is seeded.
pub fn wait_seeded() -> Result<(), WaitError> {
    if is_seeded() {
        return Ok(());
    }
    WAITING.wait_interruptible(None, || is_seeded().then_some(()))
}

/// The generator's next state and a key for one request.
fn step(key: &mut [u8; 32]) -> [u8; 32] {
    let mut block = [0u8; 64];
    ChaCha20::new((&*key).into(), &[0; 12].into()).apply_keystream(&mut block);
    let mut own = [0; 32];
    key.copy_from_slice(&block[..32]);
    own.copy_from_slice(&block[32..]);
    own
}

/// A stream of random bytes for one request: fill as many buffers as it takes.
pub struct Stream {
    cipher: ChaCha20,
}

impl Stream {
    /// A fresh stream.
    pub fn new() -> Stream {
        ensure_init();
        let own = step(&mut KEY.lock());
        Stream {
            cipher: ChaCha20::new(&own.into(), &[0; 12].into()),
        }
    }
    /// Fills `out`. A stream has 256 GiB: start a new one before.
    pub fn fill(&mut self, out: &mut [u8]) {
        out.fill(0);
        self.cipher.apply_keystream(out);
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

/// Fills `out` with random bytes, seeded or not ([`is_seeded`] tells). From any context.
pub fn fill(out: &mut [u8]) {
    Stream::new().fill(out);
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

/// Stirs in something that may be hard to guess, and does no harm if it is not: the moment of
/// an interrupt, what a program wrote to /dev/random.
pub fn stir(input: &[u8]) {
    add(input, Trust::None);
}

/// Bytes of jitter hashed at boot on a machine without a generator of its own: each time
/// stamp difference is credited with far less than a bit.
const JITTER_ROUNDS: u32 = 1024;

/// Seeds the generator, on first use, from what the machine has.
fn ensure_init() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.load(Ordering::Acquire) {
        // Twice, by two CPUs at once, does no harm; numbers before it is done would.
        init();
        DONE.store(true, Ordering::Release);
    }
}

fn init() {
    let mut seed = [0u8; 64];
    let mut has_hardware = true;
    for chunk in seed.chunks_exact_mut(8) {
        match crate::arch::features::hardware_random() {
            Some(word) => chunk.copy_from_slice(&word.to_le_bytes()),
            None => has_hardware = false,
        }
    }
    add(&crate::arch::tsc().to_le_bytes(), Trust::None);
    if has_hardware {
        add(&seed, Trust::Full);
        return;
    }
    jitter();
    info!("random: no hardware generator; seeded from time-stamp jitter");
    set_seeded();
}

/// Hashes the jitter of memory accesses as the time-stamp counter sees it.
fn jitter() {
    let mut area = [0u8; 512];
    let mut hash = Blake2s256::new();
    let mut last = crate::arch::tsc();
    for round in 0..JITTER_ROUNDS {
        for i in 0..16u32 {
            let at = (last as u32).wrapping_mul(31).wrapping_add(i * 97 + round) as usize % 512;
            // SAFETY: `at` is inside the area; volatile so that the access happens.
            unsafe {
                let p = area.as_mut_ptr().add(at);
                p.write_volatile(p.read_volatile().wrapping_add(last as u8));
            }
        }
        let now = crate::arch::tsc();
        hash.update(now.wrapping_sub(last).to_le_bytes());
        last = now;
    }
    hash.update(area);
    add(&hash.finalize(), Trust::None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_differs_and_state_moves_on() {
        add(b"test", Trust::None);
        let (a, b) = (word(), word());
        assert_ne!(a, b);
        let mut key = [5; 32];
        let first = step(&mut key);
        assert_ne!(key, [5; 32]);
        assert_ne!(first, key);
        // The same state gives the same stream: nothing but the key matters.
        let mut again = [5; 32];
        assert_eq!(step(&mut again), first);
    }

    #[test]
    fn step_is_chacha20() {
        // RFC 8439, A.1, test vector 1: the first block of the zero key and nonce.
        let mut key = [0; 32];
        let own = step(&mut key);
        assert_eq!(key[..8], [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
        assert_eq!(own[28..], [0xb2, 0xee, 0x65, 0x86]);
    }

    #[test]
    fn bits_are_balanced() {
        let mut bytes = vec![0u8; 1 << 16];
        fill(&mut bytes);
        let ones: u32 = bytes.iter().map(|b| b.count_ones()).sum();
        assert!(ones.abs_diff(1 << 18) < 4000, "{ones}");
    }

    #[test]
    fn mixing_changes_everything() {
        let (mut a, mut b) = ([1; 32], [1; 32]);
        mix(&mut a, b"x");
        mix(&mut b, b"y");
        assert_ne!(a, b);
        assert!(a.iter().zip(&b).filter(|(x, y)| x == y).count() < 8);
    }
}
