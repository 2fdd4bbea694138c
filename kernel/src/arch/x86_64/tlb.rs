//! Translation look-aside buffers: this CPU's, and those of others by interrupt.
//!
//! A shootdown returns when every CPU asked has flushed. A CPU that waits for anything with
//! interrupts off (a spin lock, its own shootdown) answers the requests of others from
//! [`super::cpu::relax`], so that two waiting CPUs never wait for each other.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{CpuMask, MAX_CPUS, cpu_id};

/// Ranges of more pages than this flush the whole TLB.
const MAX_SINGLE_FLUSHES: u64 = 32;

/// What CPU n wants flushed; valid while `waiting` is not 0.
struct Request {
    start: AtomicU64,
    end: AtomicU64,
    /// CPUs that have not flushed yet.
    waiting: AtomicU64,
}

static REQUESTS: [Request; MAX_CPUS] = [const {
    Request {
        start: AtomicU64::new(0),
        end: AtomicU64::new(0),
        waiting: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// For each CPU, the CPUs whose request it has to answer.
static INCOMING: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Forgets this CPU's translation of the page at `va`, global or not.
#[inline]
pub fn flush_page(va: u64) {
    #[cfg(target_os = "none")]
    // SAFETY: invlpg only forgets.
    unsafe {
        core::arch::asm!("invlpg [{}]", in(reg) va, options(nostack, preserves_flags))
    };
    #[cfg(not(target_os = "none"))]
    let _ = va;
}

/// Forgets all of this CPU's translations, those of global pages excepted.
#[inline]
pub fn flush_all() {
    #[cfg(target_os = "none")]
    // SAFETY: the same page tables stay loaded.
    unsafe {
        super::regs::set_cr3(super::regs::cr3())
    };
}

/// Forgets all of this CPU's translations.
pub fn flush_global() {
    #[cfg(target_os = "none")]
    {
        const PGE: u64 = 1 << 7;
        let irq = super::irq_save();
        let cr4 = super::regs::cr4();
        if cr4 & PGE != 0 {
            // SAFETY: clearing and setting PGE flushes; everything else stays.
            unsafe {
                super::regs::set_cr4(cr4 & !PGE);
                super::regs::set_cr4(cr4);
            }
        } else {
            flush_all();
        }
        super::irq_restore(irq);
    }
}

/// Forgets this CPU's translations of the pages of `start..end`.
pub fn flush_range(start: u64, end: u64) {
    let pages = end.saturating_sub(start).div_ceil(4096);
    if pages <= MAX_SINGLE_FLUSHES {
        let mut va = start & !4095;
        while va < end {
            flush_page(va);
            va += 4096;
        }
    } else if start >> 63 != 0 {
        flush_global();
    } else {
        flush_all();
    }
}

/// Makes every running CPU of `mask`, this one included if it is in it, forget its
/// translations of the pages of `start..end`, and returns when they did. The page-table
/// entries were changed before the call.
///
/// May be called with interrupts off and with spin locks held (whoever spins for them answers
/// meanwhile), but not from an interrupt handler.
pub fn shootdown(mask: CpuMask, start: u64, end: u64) {
    let irq = super::irq_save();
    let cpu = cpu_id();
    let me: CpuMask = 1 << cpu;
    let others = mask & super::ipi::online() & !me;
    if others != 0 {
        let request = &REQUESTS[cpu];
        request.start.store(start, Ordering::Relaxed);
        request.end.store(end, Ordering::Relaxed);
        request.waiting.store(others, Ordering::Release);
        let mut rest = others;
        while rest != 0 {
            let target = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            // A CPU that has not yet taken an earlier request's interrupt sees this one too.
            if INCOMING[target].fetch_or(me, Ordering::AcqRel) == 0 {
                super::ipi::send(target, super::ipi::Ipi::Shootdown);
            }
        }
    }
    if mask & me != 0 {
        flush_range(start, end);
    }
    if others != 0 {
        while REQUESTS[cpu].waiting.load(Ordering::Acquire) != 0 {
            super::cpu::relax();
        }
    }
    super::irq_restore(irq);
}

/// Answers what other CPUs asked of this one. Any context.
#[inline]
pub fn answer() {
    let irq = super::irq_save();
    let cpu = cpu_id();
    if INCOMING[cpu].load(Ordering::Relaxed) != 0 {
        answer_slow(cpu);
    }
    super::irq_restore(irq);
}

#[cold]
fn answer_slow(cpu: usize) {
    let me: CpuMask = 1 << cpu;
    let mut from = INCOMING[cpu].swap(0, Ordering::AcqRel);
    while from != 0 {
        let asker = from.trailing_zeros() as usize;
        from &= from - 1;
        let request = &REQUESTS[asker];
        flush_range(
            request.start.load(Ordering::Relaxed),
            request.end.load(Ordering::Relaxed),
        );
        request.waiting.fetch_and(!me, Ordering::AcqRel);
    }
}
