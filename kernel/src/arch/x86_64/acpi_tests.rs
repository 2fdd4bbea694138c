use super::*;
use std::vec;

/// Memory from address 0.
struct Ram(Vec<u8>);

impl Physical for Ram {
    fn bytes(&self, phys: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(phys).ok()?;
        self.0.get(start..start.checked_add(len)?)
    }
}

fn fix(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    let sum = bytes.iter().fold(0u8, |s, &b| s.wrapping_add(b));
    bytes[at] = sum.wrapping_neg();
}

fn table_with(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut t = vec![0; HEADER];
    t[..4].copy_from_slice(name);
    t.extend_from_slice(body);
    let len = t.len() as u32;
    t[4..8].copy_from_slice(&len.to_le_bytes());
    fix(&mut t, 9);
    t
}

/// RSDP at 0, RSDT at 0x100, `tables` from 0x1000 on, a page each.
fn machine(tables: &[Vec<u8>]) -> Ram {
    let mut ram = vec![0; 0x1000 * (tables.len() + 2)];
    let mut rsdp = vec![0; 20];
    rsdp[..8].copy_from_slice(b"RSD PTR ");
    rsdp[16..20].copy_from_slice(&0x100u32.to_le_bytes());
    fix(&mut rsdp, 8);
    ram[..20].copy_from_slice(&rsdp);
    let mut pointers = Vec::new();
    for (i, t) in tables.iter().enumerate() {
        let at = 0x1000 * (i + 1);
        ram[at..at + t.len()].copy_from_slice(t);
        pointers.extend_from_slice(&(at as u32).to_le_bytes());
    }
    let rsdt = table_with(b"RSDT", &pointers);
    ram[0x100..0x100 + rsdt.len()].copy_from_slice(&rsdt);
    Ram(ram)
}

fn madt_body() -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    body.extend([0, 8, 1, 3, 1, 0, 0, 0]);
    body.extend([0, 8, 2, 4, 0, 0, 0, 0]);
    body.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 9, 20, 0, 0, 0, 0xf, 0]);
    body
}

#[test]
fn madt_lists_enabled_cpus_and_controllers() {
    let p = read(&machine(&[table_with(b"APIC", &madt_body())]), 0);
    assert_eq!(p.cpus, [0, 3]);
    assert_eq!(
        p.io_apics,
        [IoApic {
            address: 0xfec0_0000,
            gsi_base: 0
        }]
    );
    assert_eq!(
        p.overrides,
        [Override {
            irq: 9,
            gsi: 20,
            trigger: Trigger::Level,
            polarity: Polarity::Low
        }]
    );
}

#[test]
fn every_truncation_and_every_broken_byte_is_survived() {
    let mut fadt_body = vec![0; 240];
    fadt_body[40 - HEADER..44 - HEADER].copy_from_slice(&0x3000u32.to_le_bytes());
    let dsdt = [
        b"....\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x06\x00\x00".as_slice(),
        &[0; 8],
    ]
    .concat();
    let good = machine(&[
        table_with(b"APIC", &madt_body()),
        table_with(b"FACP", &fadt_body),
        table_with(b"DSDT", &dsdt),
        table_with(b"HPET", &[0; 20]),
        table_with(b"MCFG", &[1; 30]),
    ]);
    assert_eq!(read(&good, 0).power.soft_off, Some((5, 6)));
    assert_eq!(read(&good, 0).config_spaces.len(), 1);
    for len in (0..good.0.len()).step_by(7) {
        read(&Ram(good.0[..len].to_vec()), 0);
    }
    for at in 0..good.0.len() {
        if good.0[at] == 0 && at % 16 != 0 {
            continue;
        }
        let mut bad = good.0.clone();
        bad[at] ^= 0xff;
        read(&Ram(bad), 0);
    }
    for rsdp in [1, 0xfff, u64::MAX] {
        assert_eq!(read(&good, rsdp), Platform::default());
    }
}

#[test]
fn entries_of_length_zero_end_the_list() {
    let mut body = vec![0; 8];
    body.extend([0, 0, 0, 0]);
    let p = read(&machine(&[table_with(b"APIC", &body)]), 0);
    assert!(p.cpus.is_empty());
    // The same with a right checksum and a length beyond the end.
    let mut body = vec![0; 8];
    body.extend([0, 200, 0, 0]);
    assert!(
        read(&machine(&[table_with(b"APIC", &body)]), 0)
            .cpus
            .is_empty()
    );
}

#[test]
fn soft_off_takes_constants() {
    assert_eq!(
        soft_off(b"\x08_S5_\x12\x06\x04\x00\x01\x00\x00"),
        Some((0, 1))
    );
    assert_eq!(soft_off(b"\x08_S5_\x12\x06\x04\x01"), Some((1, 1)));
    assert_eq!(
        soft_off(b"\x08\\_S5_\x12\x46\x00\x04\x0a\x07\x0a\x08"),
        Some((7, 8))
    );
    assert_eq!(soft_off(b"_S5_\x12\x06\x04\x00\x00"), None);
    assert_eq!(soft_off(b"\x08_S5_"), None);
    assert_eq!(soft_off(b""), None);
}
