//! The page of code that every program gets from the kernel (man 7 vdso): it tells the time
//! without a system call.
//!
//! A whole ELF image in one page, made by the assembler: headers, the symbols by which C
//! libraries find the functions, their code, and behind them what they compute with. The
//! clock runs at one rate from boot on, so the only word that ever changes is the wall
//! clock's offset; it is read in one load and needs no sequence count.
//!
//! Programs map the page readable and executable and never writable; the kernel writes
//! through its own address.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, Ordering};

/// What the functions compute with, at the end of the page.
#[repr(C)]
pub struct Data {
    /// ns = ticks * `mult` >> 32; 0: ask the kernel.
    pub mult: AtomicU64,
    /// TSC when monotonic time began.
    pub tsc_base: AtomicU64,
    /// Wall clock minus monotonic clock, in nanoseconds.
    pub wall_offset: AtomicI64,
}

/// Where [`Data`] lies in the page.
pub const DATA_OFFSET: usize = 4096 - 32;

// ELF-64 (Tool Interface Standard, ELF 1.2; System V ABI, AMD64, 4 and 5). Addresses are
// offsets from the image's start. Clocks by number (man 2 clock_gettime): 0 and 5 are the wall
// clock and its coarse kin, 1, 4, 6 and 7 monotonic, raw, coarse and boot time.
core::arch::global_asm!(
    r#"
    .pushsection .rodata.vdso, "a", @progbits
    .balign 4096
    .globl oxbow_vdso_start
oxbow_vdso_start:
    // Elf64_Ehdr
    .byte 0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0
    .quad 0
    .short 3, 62
    .long 1
    .quad 0
    .quad .Lvdso_segments - oxbow_vdso_start
    .quad 0
    .long 0
    .short 64, 56, 3, 64, 0, 0
.Lvdso_segments:  // Elf64_Phdr: all of it loaded, read and execute
    .long 1, 5
    .quad 0, 0, 0, 4096, 4096, 4096
    // the dynamic section
    .long 2, 4
    .quad .Lvdso_dynamic - oxbow_vdso_start, .Lvdso_dynamic - oxbow_vdso_start, .Lvdso_dynamic - oxbow_vdso_start
    .quad .Lvdso_dynamic_end - .Lvdso_dynamic, .Lvdso_dynamic_end - .Lvdso_dynamic, 8
    // a stack that is not executable
    .long 0x6474e551, 4
    .quad 0, 0, 0, 0, 0, 16
.Lvdso_dynamic:  // Elf64_Dyn: SONAME, HASH, STRTAB, SYMTAB, STRSZ, SYMENT, VERSYM, VERDEF, VERDEFNUM
    .quad 14, .Lvdso_s_soname - .Lvdso_strings
    .quad 4, .Lvdso_hash - oxbow_vdso_start
    .quad 5, .Lvdso_strings - oxbow_vdso_start
    .quad 6, .Lvdso_symbols - oxbow_vdso_start
    .quad 10, .Lvdso_strings_end - .Lvdso_strings
    .quad 11, 24
    .quad 0x6ffffff0, .Lvdso_versions - oxbow_vdso_start
    .quad 0x6ffffffc, .Lvdso_definitions - oxbow_vdso_start
    .quad 0x6ffffffd, 2
    .quad 0, 0
.Lvdso_dynamic_end:
.Lvdso_symbols: // Elf64_Sym: functions (18: global function), in section 1, which nobody looks at
    .quad 0, 0, 0
    .long .Lvdso_s_clock_gettime - .Lvdso_strings
    .byte 18, 0
    .short 1
    .quad .Lvdso_clock_gettime - oxbow_vdso_start, .Lvdso_clock_gettime_end - .Lvdso_clock_gettime
    .long .Lvdso_s_gettimeofday - .Lvdso_strings
    .byte 18, 0
    .short 1
    .quad .Lvdso_gettimeofday - oxbow_vdso_start, .Lvdso_gettimeofday_end - .Lvdso_gettimeofday
    .long .Lvdso_s_time - .Lvdso_strings
    .byte 18, 0
    .short 1
    .quad .Lvdso_time - oxbow_vdso_start, .Lvdso_time_end - .Lvdso_time
    .long .Lvdso_s_clock_getres - .Lvdso_strings
    .byte 18, 0
    .short 1
    .quad .Lvdso_clock_getres - oxbow_vdso_start, .Lvdso_clock_getres_end - .Lvdso_clock_getres
.Lvdso_strings: // strings
    .asciz ""
.Lvdso_s_clock_gettime:
    .asciz "__vdso_clock_gettime"
.Lvdso_s_gettimeofday:
    .asciz "__vdso_gettimeofday"
.Lvdso_s_time:
    .asciz "__vdso_time"
.Lvdso_s_clock_getres:
    .asciz "__vdso_clock_getres"
.Lvdso_s_version:
    .asciz "LINUX_2.6"
.Lvdso_s_soname:
    .asciz "linux-vdso.so.1"
.Lvdso_strings_end:
    .balign 8
.Lvdso_hash: // hash table: one bucket, whose chain goes through all symbols
    .long 1, 5
    .long 1
    .long 0, 2, 3, 4, 0
.Lvdso_versions: // versions of the symbols: none for the empty one, then LINUX_2.6
    .short 0, 2, 2, 2, 2
    .balign 8
.Lvdso_definitions: // Elf64_Verdef: the file's own name, then LINUX_2.6, by their ELF hashes
    .short 1, 1, 1, 1
    .long 0x0deebfa1, 20, 28
    .long .Lvdso_s_soname - .Lvdso_strings, 0
    .short 1, 0, 2, 1
    .long 0x03ae75f6, 20, 0
    .long .Lvdso_s_version - .Lvdso_strings, 0

    .balign 16
.Lvdso_clock_gettime: // int clock_gettime(edi: clock, rsi: struct timespec *)
    cmp     edi, 7
    ja      .Lvdso_clock_gettime_slow
    mov     ecx, edi
    mov     eax, 1
    shl     eax, cl
    test    al, 0xf3
    jz      .Lvdso_clock_gettime_slow
    mov     r8, [rip + oxbow_vdso_start + {mult}]
    test    r8, r8
    jz      .Lvdso_clock_gettime_slow
    lfence
    rdtsc
    shl     rdx, 32
    or      rax, rdx
    xor     r9d, r9d
    sub     rax, [rip + oxbow_vdso_start + {base}]
    cmovb   rax, r9
    mul     r8
    shrd    rax, rdx, 32
    test    edi, edi
    jz      .Lvdso_wall
    cmp     edi, 5
    jne     .Lvdso_split
.Lvdso_wall:
    add     rax, [rip + oxbow_vdso_start + {wall}]
.Lvdso_split:
    // Division by 10^9 as (ns >> 9) * 0x44b82fa09b5a53 >> 75, exact for 64 bits.
    mov     rcx, rax
    shr     rax, 9
    movabs  rdx, 0x44b82fa09b5a53
    mul     rdx
    shr     rdx, 11
    mov     [rsi], rdx
    imul    rdx, rdx, 1000000000
    sub     rcx, rdx
    mov     [rsi + 8], rcx
    xor     eax, eax
    ret
.Lvdso_clock_gettime_slow:
    mov     eax, 228
    syscall
    ret
.Lvdso_clock_gettime_end:
    .balign 16
.Lvdso_gettimeofday: // int gettimeofday(rdi: struct timeval *, rsi: struct timezone *)
    mov     r8, [rip + oxbow_vdso_start + {mult}]
    test    r8, r8
    jz      .Lvdso_gettimeofday_slow
    test    rsi, rsi
    jz      .Lvdso_no_zone
    mov     qword ptr [rsi], 0
.Lvdso_no_zone:
    test    rdi, rdi
    jz      .Lvdso_gettimeofday_done
    lfence
    rdtsc
    shl     rdx, 32
    or      rax, rdx
    xor     r9d, r9d
    sub     rax, [rip + oxbow_vdso_start + {base}]
    cmovb   rax, r9
    mul     r8
    shrd    rax, rdx, 32
    add     rax, [rip + oxbow_vdso_start + {wall}]
    mov     rcx, rax
    shr     rax, 9
    movabs  rdx, 0x44b82fa09b5a53
    mul     rdx
    shr     rdx, 11
    mov     [rdi], rdx
    imul    rdx, rdx, 1000000000
    sub     rcx, rdx
    mov     eax, ecx
    mov     ecx, 1000
    xor     edx, edx
    div     ecx
    mov     [rdi + 8], rax
.Lvdso_gettimeofday_done:
    xor     eax, eax
    ret
.Lvdso_gettimeofday_slow:
    mov     eax, 96
    syscall
    ret
.Lvdso_gettimeofday_end:
    .balign 16
.Lvdso_time: // time_t time(rdi: time_t *)
    mov     r8, [rip + oxbow_vdso_start + {mult}]
    test    r8, r8
    jz      .Lvdso_time_slow
    rdtsc
    shl     rdx, 32
    or      rax, rdx
    xor     r9d, r9d
    sub     rax, [rip + oxbow_vdso_start + {base}]
    cmovb   rax, r9
    mul     r8
    shrd    rax, rdx, 32
    add     rax, [rip + oxbow_vdso_start + {wall}]
    mov     ecx, 1000000000
    xor     edx, edx
    div     rcx
    test    rdi, rdi
    jz      .Lvdso_time_done
    mov     [rdi], rax
.Lvdso_time_done:
    ret
.Lvdso_time_slow:
    mov     eax, 201
    syscall
    ret
.Lvdso_time_end:
    .balign 16
.Lvdso_clock_getres: // int clock_getres(edi: clock, rsi: struct timespec *)
    mov     eax, 229
    syscall
    ret
.Lvdso_clock_getres_end:
    .fill   {data} - (.Lvdso_clock_getres_end - oxbow_vdso_start), 1, 0xcc
    .quad   0, 0, 0, 0
    .popsection
    "#,
    data = const DATA_OFFSET,
    mult = const DATA_OFFSET + core::mem::offset_of!(Data, mult),
    base = const DATA_OFFSET + core::mem::offset_of!(Data, tsc_base),
    wall = const DATA_OFFSET + core::mem::offset_of!(Data, wall_offset),
);

