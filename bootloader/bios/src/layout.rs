//! Where things are below 1 MiB while the loader runs.
//!
//! | address | what |
//! | --- | --- |
//! | 0x500 | a word for the A20 test |
//! | 0x1000 | [`REGISTERS`], [`PACKET`] and other small things the BIOS reads and writes |
//! | ..0x7c00 | real-mode stack |
//! | 0x7c00 | boot sector, second stage, its variables (at most to 0x20000) |
//! | 0x20000 | [`BOUNCE`], 64 KiB: what the disk is read through |
//! | ..0x50000 | long-mode stack, 64 KiB |
//! | 0x50000 | page tables, 24 KiB |

/// Registers of a BIOS call, [`crate::real_mode::Registers`].
pub const REGISTERS: usize = 0x1000;
/// Disk address packet of int 13h.
pub const PACKET: usize = 0x1040;
/// Buffer for answers of the BIOS, [`ANSWER_LEN`] bytes.
pub const ANSWER: usize = 0x1100;
/// Length of [`ANSWER`].
pub const ANSWER_LEN: usize = 512;
/// Buffer that the BIOS reads the disk into.
pub const BOUNCE: usize = 0x2_0000;
/// Length of [`BOUNCE`].
pub const BOUNCE_LEN: usize = 0x1_0000;
/// Top of the long-mode stack.
pub const STACK_TOP: usize = 0x5_0000;
/// The loader's own page tables.
pub const TABLES: usize = 0x5_0000;
