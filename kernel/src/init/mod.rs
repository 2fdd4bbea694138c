//! The boot list, in order, with one reason each.
#![cfg(target_os = "none")]

mod console;
mod root;
#[cfg(debug_assertions)]
mod selftest;
#[cfg(debug_assertions)]
mod stress;

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use oxbow_handover::{KERNEL_BASE, PackageHeader};

use crate::abi;
use crate::arch::smp::{self, CpuMemory};
use crate::arch::{
    self, acpi, apic, calibrate, clock, descriptor, early_serial, entry, features, fpu, ioapic,
    percpu, protect, regs,
};
use crate::cmdline::{self, Options};
use crate::drivers::{self, keyboard, rtc};
use crate::filesystems;
use crate::mm::frame::{ContiguousFrames, OutOfMemory};
use crate::mm::page_table::{self, DirectMap, PageTable};
use crate::mm::{PAGE_SIZE, PhysAddr, frame, heap, mmio, scattered, stack};
use crate::{process, sched, time, vm};

/// Free memory that start-up needs: with less, the first shell dies before its prompt.
const MIN_FRAMES: usize = (8 << 20) / PAGE_SIZE;

/// The kernel's first Rust code.
///
/// # Safety
/// Called once, by the loader, on the boot CPU, with interrupts off and the state that
/// docs/boot.md describes.
pub unsafe fn start(boot_info: &'static mut BootInfo) -> ! {
    let tsc_entry = arch::tsc();
    let stack_top = boot_info.kernel_stack_bottom + boot_info.kernel_stack_len;
    // SAFETY: first thing on the boot CPU.
    unsafe { percpu::install(0, arch::cpu::initial_apic_id(), stack_top) };
    crate::log::set_sink(early_serial::write);
    // SAFETY: the loader's state (caller); each step's order is given by the list.
    unsafe {
        // Exceptions are reported from here on.
        descriptor::load(None);
        init_screen(boot_info);
        if let Some(missing) = features::missing() {
            panic!("this processor has no {missing}, which Oxbow needs");
        }
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
    let tsc_memory = arch::tsc();
    let (options, tsc_loader) = init_cmdline(boot_info);
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
    if stats.total < MIN_FRAMES {
        panic!(
            "too little memory: {} MiB; Oxbow needs {} MiB beside its own image",
            stats.total / 256,
            MIN_FRAMES / 256
        );
    }
    let tsc_log = arch::tsc();
    let source = init_interrupts(boot_info, tsc_entry);
    // What came before there was a clock.
    let us = |from: u64, to: u64| {
        let ticks = u128::from(to.saturating_sub(from));
        ticks * 1_000_000 / u128::from(clock::tsc_hz().max(1))
    };
    debug!(
        "TSC {} kHz by {source:?}; us: loader {}, memory {}, log {}, clock {}",
        clock::tsc_hz() / 1000,
        us(tsc_loader.unwrap_or(tsc_entry), tsc_entry),
        us(tsc_entry, tsc_memory),
        us(tsc_memory, tsc_log),
        us(tsc_log, arch::tsc())
    );
    // They come up while this CPU goes on.
    let others = start_cpus(boot_info, options.max_cpus);
    // The boot stack becomes this CPU's idle thread.
    sched::init_cpu();
    clock::set_timer_handler(time::on_interrupt);
    time::set_ready();
    if let Err(e) = sched::start() {
        panic!("no scheduler: {e:?}");
    }
    let regions: &'static [MemoryRegion] = &boot_info.memory_regions;
    // What follows may sleep.
    if let Err(e) = sched::spawn_kernel("boot", move || {
        boot(&options, others);
        // What a large machine has beyond what it needs to boot.
        frame::init_rest(regions);
    }) {
        panic!("no boot thread: {e:?}");
    }
    sched::idle_loop()
}

/// The rest of the boot list, in a thread of its own.
fn boot(options: &Options<'static>, others: Option<Others>) {
    #[cfg(debug_assertions)]
    let others = {
        // The tests want all CPUs.
        if let Some(others) = others {
            release_cpus(&others);
        }
        None
    };
    #[cfg(debug_assertions)]
    for (name, value) in cmdline::words(cmdline::get()) {
        if name == "selftest" {
            selftest::run(value.unwrap_or(""));
        }
        if name == "stress" {
            stress::run(value.and_then(|v| v.parse().ok()).unwrap_or(1));
        }
    }
    if let Err(e) = vm::start() {
        panic!("no memory for programs: {e:?}");
    }
    // Random numbers for addresses, who dies when memory runs out, how many threads fit.
    process::init();
    // The wall clock, before the first file gets a time.
    if let Some(seconds) = rtc::read() {
        time::set_realtime_ns(seconds * time::NS_PER_SEC);
    }
    filesystems::init();
    console::start();
    // Before the cards, which become interfaces.
    let caller = crate::net::Caller {
        capable: |cap| process::current().cred().capable(cap),
        may_linger: || process::try_current().is_some_and(|t| t.try_files().is_some()),
    };
    if let Err(e) = crate::net::start(caller) {
        error!("no network: {e:?}");
    }
    drivers::start();
    // By now the others had the time to come up.
    let cpus = others.map_or_else(arch::nr_cpus, |others| release_cpus(&others));
    info!("{cpus} CPUs");
    debug!("{:?}", arch::features::features());
    if let Err(e) = root::mount(options) {
        panic!("no root filesystem: {e}");
    }
    info!("root filesystem mounted");
    match root::start_first(options) {
        Ok(()) => {
            info!("{} started", options.init);
            #[cfg(debug_assertions)]
            inject_failures();
            // It takes these signals for a wish to be switched off, or restarted.
            crate::power::on_power_button(|| signal_first(abi::SIGUSR2));
            keyboard::start(|| crate::power::ctrl_alt_del(|| signal_first(abi::SIGINT)));
            crate::screen::write("\nThe console is on the serial port.\n");
            // The console is the programs' now; the ring keeps everything (dmesg).
            if options.log_level.is_none() {
                crate::log::set_console_level(crate::log::Level::Error as u8);
            }
        }
        Err(e) => panic!("cannot start init={}: {e}", options.init),
    }
}

/// Sends the first process a signal of the kernel's own. From any context.
fn signal_first(signal: u32) {
    if let Some(init) = process::find(1) {
        process::signal::send_process(&init, process::SigInfo::kernel(signal));
    }
}

/// Messages on the screen, if the loader found one.
fn init_screen(boot_info: &mut BootInfo) {
    if let Some(buffer) = core::mem::replace(&mut boot_info.framebuffer, None.into()).into_option()
    {
        let info = buffer.info();
        crate::screen::init(
            buffer.into_buffer(),
            info.width,
            info.height,
            info.stride * info.bytes_per_pixel,
            info.bytes_per_pixel,
        );
        crate::log::set_screen(crate::screen::write);
    }
}

/// `failblock=`, `failframe=`: allocations that fail on purpose from here on.
#[cfg(debug_assertions)]
fn inject_failures() {
    use crate::mm::frame::inject;
    for (name, value) in cmdline::words(cmdline::get()) {
        let period = value.and_then(|v| v.parse().ok()).unwrap_or(0);
        match name {
            "failblock" => inject::BLOCKS.arm(period),
            "failframe" => inject::FRAMES.arm(period),
            _ => {}
        }
    }
}

/// Interrupt controllers, clock and timer, as the firmware's tables describe them.
fn init_interrupts(boot_info: &BootInfo, tsc_entry: u64) -> calibrate::Source {
    let end = boot_info
        .memory_regions
        .iter()
        .map(|r| r.end)
        .fold(1 << 32, u64::max);
    if let Some(rsdp) = boot_info.rsdp_addr.into_option() {
        acpi::publish(acpi::read(&DirectMapped { end }, rsdp));
    } else {
        warn!("no ACPI tables: one CPU, no interrupt lines");
    }
    apic::init_cpu();
    ioapic::init();
    let source = calibrate::init(tsc_entry);
    apic::init_timer();
    source
}

/// Physical memory below `end`, through the direct map.
struct DirectMapped {
    end: u64,
}

impl acpi::Physical for DirectMapped {
    fn bytes(&self, phys: u64, len: usize) -> Option<&[u8]> {
        if phys == 0 || phys.checked_add(len as u64)? > self.end {
            return None;
        }
        // SAFETY: the direct map covers RAM, the firmware's tables and the first 4 GiB; nobody
        // writes the tables. An address that lies in a hole above 4 GiB can only come from
        // firmware that names a table where it said there was no memory.
        Some(unsafe { core::slice::from_raw_parts(PhysAddr(phys).as_mut_ptr(), len) })
    }
}

/// CPUs that were started and are not yet released.
struct Others {
    apic_ids: Vec<u32>,
    low: u64,
}

/// Starts the other CPUs.
fn start_cpus(boot_info: &BootInfo, max: usize) -> Option<Others> {
    let own = arch::cpu::initial_apic_id();
    let ids: Vec<u32> = acpi::platform()
        .cpus
        .iter()
        .copied()
        .filter(|&id| id != own)
        .take(max - 1)
        .collect();
    if ids.is_empty() {
        return None;
    }
    let Some(low) = low_pages(boot_info) else {
        warn!("no low memory to start other CPUs in");
        return None;
    };
    let memory: Result<Vec<CpuMemory>, OutOfMemory> = ids.iter().map(|_| cpu_memory()).collect();
    let Ok(memory) = memory else {
        warn!("no memory to start other CPUs");
        return None;
    };
    // SAFETY: boot CPU, once; the low pages are unused RAM that the frame allocator does not
    // have; each CPU's memory is its own for ever.
    unsafe { smp::start(&ids, &memory, low, ap_main) };
    Some(Others { apic_ids: ids, low })
}

/// Waits for the other CPUs, asleep so that they get the host's cores, and lets them go.
fn release_cpus(others: &Others) -> usize {
    const TURN_NS: u64 = 300_000;
    const AGAIN_NS: u64 = 20_000_000;
    const LIMIT_NS: u64 = 2_000_000_000;
    let n = others.apic_ids.len();
    let begin = clock::now_ns();
    let mut again = begin + AGAIN_NS;
    while smp::nr_ready() < n && clock::now_ns() < begin + LIMIT_NS {
        if clock::now_ns() > again {
            smp::start_again(&others.apic_ids, others.low);
            again += AGAIN_NS;
        }
        // Nobody interrupts this thread.
        let _ = sched::sleep_until(clock::now_ns() + TURN_NS);
    }
    let cpus = smp::release();
    if cpus <= n {
        warn!("{} of {n} other CPUs did not start", n + 1 - cpus);
    }
    while SCHEDULING.load(Ordering::Acquire) < cpus - 1 {
        let _ = sched::sleep_until(clock::now_ns() + TURN_NS / 3);
    }
    cpus
}

/// First stack and IST stacks of a CPU.
fn cpu_memory() -> Result<CpuMemory, OutOfMemory> {
    let stack_top = stack::KernelStack::alloc()?.leak().0;
    let ist = ContiguousFrames::alloc(descriptor::IST_BYTES.div_ceil(PAGE_SIZE), None)?
        .leak()
        .to_virt()
        .0;
    Ok(CpuMemory { stack_top, ist })
}

/// Unused pages below 640 KiB, above what real-mode firmware keeps at the start.
fn low_pages(boot_info: &BootInfo) -> Option<u64> {
    const FIRST: u64 = 0x8000;
    const END: u64 = 0xa_0000;
    boot_info
        .memory_regions
        .iter()
        .filter(|r| r.kind == MemoryRegionKind::Usable)
        .find_map(|r| {
            let start = r.start.max(FIRST).next_multiple_of(PAGE_SIZE as u64);
            let end = start + (smp::LOW_PAGES * PAGE_SIZE) as u64;
            (end <= r.end.min(END)).then_some(start)
        })
}

/// What a CPU other than the boot CPU does when it is released.
fn ap_main(_cpu: usize) -> ! {
    heap::init_cpu();
    sched::init_cpu();
    SCHEDULING.fetch_add(1, Ordering::AcqRel);
    sched::idle_loop()
}

/// CPUs other than the boot CPU that run threads.
static SCHEDULING: AtomicUsize = AtomicUsize::new(0);

/// Frames, and the loader's page tables as the kernel's own without their lower half.
///
/// # Safety
/// Boot CPU, once, with the loader's `BootInfo` and page tables.
unsafe fn init_memory(boot_info: &BootInfo) {
    // SAFETY: the regions are the loader's (caller).
    if unsafe { frame::init(&boot_info.memory_regions) }.is_err() {
        panic!("no usable memory");
    }
    if !features::features().contains(features::Features::NX) {
        page_table::without_no_execute();
    }
    let root = PhysAddr(regs::cr3() & 0x000f_ffff_ffff_f000);
    for slot in 0..page_table::KERNEL_SLOT {
        // SAFETY: the root table is this CPU's alone; the direct map shows it.
        unsafe { root.as_mut_ptr::<u64>().add(slot).write(0) };
    }
    arch::tlb::flush_all();
    // SAFETY: the loader's root is live and nobody else's.
    let mut tables = unsafe { PageTable::from_root(root, DirectMap) };
    for slot in [stack::SLOT, scattered::SLOT, mmio::SLOT] {
        if tables.share_kernel_slots(slot..slot + 1).is_err() {
            panic!("no memory for page tables");
        }
    }
    page_table::set_kernel(tables);
}

/// The command line from the boot package, and when the loader began (TSC), if it says so.
fn init_cmdline(boot_info: &BootInfo) -> (Options<'static>, Option<u64>) {
    let package = boot_info.ramdisk_addr.into_option().and_then(|at| {
        // SAFETY: the loader's boot package, in the direct map, left alone for ever.
        let package =
            unsafe { core::slice::from_raw_parts(at as *const u8, boot_info.ramdisk_len as usize) };
        PackageHeader::parse(package)
    });
    let line = package.map_or("", |(_, line)| line);
    cmdline::set(String::from(line));
    let tsc = package.map(|(header, _)| header.tsc_loader);
    (Options::parse(cmdline::get()), tsc.filter(|&t| t != 0))
}
