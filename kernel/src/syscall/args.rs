//! Arguments: from six registers to typed values.

use core::cell::UnsafeCell;

use crate::arch::TrapFrame;
use crate::error::Result;
use crate::mm::UserAddr;
use crate::vm::UserPtr;

/// What a handler returns: the value for `rax`, or the error.
pub type SyscallResult = Result<isize>;

/// The calling context: registers as the program left them.
pub struct Args<'a> {
    frame: UnsafeCell<&'a mut TrapFrame>,
}

impl<'a> Args<'a> {
    /// The arguments in `frame`.
    pub fn new(frame: &'a mut TrapFrame) -> Self {
        Self {
            frame: UnsafeCell::new(frame),
        }
    }
    /// Call number.
    pub fn nr(&self) -> usize {
        self.frame().orig_rax as usize
    }
    /// The whole frame, for calls that change it (execve, rt_sigreturn, clone).
    #[allow(
        clippy::mut_from_ref,
        reason = "one handler runs at a time, see SAFETY"
    )]
    pub fn frame(&self) -> &mut TrapFrame {
        // SAFETY: `Args` is not Sync and lives on one thread's stack; each use ends before
        // the next begins (dispatch and handlers keep no reference).
        unsafe { &mut *self.frame.get() }
    }
    /// Register argument `n`, 0 to 5: rdi, rsi, rdx, r10, r8, r9.
    pub fn raw(&self, n: usize) -> u64 {
        let f = self.frame();
        match n {
            0 => f.rdi,
            1 => f.rsi,
            2 => f.rdx,
            3 => f.r10,
            4 => f.r8,
            _ => f.r9,
        }
    }
}

/// A type that one argument register decodes to.
pub trait FromArg {
    /// From the register's value; upper bits are dropped as the C ABI does.
    fn from_arg(raw: u64) -> Self;
}

macro_rules! from_arg {
    ($($t:ty),*) => { $(impl FromArg for $t { fn from_arg(raw: u64) -> Self { raw as $t } })* };
}
from_arg!(u64, i64, u32, i32, u16, u8, usize, isize);

impl FromArg for UserAddr {
    fn from_arg(raw: u64) -> Self {
        UserAddr(raw)
    }
}
impl<T: crate::vm::Pod> FromArg for UserPtr<T> {
    fn from_arg(raw: u64) -> Self {
        UserPtr::new(UserAddr(raw))
    }
}
