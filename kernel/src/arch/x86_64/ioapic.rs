//! I/O APICs: interrupt lines of devices (82093AA datasheet, chapter 3), and the old PICs,
//! which are silenced.

use core::sync::atomic::{AtomicBool, Ordering};

use super::acpi::{IoApic, platform};
use super::interrupts::{Polarity, RouteError, Trigger};
use super::percpu;
use super::regs::outb;

const SELECT: u64 = 0;
const WINDOW: u64 = 0x10;
const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

/// Held, with interrupts off, between the write of a register's number and its use.
static LOCK: AtomicBool = AtomicBool::new(false);

fn access(apic: &IoApic, register: u32, value: Option<u32>) -> u32 {
    let base = oxbow_handover::DIRECT_MAP_BASE + apic.address;
    // SAFETY: the firmware put an I/O APIC there; the direct map covers the first 4 GiB, and
    // `usable` checked that it lies there.
    unsafe {
        ((base + SELECT) as *mut u32).write_volatile(register);
        match value {
            Some(v) => {
                ((base + WINDOW) as *mut u32).write_volatile(v);
                v
            }
            None => ((base + WINDOW) as *const u32).read_volatile(),
        }
    }
}

fn locked<R>(f: impl FnOnce() -> R) -> R {
    let irq = super::irq_save();
    while LOCK.swap(true, Ordering::Acquire) {
        super::cpu::relax();
    }
    let result = f();
    LOCK.store(false, Ordering::Release);
    super::irq_restore(irq);
    result
}

fn usable(apic: &IoApic) -> bool {
    apic.address < 1 << 32 && apic.address.is_multiple_of(16)
}

fn nr_lines(apic: &IoApic) -> u32 {
    (access(apic, VERSION, None) >> 16 & 0xff) + 1
}

/// Masks every line and the old PICs. Boot CPU, once, after the tables were read.
pub fn init() {
    pic_off();
    for apic in platform().io_apics.iter().filter(|a| usable(a)) {
        locked(|| {
            for line in 0..nr_lines(apic) {
                access(apic, REDIRECTION + 2 * line, Some(MASKED));
                access(apic, REDIRECTION + 2 * line + 1, Some(0));
            }
        });
    }
}

/// Initialises both 8259s to vectors 0x20 to 0x2f, then masks them: a spurious interrupt of
/// theirs then has a vector of its own (8259A datasheet).
fn pic_off() {
    // SAFETY: every PC has them at these ports, or nothing.
    unsafe {
        for (command, data, vector, cascade) in [(0x20, 0x21, 0x20, 4), (0xa0, 0xa1, 0x28, 2)] {
            outb(command, 0x11);
            outb(data, vector);
            outb(data, cascade);
            outb(data, 1);
            outb(data, 0xff);
        }
    }
}

/// Lets line `gsi` raise `vector` on the boot CPU.
pub fn route(gsi: u32, vector: u8, trigger: Trigger, polarity: Polarity) -> Result<(), RouteError> {
    let destination = percpu::of(0).map_or(0, |c| c.apic_id);
    locked(|| {
        let (apic, line) = platform()
            .io_apics
            .iter()
            .filter(|a| usable(a))
            .find_map(|a| {
                let line = gsi.checked_sub(a.gsi_base)?;
                (line < nr_lines(a)).then_some((a, line))
            })
            .ok_or(RouteError::NoSuchLine)?;
        let mut low = u32::from(vector);
        if trigger == Trigger::Level {
            low |= LEVEL;
        }
        if polarity == Polarity::Low {
            low |= ACTIVE_LOW;
        }
        let at = REDIRECTION + 2 * line;
        access(apic, at, Some(MASKED));
        access(apic, at + 1, Some(destination << 24));
        access(apic, at, Some(low));
        Ok(())
    })
}

/// Where ISA interrupt `irq` goes.
pub fn isa_line(irq: u8) -> (u32, Trigger, Polarity) {
    platform()
        .overrides
        .iter()
        .find(|o| o.irq == irq)
        .map_or((u32::from(irq), Trigger::Edge, Polarity::High), |o| {
            (o.gsi, o.trigger, o.polarity)
        })
}
