//! The last instructions of the loader.

use crate::load::Handover;

/// Bytes of [`switch`] that must be mapped at their own address in the new page tables.
const SWITCH_LEN: u64 = 64;

/// The physical range that the new page tables map one-to-one, executable: the code that
/// runs while they are switched. Assumes that this program runs one-to-one itself.
pub fn trampoline() -> core::ops::Range<u64> {
    let start = switch as *const () as u64;
    start..start + SWITCH_LEN
}

/// Enters the kernel with its page tables, its stack and the address of its `BootInfo`.
///
/// # Safety
/// `handover` comes from [`crate::load::Loaded::finish`] with [`trampoline`] in its
/// request; interrupts are off, the program runs one-to-one mapped at privilege level 0, and
/// [`crate::cpu::enable_protection`] was called.
pub unsafe fn enter(handover: &Handover) -> ! {
    // SAFETY: the caller's promises are those of `switch`.
    unsafe {
        switch(
            handover.boot_info,
            handover.page_table,
            handover.stack_top,
            handover.entry,
        )
    }
}

/// Switches page tables and stack and jumps to `entry` with the stack as after a call
/// (System V ABI 3.2.2): a zero return address below a 16-byte boundary.
#[unsafe(naked)]
unsafe extern "sysv64" fn switch(boot_info: u64, page_table: u64, stack_top: u64, entry: u64) -> ! {
    core::arch::naked_asm!(
        "cli",
        "cld",
        "mov cr3, rsi",
        "mov rsp, rdx",
        "xor ebp, ebp",
        "push rbp",
        "jmp rcx",
    )
}
