//! The profiler: a timer per CPU notes what it interrupted, with the callers on the kernel's stack.
//!
//! /proc/profile writes [`set_rate`] and reads [`samples`]. While the rate is 0, as after boot,
//! no timer is armed and no memory held. What runs with interrupts off shows up where it
//! turns them on again.
//!
//! A buffer is guarded by its own lock, taken in interrupt context.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Errno, Result};
use crate::sync::{IrqLock, PerCpu, Rank};
use crate::{arch::MAX_CPUS, time::NS_PER_SEC};

/// Most samples a second and CPU.
pub const MAX_RATE: u64 = 10_000;

/// Callers that a sample has at most, the interrupted place included.
const MAX_DEPTH: usize = 32;

/// Words a CPU's buffer has: 1 MiB, about a minute of idling at 100 samples a second.
const BUFFER_WORDS: usize = 128 * 1024;

/// What a CPU noted: for each sample a word with the number of addresses, and those, the
/// interrupted place first.
struct Buffer {
    words: Vec<u64>,
    /// Samples that found no room.
    nr_lost: u64,
}

static BUFFERS: PerCpu<IrqLock<Buffer>> = PerCpu::new(
    [const {
        IrqLock::new(
            Rank::Timer,
            Buffer {
                words: Vec::new(),
                nr_lost: 0,
            },
        )
    }; MAX_CPUS],
);

/// Time between two samples of a CPU; 0 while there are none.
static PERIOD_NS: AtomicU64 = AtomicU64::new(0);

/// The samples of one CPU.
pub struct Samples {
    /// The CPU.
    pub cpu: usize,
    /// As in its buffer.
    words: Vec<u64>,
    /// Samples that found no room.
    pub nr_lost: u64,
}

impl Samples {
    /// The addresses of each sample, the interrupted place first.
    pub fn iter(&self) -> impl Iterator<Item = &[u64]> {
        let mut rest = self.words.as_slice();
        core::iter::from_fn(move || {
            let (&n, tail) = rest.split_first()?;
            let (sample, tail) = tail.split_at_checked(usize::try_from(n).ok()?)?;
            rest = tail;
            Some(sample)
        })
    }
}

/// What was noted since the last [`set_rate`]. ENOMEM.
pub fn samples() -> Result<Vec<Samples>> {
    let mut all = Vec::new();
    for (cpu, buffer) in BUFFERS.iter().enumerate() {
        let mut words = Vec::new();
        // The allocator's lock ranks above, but what it does under memory pressure takes time.
        if buffer.lock().words.capacity() == 0 {
            continue;
        }
        words
            .try_reserve_exact(BUFFER_WORDS)
            .map_err(|_| Errno::ENOMEM)?;
        let buffer = buffer.lock();
        let n = buffer.words.len().min(words.capacity());
        words.extend_from_slice(&buffer.words[..n]);
        let nr_lost = buffer.nr_lost;
        drop(buffer);
        all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        all.push(Samples {
            cpu,
            words,
            nr_lost,
        });
    }
    Ok(all)
}

/// Forgets what was noted and takes `rate` samples a second on every CPU from now on. With 0
/// it only stops, and a second time it also forgets. EINVAL for a rate above [`MAX_RATE`], ENOMEM.
pub fn set_rate(rate: u64) -> Result<()> {
    if rate > MAX_RATE {
        return Err(Errno::EINVAL);
    }
    let before = PERIOD_NS.swap(0, Ordering::Relaxed);
    if rate == 0 && before != 0 {
        return Ok(());
    }
    #[cfg(target_os = "none")]
    let online = crate::arch::ipi::online();
    #[cfg(not(target_os = "none"))]
    let online = 1u64;
    for (cpu, buffer) in BUFFERS.iter().enumerate() {
        let mut words = Vec::new();
        if rate != 0 && cpu < 64 && online & 1 << cpu != 0 {
            words
                .try_reserve_exact(BUFFER_WORDS)
                .map_err(|_| Errno::ENOMEM)?;
        }
        let new = Buffer { words, nr_lost: 0 };
        let old = core::mem::replace(&mut *buffer.lock(), new);
        drop(old);
    }
    if let Some(period) = NS_PER_SEC.checked_div(rate) {
        PERIOD_NS.store(period, Ordering::Relaxed);
        #[cfg(target_os = "none")]
        sampling::start();
    }
    Ok(())
}

