//! A PCI function's configuration space (PCI Local Bus 3.0, chapter 6): header fields, base
//! address registers, capabilities. Pure: the registers are behind a trait.

/// Access to the 256 bytes of one function's configuration space, in aligned words.
pub trait ConfigSpace {
    /// Reads the word at `offset`, a multiple of 4.
    fn read(&self, offset: u8) -> u32;
    /// Writes the word at `offset`, a multiple of 4.
    fn write(&self, offset: u8, value: u32);

    /// Reads 16 bits at an even offset.
    fn read16(&self, offset: u8) -> u16 {
        (self.read(offset & !3) >> (u32::from(offset & 2) * 8)) as u16
    }
    /// Reads a byte.
    fn read8(&self, offset: u8) -> u8 {
        (self.read(offset & !3) >> (u32::from(offset & 3) * 8)) as u8
    }
    /// Writes 16 bits at an even offset.
    fn write16(&self, offset: u8, value: u16) {
        let shift = u32::from(offset & 2) * 8;
        let word = self.read(offset & !3) & !(0xffff << shift);
        self.write(offset & !3, word | u32::from(value) << shift);
    }
}

/// Offsets of the header (6.1).
pub mod reg {
    #![allow(missing_docs, reason = "the specification's names")]
    pub const VENDOR: u8 = 0x00;
    pub const DEVICE: u8 = 0x02;
    pub const COMMAND: u8 = 0x04;
    pub const STATUS: u8 = 0x06;
    pub const REVISION: u8 = 0x08;
    pub const CLASS: u8 = 0x0a;
    pub const HEADER_TYPE: u8 = 0x0e;
    pub const BAR0: u8 = 0x10;
    pub const SECONDARY_BUS: u8 = 0x19;
    pub const SUBSYSTEM_VENDOR: u8 = 0x2c;
    pub const SUBSYSTEM: u8 = 0x2e;
    pub const CAPABILITIES: u8 = 0x34;
    pub const INTERRUPT_LINE: u8 = 0x3c;
    pub const INTERRUPT_PIN: u8 = 0x3d;
}

/// Bits of the command register (6.2.2).
pub mod command {
    #![allow(missing_docs, reason = "the specification's names")]
    pub const IO: u16 = 1;
    pub const MEMORY: u16 = 2;
    pub const BUS_MASTER: u16 = 4;
    pub const NO_INTX: u16 = 1 << 10;
}

const STATUS_CAPABILITIES: u16 = 1 << 4;

/// Where a base address register points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarBase {
    /// Physical address of memory.
    Memory(u64),
    /// First I/O port.
    Io(u16),
}

/// Where BAR `index` (0 to 5) points; `None` when it has no address or is no BAR. Its
/// length is not looked for: that makes a hypervisor rebuild its memory map several times.
pub fn bar_base(space: &impl ConfigSpace, index: u8) -> Option<BarBase> {
    if index > 5 {
        return None;
    }
    let offset = reg::BAR0 + 4 * index;
    let low = space.read(offset);
    if low & 1 != 0 {
        let port = (low & 0xfffc) as u16;
        return (port != 0).then_some(BarBase::Io(port));
    }
    let high = match low >> 1 & 3 {
        0 => 0,
        2 if index < 5 => space.read(offset + 4),
        _ => return None,
    };
    let base = u64::from(high) << 32 | u64::from(low & !0xf);
    (base != 0).then_some(BarBase::Memory(base))
}

/// A capability: its id and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is (PCI Local Bus 3.0, appendix H).
    pub id: u8,
    /// Offset of its first byte.
    pub offset: u8,
}

/// The capability list (6.7). Ends after as many steps as fit into the space, so that a
/// broken list does not loop.
pub fn capabilities(space: &impl ConfigSpace) -> impl Iterator<Item = Capability> + '_ {
    let mut at = if space.read16(reg::STATUS) & STATUS_CAPABILITIES != 0 {
        space.read8(reg::CAPABILITIES) & !3
    } else {
        0
    };
    let mut left = 48;
    core::iter::from_fn(move || {
        if at < 0x40 || left == 0 {
            return None;
        }
        left -= 1;
        let word = space.read(at);
        let this = Capability {
            id: word as u8,
            offset: at,
        };
        at = (word >> 8) as u8 & !3;
        Some(this)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A function whose BARs keep their hard-wired bits.
    pub struct Fake {
        words: RefCell<[u32; 64]>,
        writable: [u32; 64],
    }
    impl Fake {
        pub fn new() -> Self {
            let mut writable = [u32::MAX; 64];
            writable[4..10].fill(0);
            Fake {
                words: RefCell::new([0; 64]),
                writable,
            }
        }
        pub fn set(&mut self, offset: u8, value: u32, writable: u32) {
            self.words.borrow_mut()[usize::from(offset) / 4] = value;
            self.writable[usize::from(offset) / 4] = writable;
        }
    }
    impl ConfigSpace for Fake {
        fn read(&self, offset: u8) -> u32 {
            self.words.borrow()[usize::from(offset) / 4]
        }
        fn write(&self, offset: u8, value: u32) {
            let i = usize::from(offset) / 4;
            let mut words = self.words.borrow_mut();
            words[i] = words[i] & !self.writable[i] | value & self.writable[i];
        }
    }

    #[test]
    fn bars_of_every_kind() {
        let mut f = Fake::new();
        f.set(0x10, 0xc001, 0xffff_ffc0);
        f.set(0x14, 0xfebd_1000, 0xffff_f000);
        f.set(0x18, 0xfe00_000c, 0xffff_c000);
        f.set(0x1c, 0x0000_0001, u32::MAX);
        assert_eq!(bar_base(&f, 0), Some(BarBase::Io(0xc000)));
        assert_eq!(bar_base(&f, 1), Some(BarBase::Memory(0xfebd_1000)));
        assert_eq!(bar_base(&f, 2), Some(BarBase::Memory(0x1_fe00_0000)));
        assert_eq!(bar_base(&f, 4), None);
        assert_eq!(bar_base(&f, 6), None);
        assert_eq!(f.read(0x10), 0xc001);
        assert_eq!(f.read(0x1c), 1);
    }

    #[test]
    fn capability_list_ends_even_in_a_loop() {
        let mut f = Fake::new();
        f.set(4, (STATUS_CAPABILITIES as u32) << 16, u32::MAX);
        f.set(0x34, 0x40, 0);
        f.set(0x40, 0x4811, 0);
        f.set(0x48, 0x4009, 0);
        let caps: Vec<_> = capabilities(&f).collect();
        assert_eq!(caps.len(), 48);
        assert_eq!(
            caps[..2],
            [
                Capability {
                    id: 0x11,
                    offset: 0x40
                },
                Capability {
                    id: 9,
                    offset: 0x48
                }
            ]
        );
        f.set(0x48, 0x0009, 0);
        assert_eq!(capabilities(&f).count(), 2);
    }

    #[test]
    fn narrow_writes_leave_the_rest() {
        let mut f = Fake::new();
        f.set(4, 0x1234_5678, u32::MAX);
        f.write16(6, 0xabcd);
        assert_eq!(f.read(4), 0xabcd_5678);
        assert_eq!(f.read8(7), 0xab);
    }
}
