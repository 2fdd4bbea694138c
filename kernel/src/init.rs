//! The boot list, in order, with one reason each.
#![cfg(target_os = "none")]

use alloc::string::String;

use bootloader_api::BootInfo;
use oxbow_handover::{KERNEL_BASE, PackageHeader};

use crate::arch::{self, clock, descriptor, early_serial, entry, fpu, percpu, protect, regs};
use crate::cmdline::{self, Options};
use crate::mm::page_table::{self, DirectMap, PageTable};
use crate::mm::{PhysAddr, frame, heap, mmio, stack};

/// The kernel's first Rust code.
///
/// # Safety
/// Called once, by the loader, on the boot CPU, with interrupts off and the state that
/// docs/boot.md describes.
pub unsafe fn start(boot_info: &'static mut BootInfo) -> ! {
    let tsc_entry = arch::tsc();
    let stack_top = boot_info.kernel_stack_bottom + boot_info.kernel_stack_len;
    // SAFETY: first thing on the boot CPU.
    unsafe { percpu::install(0, 0, stack_top) };
    crate::log::set_sink(early_serial::write);
    // SAFETY: the loader's state (caller); each step's order is given by the list.
    unsafe {
        // Exceptions are reported from here on.
        descriptor::load(None);
        // While the text can still be reached through the direct map by one address.
        let (image, base) = (boot_info.kernel_addr, boot_info.kernel_image_offset);
        protect::patch_clac(|site| PhysAddr(image + (site - base)).as_mut_ptr());
        init_memory(boot_info);
        // The lower half is empty now: nothing kernel mode may not touch.
        protect::init_cpu();
        entry::enable_syscall();
    }
    fpu::init_cpu();
    heap::init_cpu();
    let options = init_cmdline(boot_info);
    crate::log::set_clock(|| clock::now_ns() / 1000);
    if let Some(level) = options.log_level {
        crate::log::set_console_level(level);
    }
    super::trap::panic::set_timeout(options.panic_seconds);
    let stats = frame::stats();
    info!(
        "Oxbow {} at {KERNEL_BASE:#x}, {} MiB of memory",
        env!("CARGO_PKG_VERSION"),
        stats.total / 256
    );
    debug!("{:?}, entry at TSC {tsc_entry}", arch::features::features());
    panic!("nothing to run");
}

/// Frames, and the loader's page tables as the kernel's own without their lower half.
///
/// # Safety
/// Boot CPU, once, with the loader's `BootInfo` and page tables.
unsafe fn init_memory(boot_info: &BootInfo) {
    // SAFETY: the regions are the loader's (caller).
    if unsafe { frame::init(&boot_info.memory_regions) }.is_err() {
        panic!("no usable memory");
    }
    let root = PhysAddr(regs::cr3() & 0x000f_ffff_ffff_f000);
    for slot in 0..page_table::KERNEL_SLOT {
        // SAFETY: the root table is this CPU's alone; the direct map shows it.
        unsafe { root.as_mut_ptr::<u64>().add(slot).write(0) };
    }
    arch::tlb::flush_all();
    // SAFETY: the loader's root is live and nobody else's.
    let mut tables = unsafe { PageTable::from_root(root, DirectMap) };
    for slot in [stack::SLOT, mmio::SLOT] {
        if tables.share_kernel_slots(slot..slot + 1).is_err() {
            panic!("no memory for page tables");
        }
    }
    page_table::set_kernel(tables);
}

/// The command line from the boot package.
fn init_cmdline(boot_info: &BootInfo) -> Options<'static> {
    let line = boot_info
        .ramdisk_addr
        .into_option()
        .and_then(|at| {
            // SAFETY: the loader's boot package, in the direct map, left alone for ever.
            let package = unsafe {
                core::slice::from_raw_parts(at as *const u8, boot_info.ramdisk_len as usize)
            };
            PackageHeader::parse(package)
        })
        .map_or("", |(_, line)| line);
    cmdline::set(String::from(line));
    Options::parse(cmdline::get())
}
