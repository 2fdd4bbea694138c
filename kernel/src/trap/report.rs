//! Reports of exceptions that end the kernel.

use crate::arch::{TrapFrame, regs};
use crate::mm::stack::{self, Place};

const NAMES: [&str; 22] = [
    "divide error",
    "debug exception",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack-segment fault",
    "general protection fault",
    "page fault",
    "exception 15",
    "x87 floating-point error",
    "alignment check",
    "machine check",
    "SIMD floating-point error",
    "virtualization exception",
    "control protection exception",
];

/// An exception in kernel mode that nothing can be done about.
pub fn fatal(frame: &TrapFrame, vector: u64) -> ! {
    registers(frame);
    let name = NAMES.get(vector as usize).copied().unwrap_or("exception");
    if vector == 14 {
        let address = regs::cr2();
        let what = match (frame.error_code & 16 != 0, frame.error_code & 2 != 0) {
            (true, _) => "execute",
            (_, true) => "write",
            _ => "read",
        };
        panic!("{name}: cannot {what} {address:#x} at {:#x}", frame.rip);
    }
    panic!(
        "{name} (vector {vector}, error code {:#x}) at {:#x}",
        frame.error_code, frame.rip
    );
}

/// A double fault: as a rule the stack ran into its guard.
pub fn double_fault(frame: &TrapFrame) -> ! {
    registers(frame);
    let at = [regs::cr2(), frame.rsp];
    if at.iter().any(|&a| stack::place(a) == Some(Place::Guard)) {
        panic!("kernel stack overflow at {:#x}", frame.rip);
    }
    panic!("double fault at {:#x}", frame.rip);
}

fn registers(f: &TrapFrame) {
    crate::log::enter_panic();
    emergency!(
        "rip {:#x} (kernel+{:#x}) rsp {:#x} rflags {:#x} cs {:#x} error {:#x}",
        f.rip,
        f.rip.wrapping_sub(oxbow_handover::KERNEL_BASE),
        f.rsp,
        f.rflags,
        f.cs,
        f.error_code
    );
    emergency!(
        "rax {:#x} rbx {:#x} rcx {:#x} rdx {:#x}",
        f.rax,
        f.rbx,
        f.rcx,
        f.rdx
    );
    emergency!(
        "rsi {:#x} rdi {:#x} rbp {:#x} r8 {:#x}",
        f.rsi,
        f.rdi,
        f.rbp,
        f.r8
    );
    emergency!(
        "r9 {:#x} r10 {:#x} r11 {:#x} r12 {:#x}",
        f.r9,
        f.r10,
        f.r11,
        f.r12
    );
    emergency!(
        "r13 {:#x} r14 {:#x} r15 {:#x} cr2 {:#x} cr3 {:#x}",
        f.r13,
        f.r14,
        f.r15,
        regs::cr2(),
        regs::cr3()
    );
    if !f.from_user() {
        super::panic::backtrace(f.rbp);
    }
}
