//! Tests of the whole hand-over on the host: what the kernel would find.

use super::*;
use crate::elf::tests::sample;
use crate::paging::tests::walk;
use bootloader_api::info::PixelFormat;

const ARENA: u64 = 0x20_0000;

fn map() -> Vec<MemoryRegion> {
    let region = |start, end, kind| MemoryRegion { start, end, kind };
    vec![
        region(0x1_0000_0000, 0x1_4000_0000, MemoryRegionKind::Usable),
        region(0, 0x9f000, MemoryRegionKind::Usable),
        region(0x10_0000, 0x800_0000, MemoryRegionKind::Usable),
        region(0xfffc_0000, 0x1_0000_0000, MemoryRegionKind::UnknownBios(2)),
        region(
            0xfd_0000_0000,
            0x100_0000_0000,
            MemoryRegionKind::UnknownBios(2),
        ),
    ]
}

fn request<'a>(kernel: &'a Kernel<'a>, memory: &'a [MemoryRegion]) -> Request<'a> {
    Request {
        kernel,
        cmdline: "console=ttyS0",
        firmware: Firmware::Bios,
        features: Features {
            nx: true,
            gib_pages: false,
        },
        memory,
        screen: Some(Screen {
            phys: 0x80_0000_0000,
            info: FrameBufferInfo {
                byte_len: 1024 * 768 * 4,
                width: 1024,
                height: 768,
                pixel_format: PixelFormat::Bgr,
                bytes_per_pixel: 4,
                stride: 1024,
            },
        }),
        rsdp: Some(0xf5a40),
        trampoline: 0x8ff0..0x9030,
        tsc_loader: 7,
    }
}

#[test]
fn the_kernel_finds_what_it_was_promised() {
    let file = sample();
    let kernel = Kernel::parse(&file).unwrap();
    let memory_map = map();
    let request = request(&kernel, &memory_map);
    // Words, so that the arena is aligned for the structures in it.
    let mut memory = vec![0x5555_5555_5555_5555u64; arena_len(&request) as usize / 8];
    // SAFETY: any bytes are valid, and the vector outlives the slice.
    let bytes = unsafe {
        core::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), memory.len() * 8)
    };
    let loaded = load(&request, Arena::new(ARENA, bytes)).unwrap();
    let (info_piece, regions_piece, package) = (loaded.info, loaded.regions, loaded.package);
    let used = loaded.arena.used();
    let handover = loaded.finish(&memory_map, 99).unwrap();
    assert_eq!(handover.entry, KERNEL_BASE + 0x1010);
    assert_eq!(handover.boot_info, DIRECT_MAP_BASE + info_piece.phys);

    // SAFETY: `finish` wrote a `BootInfo` and the regions there; the buffer is aligned.
    let info = unsafe { &*bytes.as_ptr().add(info_piece.offset).cast::<BootInfo>() };
    assert_eq!(
        info.physical_memory_offset.into_option(),
        Some(DIRECT_MAP_BASE)
    );
    assert_eq!(info.rsdp_addr.into_option(), Some(0xf5a40));
    assert_eq!(info.kernel_image_offset, KERNEL_BASE);
    assert_eq!(
        info.ramdisk_addr.into_option(),
        Some(DIRECT_MAP_BASE + package.phys)
    );
    let at = &bytes[package.offset..][..info.ramdisk_len as usize];
    let (header, cmdline) = PackageHeader::parse(at).unwrap();
    assert_eq!(
        (cmdline, header.tsc_loader, header.tsc_handover),
        ("console=ttyS0", 7, 99)
    );
    // SAFETY: as above.
    let regions = unsafe {
        core::slice::from_raw_parts(
            bytes
                .as_ptr()
                .add(regions_piece.offset)
                .cast::<MemoryRegion>(),
            6,
        )
    };
    assert!(regions.windows(2).all(|w| w[0].end <= w[1].start));
    let ours = regions
        .iter()
        .find(|r| r.kind == MemoryRegionKind::Bootloader)
        .unwrap();
    assert_eq!((ours.start, ours.end), (used.start, used.end));

    let mut arena = Arena::new(ARENA, bytes);
    let root = handover.page_table;
    let mut at = |virt| walk(&mut arena, root, virt);
    assert_eq!(at(KERNEL_BASE), Some((ARENA, 4096, false, false)));
    assert_eq!(
        at(KERNEL_BASE + 0x1000),
        Some((ARENA + 0x1000, 4096, false, true))
    );
    assert_eq!(
        at(KERNEL_BASE + 0x3000),
        Some((ARENA + 0x3000, 4096, false, false))
    );
    assert_eq!(
        at(KERNEL_BASE + 0x4000),
        Some((ARENA + 0x4000, 4096, true, false))
    );
    let bottom = handover.stack_top - STACK_LEN;
    assert_eq!(at(bottom - 1), None, "guard page");
    assert_eq!(
        at(bottom - 0x1001),
        Some((ARENA + 0x6fff, 4096, true, false)),
        "end of the image"
    );
    assert_eq!(
        at(handover.stack_top - 8),
        Some((ARENA + 0x7000 + STACK_LEN - 8, 4096, true, false))
    );
    assert_eq!(at(handover.stack_top), None);
    assert_eq!(at(0x8ff0), Some((0x8ff0, 4096, false, true)));
    assert_eq!(at(0x9000), Some((0x9000, 4096, false, true)));
    assert_eq!(at(0xa000), None);
    for phys in [0, 0xfee0_0000, 0x1_3fff_ffff, 0x80_0000_0000] {
        assert_eq!(
            at(DIRECT_MAP_BASE + phys),
            Some((phys, 2 << 20, true, false))
        );
    }
    assert_eq!(at(DIRECT_MAP_BASE + 0x1_4000_0000), None);
    assert_eq!(at(DIRECT_MAP_BASE + 0xfd_0000_0000), None);
}

#[test]
fn a_small_arena_is_an_error_at_every_size() {
    let file = sample();
    let kernel = Kernel::parse(&file).unwrap();
    let memory_map = map();
    let request = request(&kernel, &memory_map);
    let full = arena_len(&request) as usize;
    let mut memory = vec![0u8; full];
    let fits = (0..full)
        .step_by(4096)
        .filter(|len| load(&request, Arena::new(ARENA, &mut memory[..*len])).is_ok())
        .count();
    assert!(fits < 32, "the estimate is {fits} pages too large");
    assert!(load(&request, Arena::new(ARENA, &mut memory)).is_ok());
}

#[test]
fn command_lines_are_checked() {
    assert_eq!(
        cmdline(b"root=/dev/vda3 quiet \r\n"),
        Ok("root=/dev/vda3 quiet")
    );
    assert_eq!(cmdline(b""), Ok(""));
    assert_eq!(cmdline(b"\xff"), Err(LoadError::CmdlineNotText));
    assert_eq!(
        cmdline(&[b'a'; MAX_CMDLINE + 1]),
        Err(LoadError::CmdlineTooLong)
    );
}
