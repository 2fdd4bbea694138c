//! Entry from user mode and from interrupts, and the way back.
//!
//! Every entry leaves a complete [`TrapFrame`] on the kernel stack and runs with GS at the
//! CPU's block. Every return to user mode passes `oxbow_exit_to_user`, which returns with
//! interrupts off and nothing left to do.
//!
//! NMI, double fault and machine check may come between an entry and its `swapgs`: they look
//! at the GS base itself.
//!
//! `clac` is a three-byte no-op that boot patches where the CPU has SMAP; the section
//! `oxbow_clac` lists the places.

use core::arch::global_asm;

use super::trap_frame::{TrapFrame, USER_CS, USER_SS};

const _: () = assert!(size_of::<TrapFrame>() == 176);
const _: () = assert!(core::mem::offset_of!(TrapFrame, orig_rax) == 120);

/// Bytes between the stubs of two vectors.
const STUB_BYTES: u64 = 16;

global_asm!(
    r#"
    .macro oxbow_save_registers
        push rdi
        push rsi
        push rdx
        push rcx
        push rax
        push r8
        push r9
        push r10
        push r11
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
    .endm
    .macro oxbow_restore_registers
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        pop r11
        pop r10
        pop r9
        pop r8
        pop rax
        pop rcx
        pop rdx
        pop rsi
        pop rdi
    .endm
    .macro oxbow_clac
        992: nop dword ptr [rax]
        .pushsection oxbow_clac, "awR", @progbits
        .balign 8
        .quad 992b
        .popsection
    .endm

    .pushsection .text.oxbow_entry, "ax", @progbits

    // `syscall`: rcx holds the return address, r11 the flags; interrupts are off (FMASK).
    .balign 64
    .globl oxbow_syscall_entry
oxbow_syscall_entry:
    swapgs
    mov gs:[16], rsp
    mov rsp, gs:[8]
    push {user_ss}
    push qword ptr gs:[16]
    push r11
    push {user_cs}
    push rcx
    push 0
    push rax
    oxbow_save_registers
    xor ebp, ebp
    sti
    mov rdi, rsp
    call oxbow_syscall

    // The way out. rsp is at a complete frame for user mode.
    .globl oxbow_return_to_user
oxbow_return_to_user:
    mov rdi, rsp
    call oxbow_exit_to_user
    // `sysret` takes rip from rcx and the flags from r11: right after a system call unless
    // something changed the frame. An address that is not canonical would fault in kernel
    // mode on the user's stack, and RF and TF want iret.
    mov rcx, [rsp + 88]
    cmp rcx, [rsp + 136]
    jne 2f
    mov r11, [rsp + 48]
    cmp r11, [rsp + 152]
    jne 2f
    mov rax, rcx
    shr rax, 47
    jnz 2f
    test r11d, 0x10100
    jnz 2f
    cmp qword ptr [rsp + 144], {user_cs}
    jne 2f
    cmp qword ptr [rsp + 168], {user_ss}
    jne 2f
    oxbow_restore_registers
    mov rsp, [rsp + 40]
    swapgs
    sysretq
2:
    oxbow_restore_registers
    add rsp, 16
    swapgs
    iretq

    // First entry of a program: rdi is at a frame somewhere on this stack.
    .globl oxbow_enter_user
oxbow_enter_user:
    cld
    mov rsi, rdi
    sub rsp, 192
    and rsp, -16
    mov rdi, rsp
    mov ecx, 22
    rep movsq
    xor ebp, ebp
    sti
    jmp oxbow_return_to_user

    // Exceptions that run on the kernel stack.
    .balign 16
    .globl oxbow_exception_entry
oxbow_exception_entry:
    cld
    oxbow_clac
    oxbow_save_registers
    mov rdi, rsp
    test byte ptr [rsp + 144], 3
    jz 3f
    swapgs
    xor ebp, ebp
    call oxbow_exception
    jmp oxbow_return_to_user
3:
    call oxbow_exception
    oxbow_restore_registers
    add rsp, 16
    iretq

    // Devices, timer, IPIs.
    .balign 16
    .globl oxbow_interrupt_entry
oxbow_interrupt_entry:
    cld
    oxbow_clac
    oxbow_save_registers
    mov rdi, rsp
    test byte ptr [rsp + 144], 3
    jz 4f
    swapgs
    xor ebp, ebp
    call oxbow_interrupt
    jmp oxbow_return_to_user
4:
    call oxbow_interrupt
    oxbow_restore_registers
    add rsp, 16
    iretq

    // NMI, double fault, machine check: on stacks of their own, GS unknown.
    .balign 16
    .globl oxbow_paranoid_entry
oxbow_paranoid_entry:
    cld
    oxbow_clac
    oxbow_save_registers
    mov ecx, 0xc0000101
    rdmsr
    xor ebx, ebx
    test edx, edx
    js 5f
    swapgs
    inc ebx
5:
    mov rdi, rsp
    call oxbow_exception
    test ebx, ebx
    jz 6f
    swapgs
6:
    oxbow_restore_registers
    add rsp, 16
    iretq
    .popsection
    "#,
    user_cs = const USER_CS,
    user_ss = const USER_SS,
);

