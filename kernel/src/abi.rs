//! The Linux user ABI: structures, flags and numbers, from the kernel's own exported headers.
//!
//! Everything comes from the `linux-raw-sys` bindings (asm-generic and x86_64 uapi headers);
//! constants there are mostly `u32`.

pub use linux_raw_sys::{auxvec, elf_uapi as elf, errno, general::*, ioctl, net, prctl, system};
