//! The one table of system calls. Each row: number, handler, typed arguments.
//!
//! ```text
//! __NR_read "read" = file::read [] (fd: i32, buf: UserAddr, count: usize);
//! __NR_fork "fork" = process::fork [args] ();
//! ```
//! `[args]` passes the whole [`Args`](super::Args) first, for calls that need the trap frame.
//! The dispatcher, the tracer's names and `docs/syscalls.md` come from here.

use core::sync::atomic::{AtomicU64, Ordering};

use super::Row;

macro_rules! table {
    ($($nr:ident $name:literal = $handler:path [$($arg:ident),*] ($($param:ident: $t:ty),*);)*) => {
        /// All calls, in the order written.
        pub static ROWS: &[Row] = &[$(Row {
            nr: crate::abi::$nr as usize,
            name: $name,
            params: stringify!($($param: $t),*),
            call: |args| {
                #[allow(unused_mut, unused_variables, reason = "calls without arguments")]
                let mut n = 0;
                #[allow(unused_assignments, reason = "the last one")]
                { $handler($(table!(@whole args $arg),)* $({
                    let value = <$t as super::FromArg>::from_arg(args.raw(n));
                    n += 1;
                    value
                }),*) }
            },
        }),*];
    };
    (@whole $args:ident args) => { $args };
}

table! {
    // ---- file (descriptors, I/O, polling) ----
    // ---- fs (paths, directories, mounts) ----
    // ---- memory ----
    // ---- process ----
    // ---- signal ----
    // ---- time ----
    // ---- system ----
}

/// Calls above this number do not exist yet in Linux either.
const NR_MAX: usize = 512;

/// Row index by call number, built at compile time; `u16::MAX` for none.
static INDEX: [u16; NR_MAX] = {
    let mut index = [u16::MAX; NR_MAX];
    let mut i = 0;
    while i < ROWS.len() {
        assert!(
            index[ROWS[i].nr] == u16::MAX,
            "a system call stands in the table twice"
        );
        index[ROWS[i].nr] = i as u16;
        i += 1;
    }
    index
};

/// The row of call `nr`.
pub fn find(nr: usize) -> Option<&'static Row> {
    let i = *INDEX.get(nr)?;
    ROWS.get(i as usize)
}

static NOTED: [AtomicU64; NR_MAX / 64] = [const { AtomicU64::new(0) }; NR_MAX / 64];

/// Logs an unknown call once.
pub fn note_unknown(nr: usize) {
    let Some(word) = NOTED.get(nr / 64) else {
        return;
    };
    if word.fetch_or(1 << (nr % 64), Ordering::Relaxed) & (1 << (nr % 64)) == 0 {
        warn!("system call {nr} is not implemented (ENOSYS)");
    }
}
