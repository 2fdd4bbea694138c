//! The register file of an interrupted or calling context, as the entry code saves it.

/// Registers in the order that entry code pushes them (lowest address first).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "register names")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// System call number at entry (for restarts), or the vector of an exception/interrupt.
    pub orig_rax: u64,
    /// CPU error code of an exception, else 0.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl TrapFrame {
    /// Whether the frame was saved on entry from user mode.
    pub fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// Code selector of 64-bit user mode; the numbers are Linux's, programs see them in
/// signal contexts.
pub const USER_CS: u64 = 0x33;
/// Data and stack selector of user mode.
pub const USER_SS: u64 = 0x2b;
/// Code selector of kernel mode.
pub const KERNEL_CS: u64 = 0x10;
/// Data and stack selector of kernel mode.
pub const KERNEL_SS: u64 = 0x18;

/// RFLAGS.IF.
pub const RFLAGS_IF: u64 = 1 << 9;

impl TrapFrame {
    /// The frame of a program at its first instruction: all other registers 0.
    pub fn new_user(rip: u64, rsp: u64) -> TrapFrame {
        TrapFrame {
            orig_rax: u64::MAX,
            rip,
            rsp,
            cs: USER_CS,
            ss: USER_SS,
            rflags: RFLAGS_IF | 2,
            ..TrapFrame::default()
        }
    }
}
