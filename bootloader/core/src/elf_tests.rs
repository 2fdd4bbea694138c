//! Tests of the ELF checks, on a small kernel that is put together by hand.

use super::*;

/// Offsets in the file that [`sample`] returns.
pub const PHDRS: usize = 64;
const PH: usize = 56;
/// Where the sample's relocation table and dynamic section stand, in the file and in memory.
const RELA: usize = 0x400;
const DYNAMIC: usize = 0x3000;

pub fn put(file: &mut [u8], at: usize, value: u64, len: usize) {
    file[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
}

#[allow(clippy::too_many_arguments, reason = "the fields of a program header")]
fn phdr(
    file: &mut [u8],
    i: usize,
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
) {
    let at = PHDRS + i * PH;
    put(file, at, kind.into(), 4);
    put(file, at + 4, flags.into(), 4);
    put(file, at + 8, offset, 8);
    put(file, at + 16, vaddr, 8);
    put(file, at + 24, vaddr, 8);
    put(file, at + 32, filesz, 8);
    put(file, at + 40, memsz, 8);
    put(file, at + 48, 0x1000, 8);
}

/// R at 0..0x500, RX at 0x1000.., RW (relro 0x3000..0x4000) at 0x3000..0x6800 with bss.
pub fn sample() -> Vec<u8> {
    let mut f = vec![0u8; 0x4800];
    f[..4].copy_from_slice(b"\x7fELF");
    f[4] = 2;
    f[5] = 1;
    f[6] = 1;
    put(&mut f, 16, 3, 2);
    put(&mut f, 18, 62, 2);
    put(&mut f, 20, 1, 4);
    put(&mut f, 24, 0x1010, 8);
    put(&mut f, 32, PHDRS as u64, 8);
    put(&mut f, 52, 64, 2);
    put(&mut f, 54, PH as u64, 2);
    put(&mut f, 56, 5, 2);
    phdr(&mut f, 0, elf::PT_LOAD, elf::PF_R, 0, 0, 0x500, 0x500);
    phdr(
        &mut f,
        1,
        elf::PT_LOAD,
        elf::PF_R | elf::PF_X,
        0x1000,
        0x1000,
        0x1800,
        0x1800,
    );
    phdr(
        &mut f,
        2,
        elf::PT_LOAD,
        elf::PF_R | elf::PF_W,
        0x3000,
        0x3000,
        0x1800,
        0x3800,
    );
    phdr(
        &mut f,
        3,
        elf::PT_DYNAMIC,
        elf::PF_R | elf::PF_W,
        0x3000,
        0x3000,
        0x40,
        0x40,
    );
    phdr(
        &mut f,
        4,
        elf::PT_GNU_RELRO,
        elf::PF_R,
        0x3000,
        0x3000,
        0x1000,
        0x1000,
    );
    for (i, (offset, addend)) in [(0x3100u64, 0x1010u64), (0x4100, 0x3000)]
        .into_iter()
        .enumerate()
    {
        put(&mut f, RELA + i * 24, offset, 8);
        put(&mut f, RELA + i * 24 + 8, elf::R_X86_64_RELATIVE.into(), 8);
        put(&mut f, RELA + i * 24 + 16, addend, 8);
    }
    let dynamic = [
        (elf::DT_RELA, RELA as u64),
        (elf::DT_RELASZ, 48),
        (elf::DT_RELAENT, 24),
        (elf::DT_NULL, 0),
    ];
    for (i, (tag, value)) in dynamic.into_iter().enumerate() {
        put(&mut f, DYNAMIC + i * 16, tag.into(), 8);
        put(&mut f, DYNAMIC + i * 16 + 8, value, 8);
    }
    f[0x1010] = 0xf4;
    f[0x47ff] = 0x77;
    f
}

#[test]
fn a_good_kernel_is_placed_and_relocated() {
    let file = sample();
    let kernel = Kernel::parse(&file).unwrap();
    assert_eq!(kernel.span(), 0..0x7000);
    let mut image = vec![0xaa; 0x7000];
    let slide = 0xffff_ffff_8000_0000u64;
    kernel.place(&mut image, slide);
    assert_eq!(image[0x1010], 0xf4);
    assert_eq!(image[0x3100..0x3108], (slide + 0x1010).to_le_bytes());
    assert_eq!(image[0x4100..0x4108], (slide + 0x3000).to_le_bytes());
    assert_eq!(image[0x47ff], 0x77);
    assert!(image[0x500..0x1000].iter().all(|b| *b == 0), "gap");
    assert!(image[0x4800..].iter().all(|b| *b == 0), "bss");
    let ranges: Vec<_> = kernel.ranges().collect();
    assert_eq!(
        ranges,
        [
            (0..0x1000, Access::Read),
            (0x1000..0x3000, Access::Execute),
            (0x3000..0x4000, Access::Read),
            (0x4000..0x7000, Access::Write),
        ]
    );
}

/// One field of the sample changed, and what must come of it.
#[test]
fn every_malformed_field_has_its_error() {
    let ph = |i: usize, field: usize| PHDRS + i * PH + field;
    let cases: &[(usize, u64, usize, ElfError)] = &[
        (0, 0, 1, ElfError::BadMagic),
        (4, 1, 1, ElfError::NotElf64),
        (5, 2, 1, ElfError::NotElf64),
        (16, 2, 2, ElfError::NotPie(2)),
        (18, 183, 2, ElfError::WrongMachine(183)),
        (32, 0x1_0000, 8, ElfError::BadProgramHeaders),
        (32, u64::MAX, 8, ElfError::BadProgramHeaders),
        (54, 32, 2, ElfError::BadProgramHeaders),
        (56, 0xffff, 2, ElfError::BadProgramHeaders),
        (56, 0, 2, ElfError::NoSegments),
        (24, 0x3000, 8, ElfError::BadEntry),
        (24, 0x2800, 8, ElfError::BadEntry),
        (ph(4, 0), elf::PT_INTERP as u64, 4, ElfError::Interpreter),
        (ph(2, 8), 0x4000, 8, ElfError::SegmentOutsideFile),
        (ph(2, 8), u64::MAX, 8, ElfError::SegmentOutsideFile),
        (ph(2, 40), 0x1000, 8, ElfError::SegmentSize),
        (ph(2, 40), 0x1_0000_0000, 8, ElfError::SegmentAddress),
        (ph(2, 40), u64::MAX, 8, ElfError::SegmentAddress),
        (ph(2, 16), u64::MAX - 5, 8, ElfError::SegmentAddress),
        (ph(2, 16), 0x2fff, 8, ElfError::SegmentsOverlap),
        (ph(1, 16), 0x400, 8, ElfError::SegmentsOverlap),
        (ph(1, 4), 7, 4, ElfError::WritableCode),
        (ph(3, 32), 0x9000, 8, ElfError::BadDynamic),
        (ph(3, 16), 0x9000, 8, ElfError::BadDynamic),
        (DYNAMIC + 8, 0x9000, 8, ElfError::BadDynamic),
        (DYNAMIC + 8, 0x4ffffff0, 8, ElfError::BadDynamic),
        (DYNAMIC + 24, 47, 8, ElfError::BadDynamic),
        (DYNAMIC + 24, u64::MAX, 8, ElfError::BadDynamic),
        (DYNAMIC + 40, 16, 8, ElfError::BadDynamic),
        (DYNAMIC, elf::DT_NEEDED as u64, 8, ElfError::BadDynamic),
        (
            RELA + 8,
            elf::R_X86_64_64.into(),
            8,
            ElfError::UnsupportedRelocation(1),
        ),
        (RELA, 0x67fc, 8, ElfError::RelocationOutside),
        (RELA, u64::MAX, 8, ElfError::RelocationOutside),
        (RELA, 0x800, 8, ElfError::RelocationOutside),
    ];
    for (at, value, len, expected) in cases {
        let mut file = sample();
        put(&mut file, *at, *value, *len);
        assert_eq!(
            Kernel::parse(&file).err(),
            Some(*expected),
            "{value:#x} at {at:#x}"
        );
    }
}

#[test]
fn too_many_segments() {
    let mut file = sample();
    let mut table = Vec::new();
    for i in 0..17u64 {
        let mut ph = vec![0u8; PHDRS + PH];
        phdr(&mut ph, 0, elf::PT_LOAD, elf::PF_R, 0, i * 0x1000, 8, 8);
        table.extend_from_slice(&ph[PHDRS..]);
    }
    let at = file.len() as u64;
    file.extend(table);
    put(&mut file, 32, at, 8);
    put(&mut file, 56, 17, 2);
    assert_eq!(Kernel::parse(&file).err(), Some(ElfError::TooManySegments));
}

/// Neither truncation nor any flipped byte in the tables makes the parser or the placement
/// panic.
#[test]
fn no_damage_panics() {
    let good = sample();
    for len in 0..good.len() {
        if let Ok(kernel) = Kernel::parse(&good[..len]) {
            panic!("{len} bytes parsed as {kernel:?}");
        }
    }
    let tables = (0..PHDRS + 5 * PH)
        .chain(RELA..RELA + 48)
        .chain(DYNAMIC..DYNAMIC + 64);
    for at in tables {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut file = good.clone();
            file[at] = value;
            if let Ok(kernel) = Kernel::parse(&file) {
                let span = kernel.span();
                let mut image = vec![0; (span.end - span.start) as usize];
                kernel.place(&mut image, 0);
                assert!(
                    kernel
                        .ranges()
                        .all(|(r, _)| span.start <= r.start && r.end <= span.end)
                );
            }
        }
    }
}