unsafe extern "C" {
    static oxbow_vdso_start: [u8; 4096];
}

/// The page as programs see it, with [`Data`] still zero.
pub fn image() -> &'static [u8; 4096] {
    // SAFETY: the assembler made it exactly one page of read-only bytes.
    unsafe { &oxbow_vdso_start }
}

/// The page that programs map, once [`install`] made it.
static DATA: AtomicPtr<Data> = AtomicPtr::new(core::ptr::null_mut());

/// Fills `page`, which programs will map, and keeps the time in it true from now on. Once.
///
/// # Safety
/// `page` is a page of memory, nobody else's, that stays for good.
pub unsafe fn install(page: NonNull<u8>) {
    let (mult, tsc_base) = super::clock::rate();
    // SAFETY: a page (contract), as long as the image; `DATA_OFFSET` is a multiple of 8.
    let data = unsafe {
        core::ptr::copy_nonoverlapping(image().as_ptr(), page.as_ptr(), image().len());
        page.as_ptr().add(DATA_OFFSET).cast::<Data>()
    };
    // SAFETY: within the page, which stays; all its fields are atomic.
    let fields = unsafe { &*data };
    fields.tsc_base.store(tsc_base, Ordering::Relaxed);
    fields.mult.store(mult, Ordering::Release);
    DATA.store(data, Ordering::Release);
}

