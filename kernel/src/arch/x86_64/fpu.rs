//! FPU, SSE and AVX registers of user threads. The kernel itself never touches them (it is
//! compiled soft-float), so only the context switch saves and restores.
//!
//! The area has the XSAVE standard format where the CPU has XSAVE, else FXSAVE's (Intel SDM
//! volume 1, 13.4; 10.5.1).

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(target_os = "none")]
use super::features::{Features, features};

/// Bytes of the legacy area that FXSAVE writes.
pub const FXSAVE_BYTES: usize = 512;
/// Bytes of the XSAVE header behind it.
const HEADER_BYTES: usize = 64;
/// Initial x87 control word: all exceptions masked, 64-bit precision (System V ABI 3.4.1).
const FCW: u16 = 0x37f;
/// Initial MXCSR: all exceptions masked.
const MXCSR: u32 = 0x1f80;
/// Bits of MXCSR that every CPU has when FXSAVE's mask field is 0.
const MXCSR_DEFAULT_MASK: u32 = 0xffbf;

/// Components saved: XCR0, 0 without XSAVE. Written by [`init_cpu`] on the boot CPU.
static XCR0: AtomicU64 = AtomicU64::new(0);
/// Bytes of an area.
static AREA_BYTES: AtomicU32 = AtomicU32::new(FXSAVE_BYTES as u32);
/// Bits of MXCSR this CPU allows.
static MXCSR_MASK: AtomicU32 = AtomicU32::new(MXCSR_DEFAULT_MASK);

/// Bytes of the initial state: the legacy area and the header.
const INITIAL_BYTES: usize = FXSAVE_BYTES + HEADER_BYTES;

/// The state a program starts with (System V ABI, AMD64, 3.4.1), for XRSTOR as for FXRSTOR. Its
/// XSTATE_BV is 0: every component is in its initial state, and MXCSR is read all the same.
static INITIAL: Initial = Initial({
    let mut bytes = [0; INITIAL_BYTES];
    [bytes[0], bytes[1]] = FCW.to_le_bytes();
    [bytes[24], bytes[25], bytes[26], bytes[27]] = MXCSR.to_le_bytes();
    bytes
});

#[repr(C, align(64))]
struct Initial([u8; INITIAL_BYTES]);

/// Gives this CPU the registers that a program starts with (execve, a signal handler). Caller
/// is a user thread: they are its own.
pub fn load_initial() {
    #[cfg(target_os = "none")]
    // SAFETY: the area is aligned, as large as the format needs, and nothing in it faults.
    unsafe {
        load(INITIAL.0.as_ptr());
    }
}

/// Loads this CPU's registers.
///
/// # Safety
/// `area` is one of the machine's format, aligned to 64 bytes; nothing in it faults.
#[cfg(target_os = "none")]
#[inline]
unsafe fn load(area: *const u8) {
    // SAFETY: the caller's; the CPU has what is used.
    unsafe {
        if features().contains(Features::XSAVE) {
            core::arch::asm!("xrstor64 [{}]", in(reg) area, in("eax") u32::MAX,
                in("edx") u32::MAX, options(nostack, readonly));
        } else {
            core::arch::asm!("fxrstor64 [{}]", in(reg) area, options(nostack, readonly));
        }
    }
}

/// Bits of MXCSR that a program may set on this machine.
pub fn mxcsr_mask() -> u32 {
    MXCSR_MASK.load(Ordering::Relaxed)
}

/// Bytes of an area on this machine, 512 (FXSAVE) or more (XSAVE).
pub fn area_bytes() -> usize {
    AREA_BYTES.load(Ordering::Relaxed) as usize
}

/// XSAVE components in use (XCR0), 0 when the area is FXSAVE's.
pub fn xfeatures() -> u64 {
    XCR0.load(Ordering::Relaxed)
}

