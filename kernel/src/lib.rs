//! The Oxbow kernel: a monolithic kernel for x86_64 virtual machines that speaks the Linux
//! system-call ABI.
//!
//! # Principles
//!
//! - Every line runs as if another CPU ran it now: each field names the lock that guards it.
//! - A user pointer is an allegation; only [`vm::user`] follows one.
//! - What a program, the network, a disk or a device sends is an error value, never a panic.
//!
//! # Layers
//!
//! A module imports only from its own layer, without cycles, or from a lower one
//! (`oxbow-check layers` enforces it).
//!
//! | layer | modules | rule |
//! | --- | --- | --- |
//! | L0 | [`arch`], [`abi`], [`cmdline`], [`error`], [`log`], [`screen`] | imports nothing above; its assembly reaches `syscall` and `trap` by symbol |
//! | L1 | [`sync`], [`mm`] | never sleeps |
//! | L2 | [`time`], [`sched`], `power`, [`uts`] | threads, run queues, wait queues, sleeping locks; knows no process |
//! | L3 | [`vm`] | address spaces, faults, page cache, user copies; may sleep |
//! | L4 | [`security`], [`file`] | credentials; the `File` trait, fd table, poll/epoll, pipes |
//! | L5 | [`block`], [`vfs`], [`net`] | own the traits that drivers and filesystems implement |
//! | L6 | [`process`] | process, fork, exec, exit/wait, signals, futex, sessions |
//! | L7 | [`tty`] | line discipline, terminals |
//! | L8 | [`drivers`], [`filesystems`] | plug-ins behind lower traits; only `init` names them |
//! | L9 | [`syscall`], [`trap`] | decode, call, encode |
//! | L10 | [`init`] | boot order; the one file that names concrete plug-ins |
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod abi;
pub mod arch;
pub mod cmdline;
pub mod error;
#[macro_use]
pub mod log;
pub mod screen;

pub mod mm;
pub mod sync;

#[cfg(target_os = "none")]
pub mod power;
pub mod sched;
pub mod time;
pub mod uts;

pub mod vm;

pub mod file;
pub mod security;

pub mod block;
pub mod net;
pub mod vfs;

pub mod process;

pub mod tty;

pub mod drivers;
pub mod filesystems;

pub mod syscall;
pub mod trap;

pub mod init;
