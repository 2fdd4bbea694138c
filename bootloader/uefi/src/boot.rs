//! The order of work.

use crate::{files, firmware};
use bootloader_api::info::MemoryRegion;
use core::convert::Infallible;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use oxbow_handover::Firmware;
use oxbow_loader_core::arena::Arena;
use oxbow_loader_core::cpu::{self, Features};
use oxbow_loader_core::disk::SECTOR;
use oxbow_loader_core::elf::Kernel;
use oxbow_loader_core::load::{self, MAX_CMDLINE, Request};
use oxbow_loader_core::memory::{self, MAX_REGIONS, RegionList};
use oxbow_loader_core::seal::Sealed;
use oxbow_loader_core::serial::Serial;
use oxbow_loader_core::{LoadError, jump};
use uefi::prelude::*;

/// Boot services are gone: no more text on the screen.
static ON_OUR_OWN: AtomicBool = AtomicBool::new(false);

#[entry]
fn main() -> Status {
    match boot(cpu::tsc()) {
        Err(error) => die(format_args!("{error}")),
        Ok(never) => match never {},
    }
}

fn boot(tsc_loader: u64) -> Result<Infallible, LoadError> {
    // The firmware resets machines whose loader takes five minutes; an error message has to
    // stay longer. Firmware without a watchdog refuses, which is as well.
    let _ = uefi::boot::set_watchdog_timer(0, 0x1_0000, None);
    // SAFETY: UEFI applications run at level 0.
    if unsafe { cpu::five_level_paging() } {
        return Err(LoadError::FiveLevelPaging);
    }

    let mut volume = files::Volume::open()?;
    let mut cmdline_buf = [0; MAX_CMDLINE + SECTOR];
    let len = volume.read(
        "/oxbow/cmdline",
        cstr16!("\\oxbow\\cmdline"),
        &mut cmdline_buf,
    )?;
    let cmdline = load::cmdline(&cmdline_buf[..len])?;
    let file = volume.read_whole("/oxbow/kernel", cstr16!("\\oxbow\\kernel"))?;
    let sealed = Sealed::check(file)?;
    let (_, buffer) = firmware::allocate((sealed.unpacked_len() as u64).max(1))?;
    let kernel = Kernel::parse(sealed.unpack(buffer)?)?;

    let features = Features::detect();
    let mut storage = [MemoryRegion::empty(); MAX_REGIONS];
    let mut list = RegionList::new(&mut storage);
    firmware::regions(&firmware::memory_map()?, &mut list)?;
    let request = Request {
        kernel: &kernel,
        cmdline,
        firmware: Firmware::Uefi,
        features,
        memory: list.as_slice(),
        screen: firmware::screen(),
        rsdp: firmware::rsdp(),
        trampoline: jump::trampoline(),
        tsc_loader,
    };
    let len = load::arena_len(&request);
    let (phys, memory) = firmware::allocate(len)?;
    let loaded = load::load(&request, Arena::new(phys, memory))?;
    // The map changes by a few entries until the end; better to learn now that it is too long.
    let mut probe = [MemoryRegion::empty(); MAX_REGIONS];
    memory::build(list.as_slice(), &[], &mut probe)?;

    drop(volume);
    ON_OUR_OWN.store(true, Ordering::Relaxed);
    // SAFETY: no protocol is open any more, and nothing below calls boot services.
    let map = unsafe { uefi::boot::exit_boot_services(None) };
    let mut list = RegionList::new(&mut storage);
    firmware::regions(&map, &mut list)?;
    let handover = loaded.finish(list.as_slice(), cpu::tsc())?;
    // SAFETY: UEFI runs one-to-one at level 0, and this program writes to no page that the
    // firmware made read-only; `handover` comes from `finish`, with the trampoline in the
    // request, and `switch` turns interrupts off.
    unsafe {
        cpu::enable_protection(features);
        jump::enter(&handover)
    }
}

/// Says why on the serial port and on the screen, and stops.
fn die(why: fmt::Arguments) -> ! {
    if !ON_OUR_OWN.load(Ordering::Relaxed) {
        uefi::system::with_stdout(|out| {
            let _ = write!(out, "\noxbow loader: {why}\nThe system is halted.\n");
        });
    }
    // SAFETY: level 0; the firmware's console may use the port too, but only when called.
    let mut serial = unsafe { Serial::init() };
    let _ = write!(serial, "\noxbow loader: {why}\nThe system is halted.\n");
    cpu::halt()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    die(format_args!("internal error: {}", info.message()))
}
