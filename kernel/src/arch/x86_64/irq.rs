//! The interrupt flag of this CPU.

/// Whether interrupts were enabled, as [`irq_save`] found it: RFLAGS as they were.
#[derive(Clone, Copy, Debug)]
#[must_use = "give it back to irq_restore"]
pub struct IrqState(u64);

/// RFLAGS.IF.
const IF: u64 = 1 << 9;

/// Disables interrupts on this CPU and tells whether they were enabled.
#[inline]
pub fn irq_save() -> IrqState {
    #[cfg(target_os = "none")]
    {
        let state = IrqState(flags());
        irq_disable();
        state
    }
    #[cfg(not(target_os = "none"))]
    IrqState(0)
}

/// Puts the interrupt flag back to what [`irq_save`] found.
#[inline]
pub fn irq_restore(state: IrqState) {
    if state.0 & IF != 0 {
        irq_enable();
    }
}

/// Disables interrupts on this CPU, however they were.
#[inline]
pub fn irq_disable() {
    #[cfg(target_os = "none")]
    // SAFETY: kernel mode; the caller enables them again, or returns to where they are on.
    unsafe {
        core::arch::asm!("cli", options(nostack))
    };
}

/// Enables interrupts on this CPU.
#[inline]
pub fn irq_enable() {
    #[cfg(target_os = "none")]
    // SAFETY: kernel mode; handlers are installed before the first call (boot order).
    unsafe {
        core::arch::asm!("sti", options(nostack))
    };
}

/// Whether interrupts are enabled on this CPU.
#[inline]
pub fn irqs_enabled() -> bool {
    #[cfg(target_os = "none")]
    {
        flags() & IF != 0
    }
    #[cfg(not(target_os = "none"))]
    false
}

#[cfg(target_os = "none")]
#[inline]
fn flags() -> u64 {
    let flags: u64;
    // SAFETY: reads RFLAGS through the stack.
    unsafe { core::arch::asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    flags
}