/// Turns the FPU on for this CPU, with every component that the kernel knows to be safe to
/// give to programs: x87, SSE, AVX, AVX-512.
#[cfg(target_os = "none")]
pub fn init_cpu() {
    use super::regs;
    use core::arch::x86_64::__cpuid_count;
    const CR0_MP: u64 = 1 << 1;
    const CR0_EM: u64 = 1 << 2;
    const CR0_TS: u64 = 1 << 3;
    const CR0_NE: u64 = 1 << 5;
    const CR4_OSFXSR: u64 = 1 << 9;
    const CR4_OSXMMEXCPT: u64 = 1 << 10;
    const CR4_OSXSAVE: u64 = 1 << 18;
    let xsave = features().contains(Features::XSAVE);
    // SAFETY: these bits concern FPU instructions only, which the kernel does not use;
    // OSXSAVE only where CPUID has XSAVE.
    unsafe {
        regs::set_cr0(regs::cr0() & !(CR0_EM | CR0_TS) | CR0_MP | CR0_NE);
        let mut cr4 = regs::cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT;
        if xsave {
            cr4 |= CR4_OSXSAVE;
        }
        regs::set_cr4(cr4);
    }
    if xsave {
        let leaf = __cpuid_count(0xd, 0);
        let supported = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
        // x87, SSE, AVX; AVX-512's three go together and need AVX.
        let mut xcr0 = supported & 0b111;
        if supported & 0xe4 == 0xe4 {
            xcr0 |= 0xe0;
        }
        // SAFETY: all bits are supported, x87 is among them, AVX-512 comes with AVX.
        unsafe {
            core::arch::asm!("xsetbv", in("ecx") 0, in("eax") xcr0 as u32, in("edx") 0,
                options(nomem, nostack))
        };
        // EBX is the size for the components enabled now (SDM 2A, CPUID leaf 0Dh).
        let bytes = __cpuid_count(0xd, 0).ebx;
        AREA_BYTES.store(
            bytes.max((FXSAVE_BYTES + HEADER_BYTES) as u32),
            Ordering::Relaxed,
        );
        XCR0.store(xcr0, Ordering::Relaxed);
    }
    let mut area = Aligned([0; FXSAVE_BYTES]);
    // SAFETY: the area is 512 bytes, aligned; fninit and fxsave touch FPU state only.
    unsafe { core::arch::asm!("fninit", "fxsave64 [{}]", in(reg) &mut area) };
    let mask = u32::from_le_bytes([area.0[28], area.0[29], area.0[30], area.0[31]]);
    if mask != 0 {
        MXCSR_MASK.store(mask, Ordering::Relaxed);
    }
}

#[cfg(target_os = "none")]
#[repr(C, align(64))]
struct Aligned([u8; FXSAVE_BYTES]);

/// No memory for an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// One thread's saved registers.
#[derive(Debug)]
pub struct FpuState {
    area: NonNull<u8>,
    layout: Layout,
}

// SAFETY: owns its memory.
unsafe impl Send for FpuState {}
// SAFETY: `&FpuState` only reads it.
unsafe impl Sync for FpuState {}

impl FpuState {
    /// The state a program starts with (System V ABI, AMD64, 3.4.1).
    pub fn initial() -> Result<FpuState, NoMemory> {
        let layout = Layout::from_size_align(area_bytes(), 64).map_err(|_| NoMemory)?;
        // SAFETY: the size is not 0.
        let area = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(NoMemory)?;
        let mut state = FpuState { area, layout };
        let initial = &INITIAL.0[..layout.size().min(INITIAL_BYTES)];
        state.bytes_mut()[..initial.len()].copy_from_slice(initial);
        Ok(state)
    }

    /// Makes this a copy of `other` (fork).
    pub fn copy_from(&mut self, other: &FpuState) {
        self.bytes_mut().copy_from_slice(other.bytes());
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the area is as long as its layout and initialised.
        unsafe { core::slice::from_raw_parts(self.area.as_ptr(), self.layout.size()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.area.as_ptr(), self.layout.size()) }
    }

    /// Saves this CPU's registers here.
    #[inline]
    pub fn save(&mut self) {
        #[cfg(target_os = "none")]
        {
            let area = self.area.as_ptr();
            let f = features();
            // SAFETY: the area is aligned and as large as the enabled components need.
            unsafe {
                if f.contains(Features::XSAVEOPT) {
                    core::arch::asm!("xsaveopt64 [{}]", in(reg) area, in("eax") u32::MAX,
                        in("edx") u32::MAX, options(nostack));
                } else if f.contains(Features::XSAVE) {
                    core::arch::asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX,
                        in("edx") u32::MAX, options(nostack));
                } else {
                    core::arch::asm!("fxsave64 [{}]", in(reg) area, options(nostack));
                }
            }
        }
    }

    /// Loads these registers on this CPU.
    #[inline]
    pub fn restore(&self) {
        #[cfg(target_os = "none")]
        {
            // SAFETY: the area is aligned and as large as the enabled components need; its
            // content is the initial state or was saved by the CPU, so nothing in it faults.
            unsafe {
                load(self.area.as_ptr());
            }
        }
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.area.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_state_masks_all_exceptions() {
        let state = FpuState::initial().unwrap();
        assert_eq!(state.bytes()[..2], FCW.to_le_bytes());
        assert_eq!(state.bytes()[24..28], MXCSR.to_le_bytes());
    }
}
