//! Copies between kernel and user memory that survive faults.
//!
//! Each routine touches user memory only inside ranges of instructions that
//! [`recovery`](super::recovery) knows: when the page-fault handler cannot make the page
//! present, it continues at the address named there, and the routine reports what it left undone. Callers check beforehand
//! that the whole range lies in the user half; `vm::user` is the only one.
//!
//! Plain moves rather than `rep movs`: under software emulation a string instruction costs
//! one trip through the emulator per element.

use core::sync::atomic::{AtomicBool, Ordering};

/// Whether CR4.SMAP is set: only then do `stac` and `clac` exist for sure.
pub(super) static SMAP: AtomicBool = AtomicBool::new(false);

/// Called once on the boot CPU, before the first user copy, when CR4.SMAP is set on all CPUs.
/// Entry code for interrupts and exceptions must `clac`, and SFMASK must hold AC.
pub fn set_smap(on: bool) {
    SMAP.store(on, Ordering::Release);
}

#[cfg(target_os = "none")]
pub(super) mod routines {
    use super::SMAP;

    core::arch::global_asm!(
        ".pushsection .text.oxbow_user_copy,\"ax\",@progbits",
        // (rdi: to, rsi: from, rdx: bytes) -> rax: bytes not copied
        ".globl oxbow_user_copy",
        ".p2align 4",
        "oxbow_user_copy:",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 1f",
        "    stac",
        "1:  mov rcx, rdx",
        ".globl oxbow_user_copy_words",
        "oxbow_user_copy_words:",
        "    cmp rcx, 64",
        "    jb 3f",
        "2:  mov rax, [rsi]",
        "    mov rdx, [rsi + 8]",
        "    mov r8, [rsi + 16]",
        "    mov r9, [rsi + 24]",
        "    mov [rdi], rax",
        "    mov [rdi + 8], rdx",
        "    mov [rdi + 16], r8",
        "    mov [rdi + 24], r9",
        "    mov rax, [rsi + 32]",
        "    mov rdx, [rsi + 40]",
        "    mov r8, [rsi + 48]",
        "    mov r9, [rsi + 56]",
        "    mov [rdi + 32], rax",
        "    mov [rdi + 40], rdx",
        "    mov [rdi + 48], r8",
        "    mov [rdi + 56], r9",
        "    add rsi, 64",
        "    add rdi, 64",
        "    sub rcx, 64",
        "    cmp rcx, 64",
        "    jae 2b",
        "3:  cmp rcx, 8",
        "    jb oxbow_user_copy_bytes",
        "4:  mov rax, [rsi]",
        "    mov [rdi], rax",
        "    add rsi, 8",
        "    add rdi, 8",
        "    sub rcx, 8",
        "    cmp rcx, 8",
        "    jae 4b",
        // A fault above lands here: what a block had copied already is copied again, byte by
        // byte, up to the byte that faults.
        ".globl oxbow_user_copy_bytes",
        "oxbow_user_copy_bytes:",
        "    test rcx, rcx",
        "    jz oxbow_user_copy_done",
        "5:  mov al, [rsi]",
        "    mov [rdi], al",
        "    inc rsi",
        "    inc rdi",
        "    dec rcx",
        "    jnz 5b",
        ".globl oxbow_user_copy_done",
        "oxbow_user_copy_done:",
        "    mov rax, rcx",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 6f",
        "    clac",
        "6:  ret",
        // (rdi: address, rsi: result) -> rax: 0, or 1 when it faulted
        ".globl oxbow_user_load32",
        ".p2align 4",
        "oxbow_user_load32:",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 1f",
        "    stac",
        "1:  mov eax, 1",
        ".globl oxbow_user_load32_access",
        "oxbow_user_load32_access:",
        "    mov ecx, [rdi]",
        ".globl oxbow_user_load32_accessed",
        "oxbow_user_load32_accessed:",
        "    mov [rsi], ecx",
        "    xor eax, eax",
        ".globl oxbow_user_load32_done",
        "oxbow_user_load32_done:",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 2f",
        "    clac",
        "2:  ret",
        // (rdi: address, esi: expected, edx: new, rcx: found) -> rax: 0, or 1 when it faulted
        ".globl oxbow_user_cmpxchg32",
        ".p2align 4",
        "oxbow_user_cmpxchg32:",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 1f",
        "    stac",
        "1:  mov r8d, 1",
        "    mov eax, esi",
        ".globl oxbow_user_cmpxchg32_access",
        "oxbow_user_cmpxchg32_access:",
        "    lock cmpxchg [rdi], edx",
        ".globl oxbow_user_cmpxchg32_accessed",
        "oxbow_user_cmpxchg32_accessed:",
        "    mov [rcx], eax",
        "    xor r8d, r8d",
        ".globl oxbow_user_cmpxchg32_done",
        "oxbow_user_cmpxchg32_done:",
        "    mov eax, r8d",
        "    cmp byte ptr [rip + {smap}], 0",
        "    je 2f",
        "    clac",
        "2:  ret",
        ".popsection",
        smap = sym SMAP,
    );