impl Buffer {
    /// Notes a sample; room was reserved.
    #[cfg_attr(
        not(any(target_os = "none", test)),
        allow(dead_code, reason = "interrupts are for the bare target only")
    )]
    fn note(&mut self, sample: &[u64]) {
        if self.words.capacity() - self.words.len() <= sample.len() {
            self.nr_lost += 1;
            return;
        }
        self.words.push(sample.len() as u64);
        self.words.extend_from_slice(sample);
    }
}

#[cfg(target_os = "none")]
mod sampling {
    use super::super::{current, has_current};
    use super::{BUFFERS, MAX_DEPTH, Ordering, PERIOD_NS, PerCpu};
    use crate::arch::{MAX_CPUS, TrapFrame, cpu_id, ipi, percpu};
    use crate::time::{StaticTimer, TimerCallback, now_ns};

    struct Sampler;
    static SAMPLER: Sampler = Sampler;
    static TIMERS: PerCpu<StaticTimer> =
        PerCpu::new([const { StaticTimer::new(&SAMPLER) }; MAX_CPUS]);

    impl TimerCallback for Sampler {
        fn expired(&self, now: u64) {
            let period = PERIOD_NS.load(Ordering::Relaxed);
            if period != 0 {
                note();
                arm(now + period);
            }
        }
    }

    /// Arms this CPU's timer. Interrupts are off.
    fn arm(deadline: u64) {
        if let Some(timer) = TIMERS.of(cpu_id()) {
            timer.arm(deadline);
        }
    }

    /// Starts every CPU's timer.
    pub fn start() {
        let period = PERIOD_NS.load(Ordering::Relaxed) as usize;
        ipi::call(u64::MAX, |period| arm(now_ns() + period as u64), period);
    }

    /// Notes what the running interrupt interrupted.
    fn note() {
        let mut sample = [0; MAX_DEPTH];
        let depth = percpu::interrupted(|frame| walk(frame, &mut sample)).unwrap_or(0);
        if let Some(buffer) = BUFFERS.of(cpu_id()) {
            buffer.lock().note(&sample[..depth]);
        }
    }

    /// Puts the interrupted place and its callers into `sample`; returns how many.
    fn walk(frame: &TrapFrame, sample: &mut [u64; MAX_DEPTH]) -> usize {
        sample[0] = frame.rip;
        let mut depth = 1;
        if !frame.from_user() {
            // Callers by the chain of frame pointers, which stays on this thread's stack:
            // between what the interrupt saved there and its top. An idle CPU's stack
            // has no known top: its place says all.
            let mut low = core::ptr::from_ref(frame) as u64;
            let top = if has_current() {
                current().stack_top
            } else {
                0
            };
            let mut rbp = frame.rbp;
            while depth < MAX_DEPTH
                && rbp > low
                && rbp.is_multiple_of(8)
                && rbp <= top.saturating_sub(16)
            {
                // SAFETY: between a live frame of this stack and its top, so on the stack.
                let (next, caller) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
                if caller < oxbow_handover::KERNEL_BASE {
                    break;
                }
                sample[depth] = caller;
                depth += 1;
                low = rbp;
                rbp = next;
            }
        }
        depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn samples_come_out_as_they_went_in_until_there_is_no_room() {
        let mut buffer = Buffer {
            words: Vec::with_capacity(7),
            nr_lost: 0,
        };
        buffer.note(&[1, 2, 3]);
        buffer.note(&[4]);
        buffer.note(&[5]);
        assert_eq!(buffer.nr_lost, 1);
        let samples = Samples {
            cpu: 0,
            words: buffer.words,
            nr_lost: 1,
        };
        let all: Vec<Vec<u64>> = samples.iter().map(<[u64]>::to_vec).collect();
        assert_eq!(all, vec![vec![1, 2, 3], vec![4]]);
    }

    #[test]
    fn rates_have_a_limit_and_memory_goes_with_the_second_stop() {
        assert_eq!(set_rate(MAX_RATE + 1), Err(Errno::EINVAL));
        set_rate(100).unwrap();
        set_rate(0).unwrap();
        assert_eq!(samples().unwrap().len(), 1);
        set_rate(0).unwrap();
        assert!(samples().unwrap().is_empty());
    }
}
