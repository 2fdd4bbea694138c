//! The checks.

use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use core::arch::{asm, naked_asm};
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use oxbow_handover::{DIRECT_MAP_BASE, KERNEL_BASE, PackageHeader};
use oxbow_loader_core::serial::Serial;

static FAILED: AtomicBool = AtomicBool::new(false);
static BSS: [AtomicU64; 4096] = [const { AtomicU64::new(0) }; 4096];
static DATA: AtomicU64 = AtomicU64::new(0x1234_5678_9abc_def0);
/// Relocated pointers.
static NAMES: [&str; 3] = ["one", "two", "three"];
static FUNCTIONS: [fn(u64) -> u64; 2] = [|x| x + 1, |x| x * 2];

/// The ELF entry: notes the stack pointer before any prologue moves it.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("mov rsi, rsp", "jmp {}", sym start)
}

extern "sysv64" fn start(info: &'static mut BootInfo, rsp: u64) -> ! {
    // SAFETY: level 0, and nothing else runs.
    let mut out = unsafe { Serial::init() };
    checks(&mut out, info, rsp);
    let failed = FAILED.load(Ordering::Relaxed);
    let _ = writeln!(out, "HANDOVER {}", if failed { "FAILED" } else { "OK" });
    exit(if failed { 17 } else { 16 })
}

fn exit(status: u32) -> ! {
    // SAFETY: the port of isa-debug-exit; without the device nothing happens.
    unsafe { asm!("out dx, eax", in("dx") 0xf4u16, in("eax") status) };
    oxbow_loader_core::cpu::halt()
}

fn promise(out: &mut Serial, what: &str, kept: bool) {
    if !kept {
        FAILED.store(true, Ordering::Relaxed);
        let _ = writeln!(out, "BROKEN: {what}");
    }
}

fn checks(out: &mut Serial, info: &BootInfo, rsp: u64) {
    let at = info as *const BootInfo as u64;
    promise(out, "stack aligned as after a call", rsp % 16 == 8);
    let stack = info.kernel_stack_bottom..info.kernel_stack_bottom + info.kernel_stack_len;
    promise(
        out,
        "stack pointer at the top of the stack",
        rsp == stack.end - 8,
    );
    promise(
        out,
        "BootInfo in the direct map",
        at > DIRECT_MAP_BASE && at < KERNEL_BASE,
    );
    promise(
        out,
        "direct map where it belongs",
        info.physical_memory_offset.into_option() == Some(DIRECT_MAP_BASE),
    );
    promise(
        out,
        "bss is zero",
        BSS.iter().all(|word| word.load(Ordering::Relaxed) == 0),
    );
    BSS[4095].store(1, Ordering::Relaxed);
    promise(
        out,
        "data is there",
        DATA.swap(1, Ordering::Relaxed) == 0x1234_5678_9abc_def0,
    );
    let names: u64 = NAMES.iter().map(|n| n.len() as u64).sum();
    promise(
        out,
        "relocations applied",
        core::hint::black_box(FUNCTIONS)[1](core::hint::black_box(names)) == 22,
    );

    package(out, info);
    memory(out, info);
    acpi(out, info);
    screen(out, info);
    page_tables(out, info);
}

fn package(out: &mut Serial, info: &BootInfo) {
    let Some(at) = info.ramdisk_addr.into_option() else {
        return promise(out, "boot package", false);
    };
    // SAFETY: promised by the loader; a wrong address ends in the fault this test looks for.
    let bytes = unsafe { core::slice::from_raw_parts(at as *const u8, info.ramdisk_len as usize) };
    match PackageHeader::parse(bytes) {
        Some((header, cmdline)) => {
            let _ = writeln!(
                out,
                "firmware {} cmdline {cmdline:?} tsc {} to {}: {} kilocycles in the loader",
                header.firmware,
                header.tsc_loader,
                header.tsc_handover,
                (header.tsc_handover.wrapping_sub(header.tsc_loader)) / 1000
            );
            promise(out, "clock ran", header.tsc_handover > header.tsc_loader);
        }
        None => promise(out, "boot package parses", false),
    }
}

