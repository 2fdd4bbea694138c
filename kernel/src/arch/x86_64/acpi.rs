//! What the kernel takes from ACPI's tables (ACPI 6.5, chapter 5): CPUs and interrupt
//! controllers (MADT), timers (FADT, HPET), PCI configuration space (MCFG), power (FADT, the
//! `_S5` object of the DSDT).
//!
//! The tables come from firmware: lengths and checksums are checked, and what makes no sense
//! is passed by. There is no AML interpreter.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::interrupts::{Polarity, Trigger};

/// Physical memory as the parser sees it.
pub trait Physical {
    /// The bytes at `phys`; `None` where nothing is mapped.
    fn bytes(&self, phys: u64, len: usize) -> Option<&[u8]>;
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u64,
    /// Its first line's global number.
    pub gsi_base: u32,
}

/// Where an ISA interrupt goes, if not to the line of its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// ISA interrupt.
    pub irq: u8,
    /// Line.
    pub gsi: u32,
    /// How it signals.
    pub trigger: Trigger,
    /// Active level.
    pub polarity: Polarity,
}

/// A range of PCI Express configuration space in memory (MCFG).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigSpace {
    /// Physical address of bus 0's part.
    pub base: u64,
    /// PCI segment.
    pub segment: u16,
    /// First bus.
    pub first_bus: u8,
    /// Last bus.
    pub last_bus: u8,
}

/// Where the ACPI timer and power registers are: I/O ports, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Power {
    /// ACPI timer, 3.579545 MHz.
    pub pm_timer: u16,
    /// The timer has 32 bits, not 24.
    pub pm_timer_32: bool,
    /// PM1a control.
    pub pm1a_control: u16,
    /// PM1b control.
    pub pm1b_control: u16,
    /// PM1a status and enable.
    pub pm1a_event: u16,
    /// Bytes of PM1a's event block: half status, half enable.
    pub pm1_event_len: u8,
    /// Port to write `acpi_enable` to, to switch to ACPI mode.
    pub smi_command: u16,
    /// See `smi_command`.
    pub acpi_enable: u8,
    /// ISA interrupt of power events.
    pub sci: u16,
    /// SLP_TYPa and SLP_TYPb for soft-off, from `_S5`.
    pub soft_off: Option<(u8, u8)>,
    /// I/O port and value that reset the machine.
    pub reset: Option<(u16, u8)>,
    /// RTC index of the century, 0 for none.
    pub rtc_century: u8,
}

/// What the tables said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// APIC ids of the CPUs that may run, the firmware's order.
    pub cpus: Vec<u32>,
    /// I/O APICs.
    pub io_apics: Vec<IoApic>,
    /// ISA interrupts that are not where ISA had them.
    pub overrides: Vec<Override>,
    /// Physical address of the HPET.
    pub hpet: Option<u64>,
    /// PCI Express configuration space.
    pub config_spaces: Vec<ConfigSpace>,
    /// Registers for timer and power.
    pub power: Power,
}

static PLATFORM: AtomicPtr<Platform> = AtomicPtr::new(core::ptr::null_mut());
static NONE: Platform = Platform {
    cpus: Vec::new(),
    io_apics: Vec::new(),
    overrides: Vec::new(),
    hpet: None,
    config_spaces: Vec::new(),
    power: Power {
        pm_timer: 0,
        pm_timer_32: false,
        pm1a_control: 0,
        pm1b_control: 0,
        pm1a_event: 0,
        pm1_event_len: 0,
        smi_command: 0,
        acpi_enable: 0,
        sci: 0,
        soft_off: None,
        reset: None,
        rtc_century: 0,
    },
};

/// What the firmware said; empty before boot read it and on machines without ACPI.
pub fn platform() -> &'static Platform {
    // SAFETY: only `publish` stores, and what it stored lives for ever.
    unsafe { PLATFORM.load(Ordering::Acquire).as_ref() }.unwrap_or(&NONE)
}

