//! FPU registers saved to a program's memory and loaded from it, for signal frames.
//!
//! As in [`user_copy`](super::user_copy), each routine touches user memory only inside a range
//! of instructions that [`recovery`](super::recovery) knows. XSAVE and XRSTOR start again after a page fault that
//! was satisfied (Intel SDM 1, 13.7 and 13.8), so a fault may sleep: the registers are the
//! thread's, and the context switch keeps them. What a program wrote may also be no image
//! that the CPU takes: then the load raises a general-protection exception
//! ([`refused`](super::recovery::refused)).
//!
//! XSAVE and never XSAVEOPT: that one leaves out what it believes to be in the area already.

#[cfg(target_os = "none")]
use super::features::{Features, features};

#[cfg(target_os = "none")]
pub(super) mod routines {
    use crate::arch::user_copy::SMAP;

    core::arch::global_asm!(
        ".pushsection .text.oxbow_user_fpu,\"ax\",@progbits",
        // (rdi: area, rsi: six words for the bytes that XSAVE leaves to software, rdx: bytes of
        // the area, ecx: the word behind it) -> rax: 0, or 1 when it faulted
        ".globl oxbow_user_xsave",
        ".p2align 4",
        "oxbow_user_xsave:",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 1f",
        "    stac",
        "1:  mov r8, rdx",
        "    mov r9d, 1",
        "    xor r10d, r10d",
        "    mov eax, -1",
        "    mov edx, -1",
        ".globl oxbow_user_xsave_access",
        "oxbow_user_xsave_access:",
        // XSAVE writes only some bits of the header.
        "    mov [rdi + 512], r10",
        "    mov [rdi + 520], r10",
        "    mov [rdi + 528], r10",
        "    mov [rdi + 536], r10",
        "    mov [rdi + 544], r10",
        "    mov [rdi + 552], r10",
        "    mov [rdi + 560], r10",
        "    mov [rdi + 568], r10",
        "    xsave64 [rdi]",
        "    mov [rdi + r8], ecx",
        "    jmp oxbow_user_fpu_software",
        // (rdi: area, rsi: as above) -> as above
        ".globl oxbow_user_fxsave",
        ".p2align 4",
        "oxbow_user_fxsave:",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 1f",
        "    stac",
        "1:  mov r9d, 1",
        "    fxsave64 [rdi]",
        "oxbow_user_fpu_software:",
        "    mov rax, [rsi]",
        "    mov [rdi + 464], rax",
        "    mov rax, [rsi + 8]",
        "    mov [rdi + 472], rax",
        "    mov rax, [rsi + 16]",
        "    mov [rdi + 480], rax",
        "    mov rax, [rsi + 24]",
        "    mov [rdi + 488], rax",
        "    mov rax, [rsi + 32]",
        "    mov [rdi + 496], rax",
        "    mov rax, [rsi + 40]",
        "    mov [rdi + 504], rax",
        ".globl oxbow_user_fpu_saved",
        "oxbow_user_fpu_saved:",
        "    xor r9d, r9d",
        ".globl oxbow_user_fpu_done",
        "oxbow_user_fpu_done:",
        "    mov eax, r9d",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 2f",
        "    clac",
        "2:  ret",
        // (rdi: area, esi and edx: halves of the components to load) -> as above
        ".globl oxbow_user_xrstor",
        ".p2align 4",
        "oxbow_user_xrstor:",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 1f",
        "    stac",
        "1:  mov r9d, 1",
        "    mov eax, esi",
        ".globl oxbow_user_xrstor_access",
        "oxbow_user_xrstor_access:",
        "    xrstor64 [rdi]",
        "    jmp oxbow_user_fpu_saved",
        // (rdi: area) -> as above
        ".globl oxbow_user_fxrstor",
        ".p2align 4",
        "oxbow_user_fxrstor:",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 1f",
        "    stac",
        "1:  mov r9d, 1",
        ".globl oxbow_user_fxrstor_access",
        "oxbow_user_fxrstor_access:",
        "    fxrstor64 [rdi]",
        "    jmp oxbow_user_fpu_saved",
        ".popsection",
        smap = sym SMAP,
    );

