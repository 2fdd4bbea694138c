//! Monotonic time from the TSC, and this CPU's one-shot timer (local APIC).

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::cpu::tsc;

/// TSC ticks per second, 0 until calibrated.
static TSC_HZ: AtomicU64 = AtomicU64::new(0);
/// ns = ticks * MULT >> 32.
static MULT: AtomicU64 = AtomicU64::new(0);
/// TSC when time began.
static TSC_BASE: AtomicU64 = AtomicU64::new(0);
/// What runs when a CPU's one-shot fires: `time`'s.
static TIMER_HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

const NS_PER_SEC: u64 = 1_000_000_000;

/// TSC ticks per second; 0 before calibration.
pub fn tsc_hz() -> u64 {
    TSC_HZ.load(Ordering::Relaxed)
}

/// What turns the TSC into monotonic time: ns = (TSC - second) * first >> 32. The first is 0
/// before calibration.
pub fn rate() -> (u64, u64) {
    (
        MULT.load(Ordering::Acquire),
        TSC_BASE.load(Ordering::Relaxed),
    )
}

/// Sets the rate and where time 0 lies. Called once by calibration, before other CPUs run.
pub fn set_rate(hz: u64, tsc_base: u64) {
    TSC_BASE.store(tsc_base, Ordering::Relaxed);
    TSC_HZ.store(hz, Ordering::Relaxed);
    MULT.store(mult(hz), Ordering::Release);
}

fn mult(hz: u64) -> u64 {
    ((u128::from(NS_PER_SEC) << 32) / u128::from(hz.max(1))) as u64
}

fn scale(ticks: u64, mult: u64) -> u64 {
    ((u128::from(ticks) * u128::from(mult)) >> 32) as u64
}

/// Monotonic nanoseconds since the kernel's entry; 0 before calibration.
#[inline]
pub fn now_ns() -> u64 {
    // A CPU whose TSC is some ticks behind the boot CPU's must not see a huge number.
    let ticks = tsc().saturating_sub(TSC_BASE.load(Ordering::Relaxed));
    scale(ticks, MULT.load(Ordering::Relaxed))
}

/// The TSC value at monotonic time `ns`.
pub fn ns_to_tsc(ns: u64) -> u64 {
    let ticks = u128::from(ns) * u128::from(tsc_hz()) / u128::from(NS_PER_SEC);
    TSC_BASE
        .load(Ordering::Relaxed)
        .saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
}

/// Registers what runs, in interrupt context, when a CPU's one-shot fires.
pub fn set_timer_handler(handler: fn()) {
    TIMER_HANDLER.store(handler as *mut (), Ordering::Release);
}

/// Runs the registered handler: the timer vector's.
pub fn timer_interrupt() {
    let handler = TIMER_HANDLER.load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: only `set_timer_handler` stores here, and it stores a `fn()`.
        (unsafe { core::mem::transmute::<*mut (), fn()>(handler) })();
    }
}

/// Arms this CPU's one-shot for `deadline` (monotonic ns), replacing an earlier one, or
/// disarms it. A deadline in the past fires at once. It may fire early (a deadline beyond
/// the counter's range): the handler looks at the time and arms it again. Interrupts are
/// off or preemption is.
#[inline]
pub fn set_oneshot(deadline: Option<u64>) {
    #[cfg(target_os = "none")]
    super::apic::set_timer(deadline);
    #[cfg(not(target_os = "none"))]
    let _ = deadline;
}

/// Busy-waits. For hardware that wants short pauses; never for longer than microseconds.
pub fn spin_ns(ns: u64) {
    let end = now_ns().saturating_add(ns);
    while now_ns() < end {
        super::cpu::relax();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_holds_for_years() {
        for hz in [1_000_000_000u64, 2_599_998_123, 4_700_000_000] {
            let m = mult(hz);
            let year = 365 * 86_400;
            let ns = scale(hz * year, m);
            let error = ns.abs_diff(year * NS_PER_SEC);
            // Within 1 ppm after a year.
            assert!(error < year * 1000, "{hz}: {error}");
        }
    }
}