/// Makes `platform` what [`platform`] returns. Boot only, once.
pub fn publish(platform: Platform) {
    let leaked = alloc::boxed::Box::leak(alloc::boxed::Box::new(platform));
    PLATFORM.store(leaked, Ordering::Release);
}

const HEADER: usize = 36;
/// Tables longer than this are nonsense.
const MAX_TABLE: usize = 4 << 20;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &b| sum.wrapping_add(b)) == 0
}

/// The table at `phys` with its header, if it is whole.
fn table(memory: &impl Physical, phys: u64) -> Option<&[u8]> {
    let len = u32_at(memory.bytes(phys, HEADER)?, 4)? as usize;
    if !(HEADER..=MAX_TABLE).contains(&len) {
        return None;
    }
    let bytes = memory.bytes(phys, len)?;
    sums_to_zero(bytes).then_some(bytes)
}

/// Reads the tables that the RSDP at `rsdp` leads to. What is missing stays empty.
pub fn read(memory: &impl Physical, rsdp: u64) -> Platform {
    let mut platform = Platform::default();
    let Some(root) = root_table(memory, rsdp) else {
        return platform;
    };
    let entry = if &root[..4] == b"XSDT" { 8 } else { 4 };
    for pointer in root[HEADER..].chunks_exact(entry) {
        let phys = if entry == 8 {
            u64_at(pointer, 0)
        } else {
            u32_at(pointer, 0).map(u64::from)
        };
        let Some(t) = phys.and_then(|p| table(memory, p)) else {
            continue;
        };
        match &t[..4] {
            b"APIC" => madt(t, &mut platform),
            b"FACP" => platform.power = fadt(memory, t),
            b"HPET" => platform.hpet = hpet(t),
            b"MCFG" => platform.config_spaces = mcfg(t),
            _ => {}
        }
    }
    platform
}

/// XSDT or RSDT (ACPI 6.5, 5.2.5).
fn root_table(memory: &impl Physical, rsdp: u64) -> Option<&[u8]> {
    let first = memory.bytes(rsdp, 20)?;
    if &first[..8] != b"RSD PTR " || !sums_to_zero(first) {
        return None;
    }
    if first[15] >= 2
        && let Some(whole) = memory.bytes(rsdp, 36)
        && sums_to_zero(whole)
        && let Some(xsdt) = u64_at(whole, 24).and_then(|p| table(memory, p))
        && &xsdt[..4] == b"XSDT"
    {
        return Some(xsdt);
    }
    let rsdt = table(memory, u64::from(u32_at(first, 16)?))?;
    (&rsdt[..4] == b"RSDT").then_some(rsdt)
}

/// Multiple APIC Description Table (5.2.12).
fn madt(t: &[u8], platform: &mut Platform) {
    const ENABLED: u32 = 1;
    let mut rest = t.get(HEADER + 8..).unwrap_or_default();
    while let [kind, len, ..] = *rest {
        let len = usize::from(len);
        let Some(entry) = rest.get(..len).filter(|_| len >= 2) else {
            return;
        };
        rest = &rest[len..];
        // A short entry yields nothing.
        let _ = (|| {
            match kind {
                // Local APIC.
                0 if u32_at(entry, 4)? & ENABLED != 0 => {
                    platform.cpus.push(u32::from(*entry.get(3)?));
                }
                1 => platform.io_apics.push(IoApic {
                    address: u64::from(u32_at(entry, 4)?),
                    gsi_base: u32_at(entry, 8)?,
                }),
                2 => {
                    let flags = u16_at(entry, 8)?;
                    platform.overrides.push(Override {
                        irq: *entry.get(3)?,
                        gsi: u32_at(entry, 4)?,
                        polarity: if flags & 3 == 3 {
                            Polarity::Low
                        } else {
                            Polarity::High
                        },
                        trigger: if flags >> 2 & 3 == 3 {
                            Trigger::Level
                        } else {
                            Trigger::Edge
                        },
                    });
                }
                // Local x2APIC.
                9 if u32_at(entry, 8)? & ENABLED != 0 => {
                    let id = u32_at(entry, 4)?;
                    if !platform.cpus.contains(&id) {
                        platform.cpus.push(id);
                    }
                }
                _ => {}
            }
            Some(())
        })();
    }
}