fn memory(out: &mut Serial, info: &BootInfo) {
    let regions: &[MemoryRegion] = &info.memory_regions;
    let mut usable = 0;
    for r in regions {
        let _ = writeln!(out, "  {:#012x}..{:#012x} {:?}", r.start, r.end, r.kind);
        promise(
            out,
            "regions are whole pages",
            r.start % 4096 == 0 && r.end % 4096 == 0 && r.start < r.end,
        );
        if r.kind == MemoryRegionKind::Usable {
            usable += r.end - r.start;
        }
    }
    let _ = writeln!(out, "usable {} KiB", usable >> 10);
    promise(
        out,
        "regions sorted",
        regions.windows(2).all(|w| w[0].end <= w[1].start),
    );
    let kept = |phys: u64| {
        regions
            .iter()
            .any(|r| r.kind == MemoryRegionKind::Bootloader && (r.start..r.end).contains(&phys))
    };
    promise(
        out,
        "BootInfo kept",
        kept(info as *const BootInfo as u64 - DIRECT_MAP_BASE),
    );
    promise(
        out,
        "region list kept",
        kept(regions.as_ptr() as u64 - DIRECT_MAP_BASE),
    );
    promise(
        out,
        "image kept",
        kept(info.kernel_addr) && kept(info.kernel_addr + info.kernel_len - 1),
    );
    promise(
        out,
        "package kept",
        kept(
            info.ramdisk_addr
                .into_option()
                .unwrap_or(0)
                .wrapping_sub(DIRECT_MAP_BASE),
        ),
    );
    promise(out, "page tables kept", kept(cr3()));
    // The last page of every usable region above 1 MiB is memory, in the direct map.
    for r in regions
        .iter()
        .filter(|r| r.kind == MemoryRegionKind::Usable && r.start >= 1 << 20)
    {
        for at in [r.start, r.end - 4096] {
            let word = (DIRECT_MAP_BASE + at) as *mut u64;
            // SAFETY: free memory in the direct map, if the loader kept its promise.
            let back = unsafe {
                word.write_volatile(at ^ 0x5a5a);
                word.read_volatile()
            };
            promise(
                out,
                "usable memory holds what is written",
                back == at ^ 0x5a5a,
            );
        }
    }
}

fn acpi(out: &mut Serial, info: &BootInfo) {
    let Some(rsdp) = info.rsdp_addr.into_option() else {
        return promise(out, "RSDP found", false);
    };
    // SAFETY: as in `package`.
    let signature = unsafe { ((DIRECT_MAP_BASE + rsdp) as *const [u8; 8]).read_unaligned() };
    promise(out, "RSDP is one", signature == *b"RSD PTR ");
    let _ = writeln!(out, "rsdp {rsdp:#x}");
}

fn screen(out: &mut Serial, info: &BootInfo) {
    let Some(fb) = info.framebuffer.as_ref() else {
        let _ = writeln!(out, "no framebuffer");
        return;
    };
    let layout = fb.info();
    let at = fb.buffer().as_ptr() as u64;
    let _ = writeln!(out, "framebuffer {at:#x} {layout:?}");
    promise(
        out,
        "framebuffer in the direct map",
        at > DIRECT_MAP_BASE && at < KERNEL_BASE,
    );
    promise(
        out,
        "framebuffer large enough",
        layout.byte_len >= layout.stride * layout.height * layout.bytes_per_pixel,
    );
    for offset in [0, layout.byte_len - 4] {
        let pixel = (at + offset as u64) as *mut u32;
        // SAFETY: in the framebuffer.
        let back = unsafe {
            pixel.write_volatile(0x00ff_8040);
            pixel.read_volatile()
        };
        promise(out, "framebuffer is memory", back == 0x00ff_8040);
    }
}

fn cr3() -> u64 {
    let value: u64;
    // SAFETY: reads a control register at level 0.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack)) };
    value & !0xfff
}

/// A run of pages with one mapping: virtual start and end, physical start, page size, flags.
#[derive(Clone, Copy, PartialEq)]
struct Run {
    virt: u64,
    end: u64,
    phys: u64,
    size: u64,
    write: bool,
    execute: bool,
    user: bool,
}

