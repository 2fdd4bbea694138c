//! The loader's UEFI front: `\EFI\BOOT\BOOTX64.EFI`.
//!
//! Reads the files with the firmware's own file system, keeps the graphics mode that the
//! firmware set, and leaves boot services before it jumps.
#![cfg_attr(target_os = "uefi", no_std, no_main)]

#[cfg(target_os = "uefi")]
mod boot;
#[cfg(target_os = "uefi")]
mod files;
#[cfg(target_os = "uefi")]
mod firmware;

#[cfg(not(target_os = "uefi"))]
fn main() {
    eprintln!("build this for x86_64-unknown-uefi");
    std::process::exit(1);
}
