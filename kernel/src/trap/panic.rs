//! The end: stop the other CPUs, say what happened, then halt or restart.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use crate::arch::{apic, clock, cpu, cpu_id, early_serial, ipi, irq_save, percpu, reset};
use crate::{log, sched};

const NOBODY: usize = usize::MAX;
/// The CPU that panics.
static PANICKING: AtomicUsize = AtomicUsize::new(NOBODY);
/// `panic=` of the command line: seconds until a restart, 0 to halt for ever, below 0 to
/// restart at once.
static TIMEOUT: AtomicI32 = AtomicI32::new(0);

/// Sets what happens after a panic (`panic=`).
pub fn set_timeout(seconds: i32) {
    TIMEOUT.store(seconds, Ordering::Relaxed);
}

/// Called before the report, with the other CPUs stopped: the console driver's chance to
/// write out what it holds.
static HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Registers what runs before the report: it must not wait for locks.
pub fn set_hook(hook: fn()) {
    HOOK.store(hook as *mut (), Ordering::Release);
}

/// Whether some CPU panics: an NMI then means "stop".
pub fn is_panicking() -> bool {
    PANICKING.load(Ordering::Acquire) != NOBODY
}

/// The panic handler.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = irq_save();
    let has_percpu = percpu::of(0).is_some();
    let me = if has_percpu { cpu_id() } else { 0 };
    match PANICKING.compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(other) => {
            if other == me {
                early_serial::write("panic while panicking\n");
                finish();
            }
            cpu::halt_forever();
        }
    }
    log::enter_panic();
    stop_others(me);
    let hook = HOOK.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if !hook.is_null() {
        // SAFETY: only `set_hook` stores here, and it stores a `fn()`.
        (unsafe { core::mem::transmute::<*mut (), fn()>(hook) })();
    }
    // Whatever took over the console may hold locks of CPUs that are stopped now.
    log::set_sink(early_serial::write);
    log::set_console_level(7);
    emergency!("kernel panic on CPU {me}: {}", info.message());
    if has_percpu && sched::has_current() {
        emergency!("in thread {}", sched::current().name());
    }
    if let Some(at) = info.location() {
        emergency!("at {}:{}:{}", at.file(), at.line(), at.column());
    }
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack)) };
    backtrace(rbp);
    finish()
}

fn stop_others(me: usize) {
    let mut rest = ipi::online() & !(1 << me);
    while rest != 0 {
        apic::send_nmi(rest.trailing_zeros() as usize);
        rest &= rest - 1;
    }
}

/// Logs the return addresses that the frame pointers from `rbp` on lead to, as offsets into
/// the kernel's ELF file.
pub fn backtrace(mut rbp: u64) {
    const LONGEST_FRAME: u64 = 64 * 1024;
    for depth in 0..32 {
        if rbp < 1 << 63 || !rbp.is_multiple_of(8) {
            break;
        }
        // SAFETY: the frame pointer chain of this stack: it starts at the running function's
        // frame and only goes up by less than a stack's length.
        let (next, ret) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
        if ret < oxbow_handover::KERNEL_BASE {
            break;
        }
        emergency!(
            "  {depth:2}: {ret:#x} (kernel+{:#x})",
            ret - oxbow_handover::KERNEL_BASE
        );
        if next <= rbp || next - rbp > LONGEST_FRAME {
            break;
        }
        rbp = next;
    }
}

fn finish() -> ! {
    let seconds = TIMEOUT.load(Ordering::Relaxed);
    if seconds != 0 {
        if seconds > 0 {
            emergency!("restarting in {seconds} s");
            let end = clock::now_ns() + seconds as u64 * 1_000_000_000;
            while clock::now_ns() < end {
                core::hint::spin_loop();
            }
        }
        reset::reset();
    }
    emergency!("halted");
    cpu::halt_forever()
}