/// Tells programs the wall clock's distance to the monotonic one, in nanoseconds.
pub fn set_wall_offset(ns: i64) {
    // SAFETY: null, or what `install` stored, which stays for good.
    if let Some(data) = unsafe { DATA.load(Ordering::Acquire).as_ref() } {
        data.wall_offset.store(ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(at: usize) -> u64 {
        u64::from_le_bytes(image()[at..at + 8].try_into().unwrap())
    }

    fn text(at: usize) -> &'static str {
        let bytes = &image()[at..];
        let end = bytes.iter().position(|b| *b == 0).unwrap();
        core::str::from_utf8(&bytes[..end]).unwrap()
    }

    fn dynamic(tag: u64) -> usize {
        // The second program header.
        let mut at = word(64 + 56 + 16) as usize;
        while word(at) != tag {
            assert_ne!(word(at), 0, "no entry {tag}");
            at += 16;
        }
        word(at + 8) as usize
    }

    /// A function's offset, as a C library finds it: by symbol and version.
    fn function(name: &str) -> usize {
        let (symbols, strings) = (dynamic(6), dynamic(5));
        let nr = u32::from_le_bytes(image()[dynamic(4) + 4..][..4].try_into().unwrap());
        for i in 1..nr as usize {
            let at = symbols + 24 * i;
            if text(strings + (word(at) as u32) as usize) == name {
                assert_eq!(word(at) >> 32 & 0xff, 18);
                assert_eq!(image()[dynamic(0x6fff_fff0) + 2 * i], 2);
                return word(at + 8) as usize;
            }
        }
        panic!("no {name}");
    }

    #[test]
    fn c_libraries_find_the_functions() {
        assert_eq!(&image()[..4], b"\x7fELF");
        assert_eq!(text(dynamic(5) + dynamic(14)), "linux-vdso.so.1");
        let definition = dynamic(0x6fff_fffc) + 28;
        assert_eq!(word(definition + 8) as u32, 0x03ae_75f6);
        let name = word(definition + 20) as u32 as usize;
        assert_eq!(text(dynamic(5) + name), "LINUX_2.6");
        for name in ["clock_gettime", "gettimeofday", "time", "clock_getres"] {
            assert!(function(&std::format!("__vdso_{name}")) < DATA_OFFSET);
        }
        assert!(image()[DATA_OFFSET..].iter().all(|b| *b == 0));
    }

    unsafe extern "C" {
        fn mmap(at: usize, len: usize, prot: i32, flags: i32, fd: i32, pos: i64) -> *mut u8;
        fn mprotect(at: *mut u8, len: usize, prot: i32) -> i32;
    }

    #[test]
    fn the_functions_tell_the_time_they_are_told() {
        type Gettime = unsafe extern "C" fn(i32, *mut [i64; 2]) -> i32;
        type Gettimeofday = unsafe extern "C" fn(*mut [i64; 2], *mut [i32; 2]) -> i32;
        type Time = unsafe extern "C" fn(*mut i64) -> i64;
        // SAFETY: a page of our own gets the image, and its functions have these types.
        let (data, gettime, gettimeofday, time) = unsafe {
            let page = mmap(0, 4096, 3, 0x22, -1, 0);
            core::ptr::copy_nonoverlapping(image().as_ptr(), page, 4096);
            let data = &*page.add(DATA_OFFSET).cast::<Data>();
            // 1 GHz, so that ticks are nanoseconds, counted from some hours before now.
            data.mult.store(1 << 32, Ordering::Relaxed);
            let base = crate::arch::tsc().wrapping_sub(20_000_000_000_000);
            data.tsc_base.store(base, Ordering::Relaxed);
            data.wall_offset
                .store(1_800_000_000_123_456_789, Ordering::Relaxed);
            assert_eq!(mprotect(page, 4096, 5), 0);
            (
                data,
                core::mem::transmute::<*mut u8, Gettime>(
                    page.add(function("__vdso_clock_gettime")),
                ),
                core::mem::transmute::<*mut u8, Gettimeofday>(
                    page.add(function("__vdso_gettimeofday")),
                ),
                core::mem::transmute::<*mut u8, Time>(page.add(function("__vdso_time"))),
            )
        };
        let ns = |[s, ns]: [i64; 2]| s * 1_000_000_000 + ns;
        let passed = || {
            let ticks = crate::arch::tsc().wrapping_sub(data.tsc_base.load(Ordering::Relaxed));
            ticks as i64
        };
        for clock in 0..=7 {
            let mut out = [0; 2];
            let before = passed();
            // SAFETY: `out` is as long as the function writes.
            assert_eq!(unsafe { gettime(clock, &mut out) }, 0);
            if clock == 2 || clock == 3 {
                // The kernel's: CPU time, here of the test.
                assert!(ns(out) < 10_000_000_000_000);
                continue;
            }
            let offset = if clock % 5 == 0 {
                1_800_000_000_123_456_789
            } else {
                0
            };
            let told = ns(out) - offset;
            assert!((before..=passed()).contains(&told), "clock {clock}: {told}");
            assert!((0..1_000_000_000).contains(&out[1]));
        }
        let (mut day, mut zone) = ([0; 2], [9, 9]);
        let mut now = 0;
        // SAFETY: as above; both may be null.
        unsafe {
            assert_eq!(gettimeofday(&mut day, &mut zone), 0);
            assert_eq!(
                gettimeofday(core::ptr::null_mut(), core::ptr::null_mut()),
                0
            );
            assert_eq!(time(&mut now), now);
            assert!((day[0]..day[0] + 10).contains(&time(core::ptr::null_mut())));
        }
        assert_eq!(zone, [0, 0]);
        assert!((1_800_020_000..1_800_021_000).contains(&day[0]));
        assert!((0..1_000_000).contains(&day[1]) && now >= day[0]);
        let mut out = [0; 2];
        // SAFETY: as above; -22 is EINVAL, from the kernel.
        assert_eq!(unsafe { gettime(99, &mut out) }, -22);
    }
}
