//! The second stage's order of work.

use crate::disk::BiosDisk;
use crate::{firmware, real_mode, video};
use bootloader_api::info::MemoryRegion;
use core::fmt::{self, Write};
use core::ops::Range;
use oxbow_handover::Firmware;
use oxbow_loader_core::arena::Arena;
use oxbow_loader_core::cpu::{self, Features};
use oxbow_loader_core::disk::SECTOR;
use oxbow_loader_core::elf::Kernel;
use oxbow_loader_core::fat::{Fat, FatError, Node};
use oxbow_loader_core::load::{self, Loaded, MAX_CMDLINE, Request};
use oxbow_loader_core::memory::{self, RegionList};
use oxbow_loader_core::seal::Sealed;
use oxbow_loader_core::serial::Serial;
use oxbow_loader_core::{LoadError, PAGE_SIZE, align_down, align_up, gpt, jump};

const KERNEL: &str = "/oxbow/kernel";
const CMDLINE: &str = "/oxbow/cmdline";
/// What the loader's own page tables map.
const REACH: u64 = 1 << 32;
/// Most regions an E820 map has, as stored here; the list says when it is full.
const MAX_E820: usize = 256;

/// Called by `boot.s` in long mode.
#[unsafe(no_mangle)]
extern "sysv64" fn bios_main() -> ! {
    match boot() {
        Err(error) => die(format_args!("{error}")),
        Ok(never) => match never {},
    }
}

fn boot() -> Result<core::convert::Infallible, LoadError> {
    let mut storage = [MemoryRegion::empty(); MAX_E820];
    let mut list = RegionList::new(&mut storage);
    firmware::memory_map(&mut list)?;
    let e820 = list.as_slice();
    let mut sorted = [MemoryRegion::empty(); MAX_E820];
    let nr_sorted = memory::build(e820, &[], &mut sorted)?;
    let block = memory::largest_usable(&sorted[..nr_sorted], REACH);

    let mut disk = BiosDisk::new();
    let partition = gpt::find(&mut disk, &gpt::TYPE_ESP)?;
    let mut fat = Fat::mount(&mut disk, partition)?;
    let dir = fat.directory("OXBOW").map_err(|e| missing(KERNEL, e))?;

    let mut cmdline_buf = [0; MAX_CMDLINE.next_multiple_of(SECTOR)];
    let cmdline = match fat.file(dir, "CMDLINE") {
        Ok(node) if node.len() > MAX_CMDLINE => return Err(LoadError::CmdlineTooLong),
        Ok(node) => fat
            .read(node, &mut cmdline_buf)
            .map_err(|e| LoadError::File(CMDLINE, e))?,
        Err(e) => return Err(missing(CMDLINE, e)),
    };
    let cmdline = load::cmdline(cmdline)?;

    let node: Node = fat.file(dir, "KERNEL").map_err(|e| missing(KERNEL, e))?;
    let (block, buffer) = take_top(block, node.len().next_multiple_of(SECTOR))?;
    let file = fat
        .read(node, buffer)
        .map_err(|e| LoadError::File(KERNEL, e))?;
    let sealed = Sealed::check(file)?;
    let (block, buffer) = take_top(block, sealed.unpacked_len())?;
    let kernel = Kernel::parse(sealed.unpack(buffer)?)?;

    let mode = video::pick();
    let features = Features::detect();
    let request = Request {
        kernel: &kernel,
        cmdline,
        firmware: Firmware::Bios,
        features,
        memory: e820,
        screen: mode.map(|m| m.screen),
        rsdp: firmware::rsdp(),
        trampoline: jump::trampoline(),
        tsc_loader: real_mode::tsc_at_start(),
    };
    let mut loaded = load_into(&request, block)?;
    if mode.is_some_and(|m| !video::set(&m)) {
        loaded.forget_screen();
    }
    let handover = loaded.finish(e820, cpu::tsc())?;
    // SAFETY: the loader runs at level 0 and one-to-one in writable pages; `handover` comes
    // from `finish`, with the trampoline in the request.
    unsafe {
        cpu::enable_protection(features);
        jump::enter(&handover)
    }
}

fn missing(name: &'static str, error: FatError) -> LoadError {
    match error {
        FatError::NotFound => LoadError::Missing(name),
        other => LoadError::File(name, other),
    }
}

/// Cuts `len` bytes off the top of `block`, a free range below [`REACH`].
fn take_top(block: Range<u64>, len: usize) -> Result<(Range<u64>, &'static mut [u8]), LoadError> {
    let start = block
        .end
        .checked_sub(len as u64)
        .map(|start| align_down(start, PAGE_SIZE))
        .filter(|start| *start >= block.start)
        .ok_or(LoadError::OutOfMemory(len as u64))?;
    // SAFETY: free memory by the BIOS's map, above 1 MiB and so not the loader's, mapped
    // one-to-one, and cut off the block so that nobody else gets it.
    let bytes = unsafe { core::slice::from_raw_parts_mut(start as *mut u8, len) };
    Ok((block.start..start, bytes))
}

fn load_into(request: &Request, block: Range<u64>) -> Result<Loaded<'static>, LoadError> {
    let len = load::arena_len(request);
    let start = align_up(block.start, PAGE_SIZE);
    if block.end.saturating_sub(start) < len {
        return Err(LoadError::OutOfMemory(len));
    }
    // SAFETY: as in `take_top`; the rest of the block is used for nothing else.
    let bytes = unsafe { core::slice::from_raw_parts_mut(start as *mut u8, len as usize) };
    load::load(request, Arena::new(start, bytes))
}

/// Says why on the serial port and on the screen, and stops.
fn die(why: fmt::Arguments) -> ! {
    // SAFETY: level 0, and the BIOS does not use the port by itself.
    let mut serial = unsafe { Serial::init() };
    let _ = write!(
        video::Text,
        "\noxbow loader: {why}\nThe system is halted.\n"
    );
    let _ = write!(serial, "\noxbow loader: {why}\nThe system is halted.\n");
    cpu::halt()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    die(format_args!("internal error: {}", info.message()))
}
