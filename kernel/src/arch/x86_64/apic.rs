//! The local APIC: end of interrupt, IPIs, the per-CPU timer (Intel SDM 3A, chapter 11).

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::features::{Features, features};
use super::regs::{self, rdmsr, wrmsr};
use super::{clock, interrupts, percpu};

const ID: u32 = 0x02;
const TPR: u32 = 0x08;
const EOI: u32 = 0x0b;
const SVR: u32 = 0x0f;
const ESR: u32 = 0x28;
const ICR_LOW: u32 = 0x30;
const ICR_HIGH: u32 = 0x31;
const LVT_TIMER: u32 = 0x32;
const LVT_LINT0: u32 = 0x35;
const LVT_LINT1: u32 = 0x36;
const LVT_ERROR: u32 = 0x37;
const TIMER_INITIAL: u32 = 0x38;
const TIMER_CURRENT: u32 = 0x39;
const TIMER_DIVIDE: u32 = 0x3e;

const MASKED: u32 = 1 << 16;
const TIMER_TSC_DEADLINE: u32 = 2 << 17;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const ICR_BUSY: u32 = 1 << 12;

static X2APIC: AtomicBool = AtomicBool::new(false);
/// Direct-map address of the registers in xAPIC mode.
static BASE: AtomicU64 = AtomicU64::new(0);
/// Timer ticks per second with divisor 1, 0 with TSC deadlines.
static TIMER_HZ: AtomicU64 = AtomicU64::new(0);

fn read(register: u32) -> u32 {
    // SAFETY: in x2APIC mode the MSRs exist, else BASE is the mapped register page.
    unsafe {
        if X2APIC.load(Ordering::Relaxed) {
            rdmsr(0x800 + register) as u32
        } else {
            let at = BASE.load(Ordering::Relaxed) + u64::from(register) * 16;
            (at as *const u32).read_volatile()
        }
    }
}

fn write(register: u32, value: u32) {
    // SAFETY: as in `read`; callers write what the SDM allows.
    unsafe {
        if X2APIC.load(Ordering::Relaxed) {
            wrmsr(0x800 + register, u64::from(value));
        } else {
            let at = BASE.load(Ordering::Relaxed) + u64::from(register) * 16;
            (at as *mut u32).write_volatile(value);
        }
    }
}

/// Turns this CPU's local APIC on. `map` gives the virtual address of the register page.
/// Returns the APIC id.
pub fn init_cpu() -> u32 {
    const ENABLE: u64 = 1 << 11;
    const ENABLE_X2: u64 = 1 << 10;
    // SAFETY: x86_64 CPUs have a local APIC; the address in the register stays.
    unsafe {
        let mut base = rdmsr(regs::APIC_BASE) | ENABLE;
        if features().contains(Features::X2APIC) {
            base |= ENABLE_X2;
            X2APIC.store(true, Ordering::Relaxed);
        } else if BASE.load(Ordering::Relaxed) == 0 {
            let phys = base & 0x000f_ffff_ffff_f000;
            BASE.store(oxbow_handover::DIRECT_MAP_BASE + phys, Ordering::Relaxed);
        }
        wrmsr(regs::APIC_BASE, base);
    }
    write(TPR, 0);
    write(LVT_TIMER, MASKED);
    write(LVT_LINT0, MASKED);
    write(LVT_LINT1, DELIVER_NMI);
    write(LVT_ERROR, MASKED);
    write(SVR, 1 << 8 | u32::from(interrupts::SPURIOUS));
    write(ESR, 0);
    end_of_interrupt();
    id()
}

/// This CPU's APIC id.
pub fn id() -> u32 {
    let id = read(ID);
    if X2APIC.load(Ordering::Relaxed) {
        id
    } else {
        id >> 24
    }
}

/// Tells the APIC that the interrupt in service is done.
#[inline]
pub fn end_of_interrupt() {
    write(EOI, 0);
}

fn icr(apic_id: u32, low: u32) {
    let irq = super::irq_save();
    if X2APIC.load(Ordering::Relaxed) {
        // The write must not pass earlier stores that the target will read (SDM 11.12.3).
        // SAFETY: fences have no other effect; the MSR exists in x2APIC mode.
        unsafe {
            core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
            wrmsr(0x800 + ICR_LOW, u64::from(apic_id) << 32 | u64::from(low));
        }
    } else {
        while read(ICR_LOW) & ICR_BUSY != 0 {
            core::hint::spin_loop();
        }
        write(ICR_HIGH, apic_id << 24);
        write(ICR_LOW, low);
    }
    super::irq_restore(irq);
}

/// Raises `vector` on CPU `cpu`.
pub fn send_ipi(cpu: usize, vector: u8) {
    if let Some(block) = percpu::of(cpu) {
        icr(block.apic_id, ASSERT | u32::from(vector));
    }
}

/// Raises an NMI on CPU `cpu`.
pub fn send_nmi(cpu: usize) {
    if let Some(block) = percpu::of(cpu) {
        icr(block.apic_id, ASSERT | DELIVER_NMI);
    }
}

/// Resets the CPU with this APIC id into waiting for a start-up IPI.
pub fn send_init(apic_id: u32) {
    icr(apic_id, ASSERT | DELIVER_INIT);
}

/// Starts the CPU with this APIC id in real mode at `page` * 4096.
pub fn send_startup(apic_id: u32, page: u8) {
    icr(apic_id, ASSERT | DELIVER_STARTUP | u32::from(page));
}

/// Sets the timer's free-running countdown going, for calibration.
pub fn start_countdown() {
    write(TIMER_DIVIDE, 0b1011);
    write(LVT_TIMER, MASKED);
    write(TIMER_INITIAL, u32::MAX);
}

/// Ticks since [`start_countdown`].
pub fn countdown_ticks() -> u32 {
    u32::MAX - read(TIMER_CURRENT)
}

/// The rate that calibration found; not needed with TSC deadlines.
pub fn set_timer_hz(hz: u64) {
    TIMER_HZ.store(hz, Ordering::Relaxed);
}

/// Timer ticks per second, 0 when the timer compares with the TSC.
pub fn timer_hz() -> u64 {
    TIMER_HZ.load(Ordering::Relaxed)
}

/// Readies this CPU's timer as a one-shot, disarmed.
pub fn init_timer() {
    let vector = u32::from(interrupts::TIMER);
    if features().contains(Features::TSC_DEADLINE) {
        write(LVT_TIMER, TIMER_TSC_DEADLINE | vector);
        // Orders the switch of mode before the first deadline (SDM 3A, 11.5.4.1).
        // SAFETY: a fence has no other effect.
        unsafe { core::arch::asm!("mfence", options(nostack, preserves_flags)) };
    } else {
        write(TIMER_DIVIDE, 0b1011);
        write(LVT_TIMER, vector);
        write(TIMER_INITIAL, 0);
    }
}

/// Arms this CPU's timer for `deadline` (monotonic ns), or disarms it.
pub fn set_timer(deadline: Option<u64>) {
    let irq = super::irq_save();
    if features().contains(Features::TSC_DEADLINE) {
        let tsc = deadline.map_or(0, |ns| clock::ns_to_tsc(ns).max(1));
        // SAFETY: the CPU has the register.
        unsafe { wrmsr(regs::TSC_DEADLINE, tsc) };
    } else {
        let ticks = deadline.map_or(0, |ns| {
            let wait = u128::from(ns.saturating_sub(clock::now_ns()));
            let ticks = (wait * u128::from(timer_hz())).div_ceil(1_000_000_000);
            u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
        });
        write(TIMER_INITIAL, ticks);
    }
    super::irq_restore(irq);
}
