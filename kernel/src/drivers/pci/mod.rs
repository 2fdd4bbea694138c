//! PCI: finding functions, their registers and their interrupts.
//!
//! Configuration goes through ports 0xCF8 and 0xCFC (PCI Local Bus 3.0, 3.2.2.3.2), which every
//! virtual machine with PCI has and which reach all that is used here. Firmware has placed
//! the BARs and numbered the buses.

pub mod config;
#[cfg(target_os = "none")]
mod msix;

use alloc::vec::Vec;

use config::{ConfigSpace, reg};
#[cfg(target_os = "none")]
pub use msix::MsixTable;

/// Where a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the usual three numbers")]
pub struct Address {
    pub bus: u8,
    pub device: u8,
    pub function: u8,
}

impl core::fmt::Display for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// A function that is there.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Where.
    pub address: Address,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Base class (high byte) and subclass.
    pub class: u16,
    /// Programming interface.
    pub interface: u8,
    /// Revision.
    pub revision: u8,
    /// Subsystem vendor and id.
    pub subsystem: (u16, u16),
    is_bridge: bool,
    is_multifunction: bool,
}

#[cfg(target_os = "none")]
mod ports {
    use super::Address;
    use crate::arch::regs::{inl, outl};
    use crate::sync::{IrqLock, Rank};

    /// The address port and the data port are one register pair for all.
    static PORTS: IrqLock<()> = IrqLock::new(Rank::Leaf, ());

    fn select(a: Address, offset: u8) -> u32 {
        0x8000_0000
            | u32::from(a.bus) << 16
            | u32::from(a.device & 31) << 11
            | u32::from(a.function & 7) << 8
            | u32::from(offset & !3)
    }
    pub fn read(a: Address, offset: u8) -> u32 {
        let _lock = PORTS.lock();
        // SAFETY: the configuration ports; reading has no side effect worth mention.
        unsafe {
            outl(0xcf8, select(a, offset));
            inl(0xcfc)
        }
    }
    pub fn write(a: Address, offset: u8, value: u32) {
        let _lock = PORTS.lock();
        // SAFETY: the configuration ports; drivers own the functions they write to.
        unsafe {
            outl(0xcf8, select(a, offset));
            outl(0xcfc, value);
        }
    }
}
#[cfg(not(target_os = "none"))]
mod ports {
    use super::Address;
    pub fn read(_: Address, _: u8) -> u32 {
        u32::MAX
    }
    pub fn write(_: Address, _: u8, _: u32) {}
}

impl ConfigSpace for Address {
    fn read(&self, offset: u8) -> u32 {
        ports::read(*self, offset)
    }
    fn write(&self, offset: u8, value: u32) {
        ports::write(*self, offset, value);
    }
}

impl ConfigSpace for Function {
    fn read(&self, offset: u8) -> u32 {
        ports::read(self.address, offset)
    }
    fn write(&self, offset: u8, value: u32) {
        ports::write(self.address, offset, value);
    }
}

impl Function {
    fn probe(address: Address) -> Option<Function> {
        let id = address.read(reg::VENDOR);
        if id as u16 == 0xffff {
            return None;
        }
        let class = address.read(reg::REVISION);
        let header = address.read8(reg::HEADER_TYPE);
        let subsystem = address.read(reg::SUBSYSTEM_VENDOR);
        Some(Function {
            address,
            vendor: id as u16,
            device: (id >> 16) as u16,
            class: (class >> 16) as u16,
            interface: (class >> 8) as u8,
            revision: class as u8,
            subsystem: (subsystem as u16, (subsystem >> 16) as u16),
            is_bridge: header & 0x7f == 1,
            is_multifunction: header & 0x80 != 0,
        })
    }

    /// Where base address register `index` points; see [`config::bar_base`].
    pub fn bar_base(&self, index: u8) -> Option<config::BarBase> {
        config::bar_base(self, index)
    }

    /// The first capability with this id.
    pub fn capability(&self, id: u8) -> Option<config::Capability> {
        config::capabilities(self).find(|c| c.id == id)
    }

    /// Switches decoding of memory and ports on, and lets the device reach memory.
    pub fn enable(&self) {
        use config::command::{BUS_MASTER, IO, MEMORY};
        self.write16(
            reg::COMMAND,
            self.read16(reg::COMMAND) | IO | MEMORY | BUS_MASTER,
        );
    }

    /// Connects a handler to the function's interrupt line (INTx). The line may be shared:
    /// the handler asks its device first. `None` when the function has no line.
    #[cfg(target_os = "none")]
    pub fn connect_intx(&self, handler: crate::arch::interrupts::Handler) -> Option<u8> {
        use crate::arch::interrupts::{Polarity, Trigger, connect_gsi};
        let (line, pin) = (
            self.read8(reg::INTERRUPT_LINE),
            self.read8(reg::INTERRUPT_PIN),
        );
        if pin == 0 || line == 0 || line == 0xff {
            return None;
        }
        let command = self.read16(reg::COMMAND);
        self.write16(reg::COMMAND, command & !config::command::NO_INTX);
        // PCI lines are level triggered, active low (2.2.6).
        connect_gsi(line.into(), Trigger::Level, Polarity::Low, handler).ok()
    }
}

/// All functions, in the order of their addresses; behind bridges too.
pub fn functions() -> Vec<Function> {
    let mut found = Vec::new();
    let mut buses = alloc::vec![0u8];
    let mut next = 0;
    while let Some(&bus) = buses.get(next) {
        next += 1;
        for device in 0..32 {
            scan_device(bus, device, &mut found, &mut buses);
        }
    }
    found
}

fn scan_device(bus: u8, device: u8, found: &mut Vec<Function>, buses: &mut Vec<u8>) {
    for function in 0..8 {
        let Some(f) = Function::probe(Address {
            bus,
            device,
            function,
        }) else {
            if function == 0 {
                return;
            }
            continue;
        };
        if f.is_bridge {
            let behind = f.read8(reg::SECONDARY_BUS);
            if behind != 0 && !buses.contains(&behind) {
                buses.push(behind);
            }
        }
        found.push(f);
        if function == 0 && !f.is_multifunction {
            return;
        }
    }
}