// AT&T syntax: Intel's would take the symbol for a memory operand.
global_asm!(
    r#"
    .pushsection .text.oxbow_stubs, "ax", @progbits
    // One stub of 16 bytes per vector.
    .balign 16
    .globl oxbow_stubs
oxbow_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8)
        pushq $vector
        jmp oxbow_paranoid_entry
    .elseif (vector == 2) || (vector == 18)
        pushq $0
        pushq $vector
        jmp oxbow_paranoid_entry
    .elseif ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
        pushq $vector
        jmp oxbow_exception_entry
    .elseif (vector < 32)
        pushq $0
        pushq $vector
        jmp oxbow_exception_entry
    .else
        pushq $0
        pushq $vector
        jmp oxbow_interrupt_entry
    .endif
    .set vector, vector + 1
    .endr
    .popsection
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    fn oxbow_enter_user(frame: *const TrapFrame) -> !;
    fn oxbow_stubs();
    fn oxbow_syscall_entry();
}

/// Address of a vector's stub.
pub fn stub(vector: u8) -> u64 {
    oxbow_stubs as *const () as usize as u64 + u64::from(vector) * STUB_BYTES
}

/// Address of the entry of `syscall`.
pub fn syscall_entry() -> u64 {
    oxbow_syscall_entry as *const () as usize as u64
}

/// Enters user mode; see [`super::context::enter_user`].
///
/// # Safety
/// `frame` is one for user mode, and nothing on this stack is needed again.
pub unsafe fn enter_user_frame(frame: &TrapFrame) -> ! {
    // SAFETY: the caller's promise.
    unsafe { oxbow_enter_user(frame) }
}

/// Sets up `syscall` and `sysret` on this CPU (Intel SDM 3A, 5.8.8).
///
/// # Safety
/// The GDT is loaded.
pub unsafe fn enable_syscall() {
    use super::regs::{EFER, FMASK, LSTAR, STAR, rdmsr, wrmsr};
    const SCE: u64 = 1;
    // TF, IF, DF, NT, AC.
    const CLEAR: u64 = 1 << 8 | 1 << 9 | 1 << 10 | 1 << 14 | 1 << 18;
    // SAFETY: x86_64 has these registers; the selectors are the GDT's: sysret takes CS from
    // 0x20 + 16 and SS from 0x20 + 8.
    unsafe {
        wrmsr(STAR, 0x23 << 48 | super::trap_frame::KERNEL_CS << 32);
        wrmsr(LSTAR, syscall_entry());
        wrmsr(FMASK, CLEAR);
        wrmsr(EFER, rdmsr(EFER) | SCE);
    }
}

/// The addresses of the three bytes that become [`CLAC`] where the CPU has SMAP.
pub fn clac_sites() -> &'static [u64] {
    unsafe extern "C" {
        static __start_oxbow_clac: [u64; 0];
        static __stop_oxbow_clac: [u64; 0];
    }
    let start: *const u64 = (&raw const __start_oxbow_clac).cast();
    let stop: *const u64 = (&raw const __stop_oxbow_clac).cast();
    // SAFETY: the linker puts these symbols around the section, an array of words.
    unsafe { core::slice::from_raw_parts(start, stop.offset_from(start) as usize) }
}

/// The instruction `clac`.
pub const CLAC: [u8; 3] = [0x0f, 0x01, 0xca];
