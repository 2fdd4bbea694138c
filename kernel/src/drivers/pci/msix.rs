//! MSI-X: a device's own table of interrupt messages (PCI Local Bus 3.0, 6.8.2).

use super::Function;
use super::config::{BarBase, ConfigSpace, command, reg};
use crate::arch::interrupts::{MsiMessage, msi_message};
use crate::mm::{PhysAddr, VirtAddr, mmio};

const ID: u8 = 0x11;
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;
const ENTRY_BYTES: u64 = 16;

/// A function's table, mapped, with all entries masked until they are set.
pub struct MsixTable {
    function: Function,
    /// Offset of the capability.
    capability: u8,
    table: VirtAddr,
    entries: u16,
}

impl MsixTable {
    /// Maps the table and switches MSI-X on; INTx goes off. `None` when the function has none.
    pub fn enable(function: &Function) -> Option<MsixTable> {
        let at = function.capability(ID)?.offset;
        let control = function.read16(at.checked_add(2)?);
        let entries = (control & 0x7ff) + 1;
        let place = function.read(at.checked_add(4)?);
        let offset = u64::from(place & !7);
        let Some(BarBase::Memory(base)) = function.bar_base((place & 7) as u8) else {
            return None;
        };
        let bytes = u64::from(entries) * ENTRY_BYTES;
        let place = PhysAddr(base.checked_add(offset)?);
        let table = mmio::map(place, bytes as usize).ok()?;
        function.enable();
        let table = MsixTable {
            function: *function,
            capability: at,
            table,
            entries,
        };
        table.control(ENABLE | MASK_ALL);
        for entry in 0..entries {
            table.write(entry, 3, 1);
        }
        let old = function.read16(reg::COMMAND);
        function.write16(reg::COMMAND, old | command::NO_INTX);
        table.control(ENABLE);
        Some(table)
    }

    fn control(&self, bits: u16) {
        let at = self.capability + 2;
        let old = self.function.read16(at) & !(ENABLE | MASK_ALL);
        self.function.write16(at, old | bits);
    }

    fn write(&self, entry: u16, word: u64, value: u32) {
        let at = self.table.as_u64() + u64::from(entry) * ENTRY_BYTES + 4 * word;
        // SAFETY: inside the mapped table; `entry` is below the number of entries (callers).
        unsafe { (at as *mut u32).write_volatile(value) };
    }

    /// Lets `entry` raise `vector` on CPU `cpu`; false when the table has no such entry.
    pub fn set(&self, entry: u16, vector: u8, cpu: usize) -> bool {
        if entry >= self.entries {
            return false;
        }
        let MsiMessage { address, data } = msi_message(vector, cpu);
        self.write(entry, 3, 1);
        self.write(entry, 0, address as u32);
        self.write(entry, 1, (address >> 32) as u32);
        self.write(entry, 2, data);
        self.write(entry, 3, 0);
        true
    }
}
