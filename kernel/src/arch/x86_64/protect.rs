//! The CPU's own protection: no execution of data, no stray use of user memory in kernel
//! mode, no peeking at descriptor tables.

use super::features::{Features, features};
use super::regs;
use super::user_copy;

const CR0_WP: u64 = 1 << 16;
const CR4_TSD: u64 = 1 << 2;
const CR4_PGE: u64 = 1 << 7;
const CR4_UMIP: u64 = 1 << 11;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_NXE: u64 = 1 << 11;

/// Turns on what this CPU has.
///
/// # Safety
/// No user page is mapped, and no kernel page that is written is read-only;
/// [`patch_clac`] ran before.
pub unsafe fn init_cpu() {
    let f = features();
    let mut cr4 = regs::cr4() & !(CR4_TSD | CR4_FSGSBASE);
    for (feature, bit) in [
        (Features::PGE, CR4_PGE),
        (Features::UMIP, CR4_UMIP),
        (Features::SMEP, CR4_SMEP),
        (Features::SMAP, CR4_SMAP),
    ] {
        if f.contains(feature) {
            cr4 |= bit;
        }
    }
    // SAFETY: the CPU has each bit; the kernel obeys what they forbid (caller).
    unsafe {
        if f.contains(Features::NX) {
            regs::wrmsr(regs::EFER, regs::rdmsr(regs::EFER) | EFER_NXE);
        }
        regs::set_cr0(regs::cr0() | CR0_WP);
        regs::set_cr4(cr4);
    }
}

/// Writes `clac` into the entry code where the CPU has SMAP, and tells the user copies.
/// `writable` maps an address in the kernel's text to one where it can be written.
///
/// # Safety
/// Boot CPU only, before interrupts are on and before [`init_cpu`]; `writable` leads to the
/// same bytes.
pub unsafe fn patch_clac(writable: impl Fn(u64) -> *mut u8) {
    if !features().contains(Features::SMAP) {
        return;
    }
    for &site in super::entry::clac_sites() {
        // SAFETY: the site is three bytes of no-op in the entry code, which nothing runs now.
        unsafe {
            writable(site)
                .cast::<[u8; 3]>()
                .write_unaligned(super::entry::CLAC)
        };
    }
    // Serialises, so that the CPU fetches the new bytes.
    core::arch::x86_64::__cpuid(0);
    user_copy::set_smap(true);
}