fn page_tables(out: &mut Serial, info: &BootInfo) {
    let (cr0, efer_low): (u64, u32);
    // SAFETY: reads a control register and an MSR that every x86_64 processor has.
    unsafe {
        asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack));
        asm!("rdmsr", in("ecx") 0xc000_0080u32, out("eax") efer_low, out("edx") _, options(nomem, nostack));
    }
    let nx = oxbow_loader_core::cpu::Features::detect().nx;
    promise(out, "CR0.WP", cr0 & 1 << 16 != 0);
    promise(
        out,
        "EFER.NXE where there is NX",
        nx == (efer_low & 1 << 11 != 0),
    );
    let mut last: Option<Run> = None;
    let mut visit = |run: Option<Run>| match (&mut last, run) {
        (Some(l), Some(r))
            if l.end == r.virt
                && l.phys.wrapping_add(l.end - l.virt) == r.phys
                && (l.size, l.write, l.execute, l.user) == (r.size, r.write, r.execute, r.user) =>
        {
            l.end = r.end
        }
        (l, next) => {
            if let Some(done) = core::mem::replace(l, next) {
                judge(out, info, nx, &done);
            }
        }
    };
    walk(cr3(), 3, 0, (true, true, true), &mut visit);
    visit(None);
    let text = _start as *const () as u64;
    let rodata = NAMES.as_ptr() as u64;
    for (what, at, write, execute) in [
        ("text", text, false, true),
        ("relocated constants", rodata, false, false),
        ("data", DATA.as_ptr() as u64, true, false),
        ("bss", BSS[4095].as_ptr() as u64, true, false),
        ("stack", info.kernel_stack_bottom, true, false),
        (
            "boot information",
            info as *const BootInfo as u64,
            true,
            false,
        ),
    ] {
        let found = lookup(at);
        promise(
            out,
            what,
            found.is_some_and(|(w, x)| w == write && (x == execute || !nx)),
        );
    }
    promise(
        out,
        "guard page below the stack",
        lookup(info.kernel_stack_bottom - 1).is_none(),
    );
    promise(
        out,
        "nothing above the stack",
        lookup(info.kernel_stack_bottom + info.kernel_stack_len).is_none(),
    );
}

fn judge(out: &mut Serial, info: &BootInfo, nx: bool, r: &Run) {
    let flag = |set: bool, c: char| if set { c } else { '-' };
    let _ = writeln!(
        out,
        "  {:#018x}..{:#018x} -> {:#012x} {:4} KiB pages r{}{}",
        r.virt,
        r.end,
        r.phys,
        r.size >> 10,
        flag(r.write, 'w'),
        flag(r.execute, 'x')
    );
    promise(out, "no user pages", !r.user);
    promise(
        out,
        "nothing is writable and executable",
        !(nx && r.write && r.execute),
    );
    let low = r.virt < 1 << 47;
    promise(
        out,
        "little is mapped one-to-one",
        !low || r.end - r.virt <= 8192 && r.virt == r.phys,
    );
    let direct = (DIRECT_MAP_BASE..KERNEL_BASE).contains(&r.virt);
    promise(
        out,
        "direct map is direct",
        !direct || r.virt - DIRECT_MAP_BASE == r.phys,
    );
    let end = info.kernel_stack_bottom + info.kernel_stack_len;
    promise(
        out,
        "nothing else in the upper half",
        low || direct || (KERNEL_BASE..end).contains(&r.virt),
    );
}

fn table(phys: u64) -> &'static [u64; 512] {
    // SAFETY: a page table, reached through the direct map.
    unsafe { &*((DIRECT_MAP_BASE + phys) as *const [u64; 512]) }
}

fn walk(
    phys: u64,
    level: u32,
    base: u64,
    above: (bool, bool, bool),
    visit: &mut impl FnMut(Option<Run>),
) {
    for (i, entry) in table(phys).iter().enumerate() {
        if entry & 1 == 0 {
            continue;
        }
        let size = 4096u64 << (9 * level);
        let mut virt = base | (i as u64 * size);
        if level == 3 && i >= 256 {
            virt |= 0xffff << 48;
        }
        let write = above.0 && entry & 2 != 0;
        let execute = above.1 && entry >> 63 == 0;
        let user = above.2 && entry & 4 != 0;
        let to = entry & 0x000f_ffff_ffff_f000;
        if level == 0 || entry & 0x80 != 0 {
            visit(Some(Run {
                virt,
                end: virt.wrapping_add(size),
                phys: to & !(size - 1),
                size,
                write,
                execute,
                user,
            }));
        } else {
            walk(to, level - 1, virt, (write, execute, user), visit);
        }
    }
}

/// Whether the page of `virt` may be written and executed; `None` when it is not mapped.
fn lookup(virt: u64) -> Option<(bool, bool)> {
    let (mut phys, mut write, mut execute) = (cr3(), true, true);
    for level in (0..4).rev() {
        let entry = table(phys)[(virt >> (12 + 9 * level)) as usize & 511];
        if entry & 1 == 0 {
            return None;
        }
        write &= entry & 2 != 0;
        execute &= entry >> 63 == 0;
        if level == 0 || entry & 0x80 != 0 {
            return Some((write, execute));
        }
        phys = entry & 0x000f_ffff_ffff_f000;
    }
    None
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    // SAFETY: level 0; whoever used the port before is gone.
    let mut out = unsafe { Serial::init() };
    let _ = writeln!(out, "{info}");
    exit(17)
}
