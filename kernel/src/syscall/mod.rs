//! System calls: decode, call, encode. A handler is named in [`table`], takes typed arguments
//! and returns `Result<isize>`; what it does is the business of the layers below.

mod args;
mod cred;
mod file;
mod fs;
mod futex;
mod memory;
mod net;
mod poll;
mod prctl;
mod process;
mod remote;
mod sched;
mod signal;
mod system;
pub mod table;
mod time;
mod timer;

pub use args::{Args, FromArg, SyscallResult};

use crate::arch::TrapFrame;
use crate::error::Errno;

/// A row of the table: what the dispatcher, a tracer and the generated document read.
pub struct Row {
    /// Number (x86_64).
    pub nr: usize,
    /// Name (man 2 syscalls).
    pub name: &'static str,
    /// Argument names and types, as written in the table.
    pub params: &'static str,
    /// Decodes and calls.
    pub call: fn(&Args) -> SyscallResult,
}

/// Entered from `arch::entry` with interrupts enabled, on the thread's kernel stack.
/// Leaves the result in `frame.rax`; signals and restarts are dealt with after it, on the way
/// out to user mode.
pub fn dispatch(frame: &mut TrapFrame) {
    let args = Args::new(frame);
    let result = match table::find(args.nr()) {
        Some(row) => (row.call)(&args),
        None => {
            table::note_unknown(args.nr());
            Err(Errno::ENOSYS)
        }
    };
    args.frame().rax = match result {
        Ok(value) => value as u64,
        Err(errno) => errno.as_return() as u64,
    };
}
