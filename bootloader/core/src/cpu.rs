//! What the loader asks of the processor and sets for the kernel.

use core::arch::asm;
use core::arch::x86_64::__cpuid;

const EFER: u32 = 0xc000_0080;
const EFER_NXE: u64 = 1 << 11;
const CR0_WP: u64 = 1 << 16;
const CR4_LA57: u64 = 1 << 12;

/// Features that shape the page tables (Intel SDM 3A, 4.1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Pages can be marked not executable.
    pub nx: bool,
    /// Pages of 1 GiB.
    pub gib_pages: bool,
}

impl Features {
    /// Reads the features of the running processor.
    pub fn detect() -> Self {
        if __cpuid(0x8000_0000).eax < 0x8000_0001 {
            return Features::default();
        }
        let edx = __cpuid(0x8000_0001).edx;
        Features {
            nx: edx & 1 << 20 != 0,
            gib_pages: edx & 1 << 26 != 0,
        }
    }
}

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: every x86_64 processor has the instruction, and nothing disables it here.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Whether the firmware left five-level paging on.
///
/// # Safety
/// Runs at privilege level 0.
pub unsafe fn five_level_paging() -> bool {
    let cr4: u64;
    // SAFETY: reads a control register, which level 0 may.
    unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags)) };
    cr4 & CR4_LA57 != 0
}

/// Turns on CR0.WP and, where there is one, EFER.NXE.
///
/// # Safety
/// Runs at privilege level 0, and the code that runs on does not write to pages that its
/// page tables call read-only.
pub unsafe fn enable_protection(features: Features) {
    // SAFETY: level 0 may write these registers; EFER.NXE is set only where CPUID has it.
    unsafe {
        if features.nx {
            let (low, high): (u32, u32);
            asm!("rdmsr", in("ecx") EFER, out("eax") low, out("edx") high, options(nomem, nostack));
            let value = (u64::from(high) << 32 | u64::from(low)) | EFER_NXE;
            asm!("wrmsr", in("ecx") EFER, in("eax") value as u32, in("edx") (value >> 32) as u32,
                options(nostack));
        }
        asm!("mov {t}, cr0", "or {t}, {wp}", "mov cr0, {t}", t = out(reg) _, wp = in(reg) CR0_WP,
            options(nostack));
    }
}

/// Stops this processor for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: stopping with interrupts off touches no memory.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
