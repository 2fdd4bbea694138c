//! What the CPU can do (CPUID), read once at boot.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

bitflags::bitflags! {
    /// Features the kernel uses when they are there.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u32 {
        /// Pages that cannot be executed.
        const NX = 1 << 0;
        /// Pages of 1 GiB.
        const GIB_PAGES = 1 << 1;
        /// Kernel mode executes no user page.
        const SMEP = 1 << 2;
        /// Kernel mode touches user pages only between `stac` and `clac`.
        const SMAP = 1 << 3;
        /// `sgdt` and its kin are for the kernel only.
        const UMIP = 1 << 4;
        /// Global pages.
        const PGE = 1 << 5;
        /// XSAVE and XCR0.
        const XSAVE = 1 << 6;
        /// XSAVEOPT.
        const XSAVEOPT = 1 << 7;
        /// The local APIC through MSRs.
        const X2APIC = 1 << 8;
        /// The local APIC's timer compares with the TSC.
        const TSC_DEADLINE = 1 << 9;
        /// RDRAND.
        const RDRAND = 1 << 10;
        /// RDSEED.
        const RDSEED = 1 << 11;
        /// A hypervisor is there (leaf 0x4000_0000).
        const HYPERVISOR = 1 << 12;
    }
}

static FEATURES: AtomicU32 = AtomicU32::new(0);
static KNOWN: AtomicBool = AtomicBool::new(false);

/// The boot CPU's features; the others have the same.
#[inline]
pub fn features() -> Features {
    if !KNOWN.load(Ordering::Relaxed) {
        FEATURES.store(detect().bits(), Ordering::Relaxed);
        KNOWN.store(true, Ordering::Relaxed);
    }
    Features::from_bits_truncate(FEATURES.load(Ordering::Relaxed))
}

fn detect() -> Features {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let max = __cpuid(0).eax;
    let one = __cpuid(1);
    let seven = if max >= 7 {
        __cpuid_count(7, 0)
    } else {
        core::arch::x86_64::CpuidResult {
            eax: 0,
            ebx: 0,
            ecx: 0,
            edx: 0,
        }
    };
    let ext_edx = if __cpuid(0x8000_0000).eax >= 0x8000_0001 {
        __cpuid(0x8000_0001).edx
    } else {
        0
    };
    let xsave = one.ecx & 1 << 26 != 0 && max >= 0xd;
    let mut f = Features::empty();
    f.set(Features::NX, ext_edx & 1 << 20 != 0);
    f.set(Features::GIB_PAGES, ext_edx & 1 << 26 != 0);
    f.set(Features::SMEP, seven.ebx & 1 << 7 != 0);
    f.set(Features::SMAP, seven.ebx & 1 << 20 != 0);
    f.set(Features::UMIP, seven.ecx & 1 << 2 != 0);
    f.set(Features::PGE, one.edx & 1 << 13 != 0);
    f.set(Features::XSAVE, xsave);
    f.set(
        Features::XSAVEOPT,
        xsave && __cpuid_count(0xd, 1).eax & 1 != 0,
    );
    f.set(Features::X2APIC, one.ecx & 1 << 21 != 0);
    f.set(Features::TSC_DEADLINE, one.ecx & 1 << 24 != 0);
    f.set(Features::RDRAND, one.ecx & 1 << 30 != 0);
    f.set(Features::RDSEED, seven.ebx & 1 << 18 != 0);
    f.set(Features::HYPERVISOR, one.ecx & 1 << 31 != 0);
    f
}

/// What the kernel cannot do without, as /proc/cpuinfo names it, with its bit in EDX of CPUID
/// leaf 1 (AMD64 makes all of them part of long mode; a hypervisor may still hide them).
const NEEDED: [(&str, u32); 6] = [
    ("fpu", 0),
    ("tsc", 4),
    ("msr", 5),
    ("cmov", 15),
    ("fxsr", 24),
    ("sse2", 26),
];

/// The first thing missing that the kernel cannot do without.
pub fn missing() -> Option<&'static str> {
    use core::arch::x86_64::__cpuid;
    let one = __cpuid(1).edx;
    if let Some((name, _)) = NEEDED.iter().find(|(_, bit)| one & 1 << bit == 0) {
        return Some(name);
    }
    let syscall =
        __cpuid(0x8000_0000).eax >= 0x8000_0001 && __cpuid(0x8000_0001).edx & 1 << 11 != 0;
    (!syscall).then_some("syscall")
}

/// A random number from the CPU; `None` when it has no generator or the generator is dry.
pub fn hardware_random() -> Option<u64> {
    #[cfg(target_os = "none")]
    {
        let f = features();
        let mut value: u64;
        let mut ok: u8;
        for _ in 0..10 {
            if f.contains(Features::RDSEED) {
                // SAFETY: the CPU has the instruction.
                unsafe {
                    core::arch::asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) ok,
                        options(nomem, nostack))
                };
            } else if f.contains(Features::RDRAND) {
                // SAFETY: the CPU has the instruction.
                unsafe {
                    core::arch::asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok,
                        options(nomem, nostack))
                };
            } else {
                return None;
            }
            if ok != 0 {
                return Some(value);
            }
        }
        None
    }
    #[cfg(not(target_os = "none"))]
    None
}
