//! Boots in the kernel's place, checks what the loader promises (docs/boot.md), prints what it
//! found on the serial port, and ends QEMU through `isa-debug-exit`: status 33 when every
//! promise was kept, 35 otherwise. `tests/boot.rs` runs it on many machines.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod check;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("build this for x86_64-unknown-none");
    std::process::exit(1);
}