    unsafe extern "C" {
        pub fn oxbow_user_xsave(area: *mut u8, software: *const u64, bytes: usize, end: u32)
        -> u32;
        pub fn oxbow_user_fxsave(area: *mut u8, software: *const u64) -> u32;
        pub fn oxbow_user_xrstor(area: *const u8, low: u32, high: u32) -> u32;
        pub fn oxbow_user_fxrstor(area: *const u8) -> u32;
        fn oxbow_user_xsave_access();
        fn oxbow_user_fpu_saved();
        fn oxbow_user_fpu_done();
        fn oxbow_user_xrstor_access();
        fn oxbow_user_fxrstor_access();
    }

    type Label = unsafe extern "C" fn();

    fn at(label: Label) -> u64 {
        label as usize as u64
    }

    /// For [`recovery::fixup`](crate::arch::recovery::fixup).
    pub fn fixup(rip: u64) -> Option<u64> {
        // Of both formats.
        let saves = at(oxbow_user_xsave_access)..at(oxbow_user_fpu_saved);
        (saves.contains(&rip) || refused(rip).is_some()).then(|| at(oxbow_user_fpu_done))
    }

    /// For [`recovery::refused`](crate::arch::recovery::refused).
    pub fn refused(rip: u64) -> Option<u64> {
        let loads = [at(oxbow_user_xrstor_access), at(oxbow_user_fxrstor_access)];
        loads.contains(&rip).then(|| at(oxbow_user_fpu_done))
    }
}

/// Saves this CPU's registers at `area`, 64-byte aligned, in the format of
/// [`super::fpu::FpuState`], with `software` in the 48 bytes at 464; where that format is
/// XSAVE's, writes `end` behind it. False when it faulted.
///
/// # Safety
/// `super::fpu::area_bytes()` and 4 more bytes at `area` lie in the user half. The caller may
/// sleep.
pub unsafe fn save(area: *mut u8, software: &[u64; 6], end: u32) -> bool {
    #[cfg(target_os = "none")]
    {
        let bytes = super::fpu::area_bytes();
        let software = software.as_ptr();
        // SAFETY: the caller's; the CPU has what is used.
        let failed = unsafe {
            if features().contains(Features::XSAVE) {
                routines::oxbow_user_xsave(area, software, bytes, end)
            } else {
                routines::oxbow_user_fxsave(area, software)
            }
        };
        failed == 0
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (area, software, end);
        false
    }
}

/// Loads this CPU's registers from `area`: the `components` of an XSAVE image, or with `None`
/// an FXSAVE image; the components left out get their initial state. False when it faulted or the
/// CPU refused what is there; the registers are then anything.
///
/// # Safety
/// `super::fpu::area_bytes()` bytes at `area` lie in the user half. The caller may sleep.
/// `components` only where the CPU has XSAVE.
pub unsafe fn load(area: *const u8, components: Option<u64>) -> bool {
    #[cfg(target_os = "none")]
    {
        let all = super::fpu::xfeatures();
        let failed = match components.map(|c| c & all) {
            Some(wanted) => {
                // First, because XRSTOR takes MXCSR with AVX as well as with SSE.
                if wanted != all {
                    super::fpu::load_initial();
                }
                // SAFETY: the caller's.
                unsafe { routines::oxbow_user_xrstor(area, wanted as u32, (wanted >> 32) as u32) }
            }
            None => {
                if features().contains(Features::XSAVE) {
                    super::fpu::load_initial();
                }
                // SAFETY: the caller's.
                unsafe { routines::oxbow_user_fxrstor(area) }
            }
        };
        failed == 0
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (area, components);
        false
    }
}
