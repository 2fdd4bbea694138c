//! Switching between threads, and into user mode.

use super::trap_frame::TrapFrame;

/// The saved stack pointer of a thread that does not run: its callee-saved registers and the
/// address to go on at lie on its kernel stack.
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    rsp: u64,
}

impl Context {
    /// A context for a thread that runs now; filled when it is switched out.
    pub const fn empty() -> Context {
        Context { rsp: 0 }
    }

    /// A context that calls `entry(arg)` on the empty stack below `stack_top` (16-byte
    /// aligned) when it is first switched to, with interrupts off.
    ///
    /// # Safety
    /// The stack below `stack_top` is mapped, unused, and stays the thread's own.
    pub unsafe fn prepare(stack_top: u64, entry: extern "C" fn(usize) -> !, arg: usize) -> Context {
        let frame: [u64; 8] = [
            0,                                  // r15
            0,                                  // r14
            arg as u64,                         // r13
            entry as *const () as usize as u64, // r12
            0,                                  // rbx
            0,                                  // rbp: ends backtraces
            thread_start_address(),
            0, // return address of nobody
        ];
        let rsp = stack_top - 64;
        // SAFETY: the caller gives the 64 bytes below `stack_top`.
        unsafe { (rsp as *mut [u64; 8]).write(frame) };
        Context { rsp }
    }
}

#[cfg(target_os = "none")]
fn thread_start_address() -> u64 {
    thread_start as *const () as usize as u64
}
#[cfg(not(target_os = "none"))]
fn thread_start_address() -> u64 {
    0
}

/// First code of a thread: `prepare` left the entry in r12 and its argument in r13.
#[cfg(target_os = "none")]
#[unsafe(naked)]
unsafe extern "C" fn thread_start() -> ! {
    core::arch::naked_asm!("mov rdi, r13", "xor ebp, ebp", "jmp r12")
}

/// Saves the running thread in `prev` and goes on with `next`. Returns when something
/// switches back to `prev`, maybe on another CPU.
///
/// # Safety
/// Interrupts are off. `next` was prepared or saved by an earlier switch, and runs nowhere.
/// The FPU, FS base, kernel stack pointer and page tables are the caller's to switch.
#[cfg(target_os = "none")]
#[unsafe(naked)]
pub unsafe extern "C" fn switch(prev: *mut Context, next: *const Context) {
    core::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, [rsi]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// There is nothing to switch on the host.
///
/// # Safety
/// Never called.
#[cfg(not(target_os = "none"))]
pub unsafe extern "C" fn switch(_prev: *mut Context, _next: *const Context) {
    unreachable!("no context switch on the host");
}

/// Makes `top` (16-byte aligned) the stack that system calls, exceptions and interrupts from
/// user mode start on. Interrupts are off or no user thread runs on this CPU.
#[inline]
pub fn set_kernel_stack(top: u64) {
    #[cfg(target_os = "none")]
    {
        super::percpu::this().kernel_stack_top.set(top);
        super::descriptor::set_rsp0(top);
    }
    #[cfg(not(target_os = "none"))]
    let _ = top;
}

/// Sets the FS base. `base` is canonical: below `mm::addr::USER_END`.
#[inline]
pub fn set_fs_base(base: u64) {
    #[cfg(target_os = "none")]
    // SAFETY: kernel code does not use FS; a canonical value cannot fault (caller).
    unsafe {
        super::regs::wrmsr(super::regs::FS_BASE, base)
    };
    #[cfg(not(target_os = "none"))]
    let _ = base;
}

/// Sets the GS base that user mode will see. `base` is below `mm::addr::USER_END`.
#[inline]
pub fn set_user_gs_base(base: u64) {
    #[cfg(target_os = "none")]
    // SAFETY: `swapgs` brings it in on the way to user mode only; canonical (caller).
    unsafe {
        super::regs::wrmsr(super::regs::KERNEL_GS_BASE, base)
    };
    #[cfg(not(target_os = "none"))]
    let _ = base;
}

/// Enters user mode with `frame`'s registers: a new program, or a child after fork. Passes
/// the exit path (`oxbow_exit_to_user`) first, as every return to user mode does.
///
/// `frame` holds user selectors and user addresses: [`TrapFrame::new_user`] makes such a one.
pub fn enter_user(frame: &TrapFrame) -> ! {
    assert!(frame.from_user());
    #[cfg(target_os = "none")]
    // SAFETY: the frame is for user mode; nothing on this stack is needed again.
    unsafe {
        super::entry::enter_user_frame(frame)
    }
    #[cfg(not(target_os = "none"))]
    unreachable!("no user mode on the host")
}