    unsafe extern "C" {
        pub fn oxbow_user_copy(to: *mut u8, from: *const u8, bytes: usize) -> usize;
        pub fn oxbow_user_load32(addr: *const u32, value: *mut u32) -> usize;
        pub fn oxbow_user_cmpxchg32(
            addr: *mut u32,
            expected: u32,
            new: u32,
            found: *mut u32,
        ) -> usize;
        fn oxbow_user_copy_words();
        fn oxbow_user_copy_bytes();
        fn oxbow_user_copy_done();
        fn oxbow_user_load32_access();
        fn oxbow_user_load32_accessed();
        fn oxbow_user_load32_done();
        fn oxbow_user_cmpxchg32_access();
        fn oxbow_user_cmpxchg32_accessed();
        fn oxbow_user_cmpxchg32_done();
    }

    type Label = unsafe extern "C" fn();

    /// (first instruction, end of the range, where a fault in it continues).
    const TABLE: [(Label, Label, Label); 4] = [
        (
            oxbow_user_copy_words,
            oxbow_user_copy_bytes,
            oxbow_user_copy_bytes,
        ),
        (
            oxbow_user_copy_bytes,
            oxbow_user_copy_done,
            oxbow_user_copy_done,
        ),
        (
            oxbow_user_load32_access,
            oxbow_user_load32_accessed,
            oxbow_user_load32_done,
        ),
        (
            oxbow_user_cmpxchg32_access,
            oxbow_user_cmpxchg32_accessed,
            oxbow_user_cmpxchg32_done,
        ),
    ];

    /// For [`recovery::fixup`](crate::arch::recovery::fixup).
    pub fn fixup(rip: u64) -> Option<u64> {
        let at = |label: Label| label as usize as u64;
        TABLE
            .iter()
            .find(|row| (at(row.0)..at(row.1)).contains(&rip))
            .map(|row| at(row.2))
    }
}

/// Copies up to `bytes`; returns how many were not copied.
///
/// # Safety
/// One side lies wholly in the user half; the other is kernel memory that the caller may
/// read or write for `bytes` bytes. The caller may sleep.
pub unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) -> usize {
    #[cfg(target_os = "none")]
    // SAFETY: the caller's; faults on the user side are recovered.
    unsafe {
        routines::oxbow_user_copy(to, from, bytes)
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (to, from);
        bytes
    }
}

/// Loads a word of user memory in one access; `None` when it faulted.
///
/// # Safety
/// `addr` lies in the user half and is aligned. The caller may sleep.
pub unsafe fn load32(addr: *const u32) -> Option<u32> {
    #[cfg(target_os = "none")]
    {
        let mut value = 0;
        // SAFETY: the caller's.
        (unsafe { routines::oxbow_user_load32(addr, &mut value) } == 0).then_some(value)
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = addr;
        None
    }
}

/// Replaces a word of user memory by `new` if it holds `expected`, atomically; returns what
/// it held, or `None` when it faulted.
///
/// # Safety
/// `addr` lies in the user half and is aligned. The caller may sleep.
pub unsafe fn cmpxchg32(addr: *mut u32, expected: u32, new: u32) -> Option<u32> {
    #[cfg(target_os = "none")]
    {
        let mut found = 0;
        // SAFETY: the caller's.
        (unsafe { routines::oxbow_user_cmpxchg32(addr, expected, new, &mut found) } == 0)
            .then_some(found)
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (addr, expected, new);
        None
    }
}