/// Fixed ACPI Description Table (5.2.9).
fn fadt(memory: &impl Physical, t: &[u8]) -> Power {
    let port = |at| {
        u32_at(t, at)
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(0)
    };
    let byte = |at: usize| t.get(at).copied().unwrap_or(0);
    let flags = u32_at(t, 112).unwrap_or(0);
    const TMR_VAL_EXT: u32 = 1 << 8;
    const RESET_REG_SUP: u32 = 1 << 10;
    // Generic address structure: address space 1 is I/O ports.
    let reset = (flags & RESET_REG_SUP != 0 && byte(116) == 1)
        .then(|| u64_at(t, 120))
        .flatten()
        .and_then(|p| u16::try_from(p).ok())
        .map(|p| (p, byte(128)));
    let dsdt = u64_at(t, 140)
        .filter(|&p| p != 0)
        .or_else(|| u32_at(t, 40).map(u64::from))
        .and_then(|p| table(memory, p));
    Power {
        pm_timer: if byte(91) == 4 { port(76) } else { 0 },
        pm_timer_32: flags & TMR_VAL_EXT != 0,
        pm1a_control: port(64),
        pm1b_control: port(68),
        pm1a_event: port(56),
        pm1_event_len: byte(88),
        smi_command: port(48),
        acpi_enable: byte(52),
        sci: u16_at(t, 46).unwrap_or(0),
        soft_off: dsdt.and_then(soft_off),
        reset,
        rtc_century: byte(108),
    }
}

/// SLP_TYP values of `Name (_S5, Package {a, b, ...})` in a DSDT's AML (20.2.3, 20.2.5).
fn soft_off(dsdt: &[u8]) -> Option<(u8, u8)> {
    const NAME_OP: u8 = 0x08;
    const PACKAGE_OP: u8 = 0x12;
    let at = dsdt.windows(4).enumerate().position(|(i, w)| {
        w == b"_S5_"
            && (dsdt.get(i.wrapping_sub(1)) == Some(&NAME_OP)
                || dsdt.get(i.wrapping_sub(2)..i) == Some(&[NAME_OP, b'\\']))
    })?;
    let aml = dsdt.get(at + 4..)?;
    let (&PACKAGE_OP, aml) = aml.split_first()? else {
        return None;
    };
    // PkgLength: the two top bits of its first byte count the bytes that follow; then the
    // number of elements.
    let skip = 1 + usize::from(aml.first()? >> 6) + 1;
    let mut aml = aml.get(skip..)?;
    let mut value = || {
        let (&op, rest) = aml.split_first()?;
        let (value, rest) = match op {
            // ZeroOp, OneOp, BytePrefix.
            0 | 1 => (op, rest),
            0x0a => {
                let (&v, rest) = rest.split_first()?;
                (v, rest)
            }
            _ => return None,
        };
        aml = rest;
        Some(value)
    };
    let a = value()?;
    Some((a, value().unwrap_or(a)))
}

/// HPET table (IA-PC HPET 1.0a, 3.2.4): the address, if it is in memory.
fn hpet(t: &[u8]) -> Option<u64> {
    (*t.get(40)? == 0).then(|| u64_at(t, 44)).flatten()
}

/// PCI Express configuration space (PCI Firmware 3.0, 4.1.2).
fn mcfg(t: &[u8]) -> Vec<ConfigSpace> {
    t.get(HEADER + 8..)
        .unwrap_or_default()
        .chunks_exact(16)
        .filter_map(|e| {
            Some(ConfigSpace {
                base: u64_at(e, 0)?,
                segment: u16_at(e, 8)?,
                first_bus: e[10],
                last_bus: e[11],
            })
        })
        .collect()
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
