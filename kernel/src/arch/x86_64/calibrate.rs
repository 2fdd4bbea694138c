//! How fast the TSC and the local APIC's timer run: from CPUID where it says so, else
//! measured against HPET, ACPI timer or PIT in a few milliseconds.

use core::arch::x86_64::{__cpuid, __cpuid_count};

use super::acpi::platform;
use super::cpu::tsc;
use super::features::{Features, features};
use super::regs::{inb, inl, outb};
use super::{apic, clock};

/// Which clock the TSC was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// CPUID leaf 15h: ratio to a crystal of known rate.
    Crystal,
    /// The hypervisor's leaf 4000_0010h.
    Hypervisor,
    /// High precision event timer.
    Hpet,
    /// ACPI timer.
    PmTimer,
    /// Channel 2 of the 8254.
    Pit,
}

/// How long a measurement takes, in nanoseconds.
const WINDOW_NS: u64 = 4_000_000;

/// Finds out the rates and starts the clock at TSC value `tsc_base`. Boot CPU, before the
/// others run, interrupts off.
pub fn init(tsc_base: u64) -> Source {
    let known = crystal()
        .map(|hz| (hz, Source::Crystal))
        .or_else(|| hypervisor().map(|hz| (hz, Source::Hypervisor)));
    let deadline = features().contains(Features::TSC_DEADLINE);
    if let (Some((hz, source)), true) = (known, deadline) {
        clock::set_rate(hz, tsc_base);
        return source;
    }
    let (reference, source) = Reference::find();
    apic::start_countdown();
    let first = reference.sample();
    let end = first.reference.wrapping_add(reference.ticks(WINDOW_NS));
    while (reference.read().wrapping_sub(end) & reference.mask()) > reference.mask() / 2 {
        core::hint::spin_loop();
    }
    let last = reference.sample();
    let ticks = last.reference.wrapping_sub(first.reference) & reference.mask();
    let per_second =
        |n: u64| (u128::from(n) * u128::from(reference.hz()) / u128::from(ticks.max(1))) as u64;
    apic::set_timer_hz(per_second(u64::from(last.apic.wrapping_sub(first.apic))).max(1));
    match known {
        Some((hz, source)) => {
            clock::set_rate(hz, tsc_base);
            source
        }
        None => {
            clock::set_rate(
                per_second(last.tsc.wrapping_sub(first.tsc)).max(1),
                tsc_base,
            );
            source
        }
    }
}

/// Intel SDM 2A, CPUID leaf 15h.
fn crystal() -> Option<u64> {
    if __cpuid(0).eax < 0x15 {
        return None;
    }
    let leaf = __cpuid_count(0x15, 0);
    if leaf.eax == 0 || leaf.ebx == 0 || leaf.ecx == 0 {
        return None;
    }
    Some(u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax))
}

/// The leaf that VMware introduced and KVM and others have: TSC rate in kHz.
fn hypervisor() -> Option<u64> {
    if !features().contains(Features::HYPERVISOR) || __cpuid(0x4000_0000).eax < 0x4000_0010 {
        return None;
    }
    let khz = __cpuid(0x4000_0010).eax;
    (khz != 0).then(|| u64::from(khz) * 1000)
}

struct Sample {
    reference: u64,
    tsc: u64,
    apic: u32,
}

enum Reference {
    Hpet { counter: *const u32, hz: u64 },
    PmTimer { port: u16, mask: u64 },
    Pit,
}

impl Reference {
    fn find() -> (Reference, Source) {
        if let Some(hpet) = Self::hpet() {
            return (hpet, Source::Hpet);
        }
        let power = &platform().power;
        if power.pm_timer != 0 {
            let mask = if power.pm_timer_32 {
                u64::from(u32::MAX)
            } else {
                0xff_ffff
            };
            let port = power.pm_timer;
            return (Reference::PmTimer { port, mask }, Source::PmTimer);
        }
        // SAFETY: every PC has the PIT: gate of channel 2 on, speaker off; channel 2 counts
        // down from 65536 in mode 2.
        unsafe {
            outb(0x61, inb(0x61) & !2 | 1);
            outb(0x43, 0b1011_0100);
            outb(0x42, 0);
            outb(0x42, 0);
        }
        (Reference::Pit, Source::Pit)
    }

    fn hpet() -> Option<Reference> {
        let base = platform()
            .hpet
            .filter(|&p| p < 1 << 32 && p.is_multiple_of(8))?
            + oxbow_handover::DIRECT_MAP_BASE;
        // SAFETY: the firmware put an HPET there; registers of IA-PC HPET 1.0a, 2.3: the
        // counter's period in femtoseconds, and the switch that lets it run.
        unsafe {
            let period = ((base + 4) as *const u32).read_volatile();
            if period == 0 || period > 100_000_000 {
                return None;
            }
            let config = (base + 0x10) as *mut u32;
            config.write_volatile(config.read_volatile() | 1);
            Some(Reference::Hpet {
                counter: (base + 0xf0) as *const u32,
                hz: 1_000_000_000_000_000 / u64::from(period),
            })
        }
    }

    fn hz(&self) -> u64 {
        match self {
            Reference::Hpet { hz, .. } => *hz,
            Reference::PmTimer { .. } => 3_579_545,
            Reference::Pit => 1_193_182,
        }
    }

    fn mask(&self) -> u64 {
        match self {
            Reference::Hpet { .. } => u64::from(u32::MAX),
            Reference::PmTimer { mask, .. } => *mask,
            Reference::Pit => 0xffff,
        }
    }

    fn ticks(&self, ns: u64) -> u64 {
        ns * self.hz() / 1_000_000_000
    }

    fn read(&self) -> u64 {
        // SAFETY: reads counters of devices that `find` set up.
        unsafe {
            match self {
                Reference::Hpet { counter, .. } => u64::from(counter.read_volatile()),
                Reference::PmTimer { port, .. } => u64::from(inl(*port)),
                Reference::Pit => {
                    // Latch channel 2, then read it low byte first; it counts down.
                    outb(0x43, 0b1000_0000);
                    let low = inb(0x42);
                    let high = inb(0x42);
                    u64::from(!u16::from_le_bytes([low, high]))
                }
            }
        }
    }

    /// All three counters at nearly the same time: the closest of a few tries.
    fn sample(&self) -> Sample {
        let mut best = None;
        let mut closest = u64::MAX;
        for _ in 0..8 {
            let before = tsc();
            let reference = self.read();
            let after = tsc();
            let apic = apic::countdown_ticks();
            if after.wrapping_sub(before) < closest {
                closest = after.wrapping_sub(before);
                best = Some(Sample {
                    reference,
                    tsc: before.wrapping_add(closest / 2),
                    apic,
                });
            }
        }
        // The first try is always closer than u64::MAX.
        best.unwrap_or(Sample {
            reference: self.read(),
            tsc: tsc(),
            apic: apic::countdown_ticks(),
        })
    }
}
