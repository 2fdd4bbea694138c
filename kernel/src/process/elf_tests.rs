use super::*;

struct Ph {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
}

const R: u32 = 4;
const RW: u32 = 6;
const RX: u32 = 5;

fn load(flags: u32, offset: u64, vaddr: u64, filesz: u64, memsz: u64) -> Ph {
    Ph {
        kind: e::PT_LOAD,
        flags,
        offset,
        vaddr,
        filesz,
        memsz,
    }
}

fn header(kind: u32, entry: u64, nr: u16) -> [u8; 64] {
    let mut h = [0u8; 64];
    h[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    h[16..18].copy_from_slice(&(kind as u16).to_le_bytes());
    h[18..20].copy_from_slice(&62u16.to_le_bytes());
    h[24..32].copy_from_slice(&entry.to_le_bytes());
    h[32..40].copy_from_slice(&64u64.to_le_bytes());
    h[54..56].copy_from_slice(&56u16.to_le_bytes());
    h[56..58].copy_from_slice(&nr.to_le_bytes());
    h
}

fn parse(kind: u32, entry: u64, phs: &[Ph], size: u64) -> Result<Image> {
    let header = Header::parse(&header(kind, entry, phs.len() as u16))?;
    let mut bytes = Vec::new();
    for p in phs {
        bytes.extend_from_slice(&p.kind.to_le_bytes());
        bytes.extend_from_slice(&p.flags.to_le_bytes());
        for v in [p.offset, p.vaddr, p.vaddr, p.filesz, p.memsz, 0x1000] {
            bytes.extend_from_slice(&v.to_le_bytes());
        }
    }
    Image::parse(header, &bytes, size)
}

fn exec(phs: &[Ph]) -> Result<Image> {
    parse(e::ET_EXEC, 0x40_1000, phs, 0x10_0000)
}

#[test]
fn ordinary_static_program() {
    let i = exec(&[
        load(R, 0, 0x40_0000, 0x800, 0x800),
        load(RX, 0x1000, 0x40_1000, 0x1234, 0x1234),
        load(RW, 0x3010, 0x40_4010, 0x100, 0x3000),
    ])
    .unwrap();
    assert_eq!((i.start, i.end), (0x40_0000, 0x40_7010));
    assert_eq!(i.phdr_addr, Some(0x40_0040));
    assert_eq!(i.zero, [(0x40_4110, 0x40_5000)]);
    let m: Vec<_> = i
        .mappings
        .iter()
        .map(|m| (m.start, m.end, m.file_offset))
        .collect();
    assert_eq!(
        m,
        [
            (0x40_0000, 0x40_1000, Some(0)),
            (0x40_1000, 0x40_3000, Some(0x1000)),
            (0x40_4000, 0x40_5000, Some(0x3000)),
            (0x40_5000, 0x40_8000, None),
        ]
    );
}

#[test]
fn segments_may_share_a_page_of_the_file() {
    let i = exec(&[
        load(RX, 0, 0x40_0000, 0x1800, 0x1800),
        load(R, 0x1800, 0x40_1800, 0x1000, 0x1000),
    ])
    .unwrap();
    assert_eq!(i.mappings.len(), 3);
    assert_eq!(i.mappings[1].prot, Prot::READ | Prot::EXEC);
    assert_eq!(i.mappings[1].file_offset, Some(0x1000));
    assert_eq!(i.mappings[2].start, 0x40_2000);
    // The shared page would be writable and executable.
    let wx = exec(&[
        load(RX, 0, 0x40_0000, 0x1800, 0x1800),
        load(RW, 0x1800, 0x40_1800, 0x1000, 0x1000),
    ]);
    assert_eq!(wx, Err(Errno::ENOEXEC));
}

#[test]
fn hostile_headers_are_refused() {
    let text = || load(RX, 0x1000, 0x40_1000, 0x1000, 0x1000);
    let bad = [
        load(7, 0x2000, 0x40_2000, 0x1000, 0x1000),  // W+X
        load(RW, 0x2000, 0x40_1800, 0x1000, 0x1000), // overlap
        load(RW, 0x2000, 0x40_3000, 0x2000, 0x1000), // filesz > memsz
        load(RW, 0x2001, 0x40_3000, 0x1000, 0x1000), // offset not congruent
        load(RW, 0x2000, 0xffff_8000_0000_0000, 0x1000, 0x1000), // kernel address
        load(RW, 0x2000, 0x7fff_ffff_f000, 0x1000, 0x1000), // end of the user half
        load(RW, 0x2000, 0x40_3000, 0x1000, u64::MAX - 0x1000), // wraps
        load(RW, u64::MAX - 0xfff, 0x40_3000, 0x1000, 0x1000), // file offset wraps
        load(RW, 0x10_0000, 0x40_3000, 0x1000, 0x1000), // past the end of the file
    ];
    for (n, b) in bad.into_iter().enumerate() {
        assert_eq!(exec(&[text(), b]), Err(Errno::ENOEXEC), "case {n}");
    }
    assert_eq!(
        exec(&[load(RX, 0, 0x8000, 0x1000, 0x1000)]),
        Err(Errno::ENOEXEC)
    );
    assert!(exec(&[]).is_err());
    // Entry outside executable segments.
    assert_eq!(
        parse(
            e::ET_EXEC,
            0x50_0000,
            &[load(RX, 0x1000, 0x40_1000, 0x1000, 0x1000)],
            0x10000
        ),
        Err(Errno::ENOEXEC)
    );
}

#[test]
fn static_pie_starts_at_zero() {
    let i = parse(
        e::ET_DYN,
        0x1000,
        &[
            load(R, 0, 0, 0x500, 0x500),
            load(RX, 0x1000, 0x1000, 0x10, 0x10),
        ],
        0x2000,
    )
    .unwrap();
    assert!(i.header.relocatable);
    assert_eq!((i.start, i.phdr_addr, i.interp), (0, Some(0x40), None));
}

#[test]
fn file_header_checks() {
    let good = header(e::ET_EXEC, 0, 1);
    assert!(Header::parse(&good).is_ok());
    assert!(Header::parse(&good[..63]).is_err());
    for at in [0, 4, 5, 6, 16, 18, 54] {
        let mut h = good;
        h[at] = h[at].wrapping_add(3);
        assert_eq!(Header::parse(&h), Err(Errno::ENOEXEC), "byte {at}");
    }
    assert!(Header::parse(&header(e::ET_EXEC, 0, 0)).is_err());
}

#[test]
fn interpreter_range_stays_in_the_file() {
    let interp = |offset, filesz| Ph {
        kind: e::PT_INTERP,
        flags: R,
        offset,
        vaddr: 0,
        filesz,
        memsz: filesz,
    };
    let with = |p| exec(&[p, load(RX, 0x1000, 0x40_1000, 0x1000, 0x1000)]);
    assert_eq!(
        with(interp(0x200, 0x1c)).unwrap().interp,
        Some((0x200, 0x1c))
    );
    assert!(with(interp(0x200, 1)).is_err());
    assert!(with(interp(0xf_fff0, 0x1c)).is_err());
    assert!(with(interp(u64::MAX, 0x1c)).is_err());
}
