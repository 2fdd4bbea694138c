//! Stream buffers (`smoltcp::storage`) against a simple model, with and without memory.

use alloc::vec::Vec;

use smoltcp::storage::StreamBuffer;

use crate::mm::pieces::without_blocks_above;

/// A sequence of numbers that a seed decides (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }
}

/// Byte number `i` of the stream.
fn byte(i: u64) -> u8 {
    (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn bytes(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(byte).collect()
}

/// Largest blocks that are to be had: all; pages; small ones; none that a buffer takes.
const MEMORY: [usize; 4] = [usize::MAX, 4096, 2048, 1000];

#[test]
fn a_stream_buffer_is_a_queue_whatever_memory_there_is() {
    for seed in 1..120u64 {
        let mut dice = Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) | 1);
        let limit = [700, 3000, 4096, 9000, 40_000, 500_000][dice.roll(6)];
        let mut buffer = StreamBuffer::new(limit);
        // Bytes taken out, bytes held, and which bytes behind came early.
        let (mut out, mut len) = (0u64, 0usize);
        let mut early: Vec<(usize, usize)> = Vec::new();
        let mut memory = usize::MAX;
        for _ in 0..400 {
            if dice.roll(10) == 0 {
                memory = MEMORY[dice.roll(4)];
            }
            let most = [10, 2000, 70_000][dice.roll(3)];
            let size = 1 + dice.roll(most);
            match dice.roll(6) {
                // Bytes in order; not with early ones, as for a socket that sends.
                0 if early.is_empty() => {
                    let data = bytes(out + len as u64, size);
                    let room = buffer.room();
                    let n = without_blocks_above(memory, || buffer.enqueue_slice(&data));
                    assert!(n >= room.min(size) && n <= size.min(limit - len));
                    if memory == usize::MAX {
                        assert_eq!(n, size.min(limit - len));
                    }
                    len += n;
                }
                // Bytes that come early, or fill the gap.
                1 | 2 => {
                    let offset = [0, dice.roll(3000), dice.roll(30_000)][dice.roll(3)];
                    let total = len + offset + size;
                    let done = without_blocks_above(memory, || buffer.reserve(total));
                    if memory == usize::MAX {
                        assert_eq!(done, total <= limit);
                    }
                    if !done {
                        continue;
                    }
                    let data = bytes(out + (len + offset) as u64, size);
                    assert_eq!(buffer.write_unallocated(offset, &data), size);
                    early.push((offset, offset + size));
                    early.sort_unstable();
                    let mut whole = 0;
                    for &(from, to) in &early {
                        if from <= whole {
                            whole = whole.max(to);
                        }
                    }
                    buffer.enqueue_unallocated(whole);
                    len += whole;
                    early = early
                        .iter()
                        .filter(|e| e.1 > whole)
                        .map(|e| (e.0 - whole, e.1 - whole))
                        .collect();
                }
                3 => {
                    let mut data = alloc::vec![0; size];
                    let n = buffer.dequeue_slice(&mut data);
                    assert_eq!(n, size.min(len));
                    assert!(data[..n] == bytes(out, n));
                    (out, len) = (out + n as u64, len - n);
                }
                4 => {
                    let offset = dice.roll(len + 10);
                    let mut data = alloc::vec![0; size];
                    let n = buffer.read_allocated(offset, &mut data);
                    assert_eq!(n, size.min(len.saturating_sub(offset)));
                    assert!(data[..n] == bytes(out + offset as u64, n));
                    let (first, rest) = buffer.view(offset, size);
                    let mut seen = first.to_vec();
                    if let Some(rest) = rest {
                        let at = seen.len();
                        seen.resize(at + rest.len(), 0);
                        rest.copy_to(&mut seen[at..]);
                    }
                    assert!(seen == data[..n]);
                }
                _ => {
                    if early.is_empty() && dice.roll(3) == 0 {
                        buffer.trim(dice.roll(2) == 0);
                    }
                    let (n, ()) = buffer.dequeue_many_with(|data| {
                        let n = size.min(data.len());
                        assert!(data[..n] == bytes(out, n));
                        (n, ())
                    });
                    (out, len) = (out + n as u64, len - n);
                    without_blocks_above(memory, || buffer.replenish());
                }
            }
            assert_eq!(buffer.len(), len);
            assert!(buffer.window() <= limit - len && buffer.room() <= limit - len);
        }
    }
}

/// What a buffer that was short of memory promises it keeps, and it promises no less later.
#[test]
fn a_promise_is_kept_without_memory() {
    for seed in 1..200u64 {
        let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1);
        let limit = [2500, 100_000, 500_000][dice.roll(3)];
        let mut buffer = StreamBuffer::new(limit);
        let first = dice.roll(60_000);
        buffer.enqueue_slice(&bytes(0, first));
        let mut len = buffer.len();
        let has_all = without_blocks_above(1000, || buffer.reserve(limit));
        assert!(!has_all || len + 4096 > limit);
        let mut edge = len + buffer.window();
        let mut taken_in = 0;
        while taken_in < limit - 2000 && buffer.window() < limit - buffer.len() {
            let memory = MEMORY[1 + dice.roll(3)];
            without_blocks_above(memory, || buffer.replenish());
            assert!(len + buffer.window() >= edge, "a promise was taken back");
            edge = len + buffer.window();
            let n = dice.roll(buffer.window() + 1);
            let kept = without_blocks_above(1000, || buffer.reserve(buffer.len() + n));
            assert!(kept, "a promise was not kept");
            assert_eq!(buffer.write_unallocated(0, &bytes(0, n)), n);
            buffer.enqueue_unallocated(n);
            (len, taken_in) = (len + n, taken_in + n);
            buffer.dequeue_allocated(dice.roll(buffer.len() + 1));
            if buffer.is_hungry() && buffer.is_empty() {
                without_blocks_above(4096, || buffer.replenish());
                assert!(!buffer.is_hungry());
            }
        }
    }
}

/// Idle connections keep little, and what was full for a while gives back.
#[test]
fn memory_comes_and_goes_with_the_bytes() {
    let mut buffer = StreamBuffer::new(512 * 1024);
    buffer.enqueue_slice(b"hello");
    let mut data = [0; 5];
    assert_eq!(buffer.dequeue_slice(&mut data), 5);
    for _ in 0..10_000 {
        assert_eq!(buffer.enqueue_slice(&[7; 300]), 300);
        buffer.dequeue_allocated(300);
    }
    assert!(buffer.room() <= 2048);
    let mut whole = alloc::vec![1; 512 * 1024];
    assert_eq!(buffer.enqueue_slice(&whole), whole.len());
    assert_eq!(buffer.enqueue_slice(b"x"), 0);
    assert_eq!(buffer.dequeue_slice(&mut whole), whole.len());
    assert!(buffer.room() <= 64 * 1024, "{} kept", buffer.room());
    buffer.trim(false);
    assert_eq!(buffer.room(), 0);
}
