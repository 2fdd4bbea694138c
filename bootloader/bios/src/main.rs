//! The loader's BIOS front: boot sector and second stage in one flat image.
//!
//! `boot.s` is what the BIOS starts; it loads the rest, enters long mode and calls
//! [`bios_main`]. BIOS services are then called from Rust through [`real_mode::call`]. The
//! graphics mode is set last, so that every error still finds the text mode.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod disk;
#[cfg(target_os = "none")]
mod firmware;
#[cfg(target_os = "none")]
mod layout;
#[cfg(target_os = "none")]
mod real_mode;
#[cfg(target_os = "none")]
mod stage2;
#[cfg(target_os = "none")]
mod video;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("build this for x86_64-unknown-none");
    std::process::exit(1);
}
