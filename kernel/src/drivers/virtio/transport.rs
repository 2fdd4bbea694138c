//! How a driver reaches a virtio device over PCI: the modern interface (virtio 1.2, 4.1) and,
//! where a device has only that, the legacy one in an I/O BAR (4.1.4.10).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU16, Ordering};

use super::queue::{MAX_SIZE, Queue};
use crate::arch::interrupts::{Handler, allocate_vector};
use crate::arch::regs::{inb, inl, inw, outb, outl, outw};
use crate::drivers::pci::config::{BarBase, ConfigSpace, capabilities};
use crate::drivers::pci::{Function, MsixTable};
use crate::mm::{PhysAddr, VirtAddr, mmio};

/// Vendor of virtio devices.
pub const VENDOR: u16 = 0x1af4;

/// Kinds of devices (virtio 1.2, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum Kind {
    Network,
    Block,
    Console,
    Entropy,
    Balloon,
    Scsi,
    FileSystem9p,
    Gpu,
    Input,
    Socket,
    Other(u16),
}

/// What kind of virtio device a function is; `None` when it is none.
pub fn kind_of(f: &Function) -> Option<Kind> {
    if f.vendor != VENDOR {
        return None;
    }
    let id = match f.device {
        // Transitional (4.1.2.1): the subsystem has the number.
        0x1000..=0x103f => f.subsystem.1,
        0x1040..=0x107f => f.device - 0x1040,
        _ => return None,
    };
    Some(match id {
        1 => Kind::Network,
        2 => Kind::Block,
        3 => Kind::Console,
        4 => Kind::Entropy,
        5 => Kind::Balloon,
        8 => Kind::Scsi,
        9 => Kind::FileSystem9p,
        16 => Kind::Gpu,
        18 => Kind::Input,
        19 => Kind::Socket,
        other => Kind::Other(other),
    })
}

/// Feature bits of every device (6).
pub mod feature {
    #![allow(missing_docs, reason = "the specification's names")]
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
}

/// Device status bits (2.1).
mod status {
    pub const ACKNOWLEDGE: u8 = 1;
    pub const DRIVER: u8 = 2;
    pub const DRIVER_OK: u8 = 4;
    pub const FEATURES_OK: u8 = 8;
    pub const FAILED: u8 = 128;
}

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// It lacks registers that the specification wants, or they lie outside its BARs.
    BadRegisters,
    /// It does not come out of reset, or refuses the features it offered.
    Refused,
    /// It has no such queue.
    NoQueue,
    /// No interrupt can be connected.
    NoInterrupt,
    /// No memory.
    OutOfMemory,
}

/// A piece of a BAR.
#[derive(Clone, Copy, Debug)]
struct Window {
    base: VirtAddr,
    len: u32,
}

impl Window {
    fn at<T>(&self, offset: u32) -> Option<*mut T> {
        let end = offset.checked_add(size_of::<T>() as u32)?;
        (end <= self.len).then(|| (self.base.as_u64() + u64::from(offset)) as *mut T)
    }
    fn read<T: Copy + Default>(&self, offset: u32) -> T {
        // SAFETY: inside the mapped window (`at`); device registers, aligned by the layout.
        self.at::<T>(offset)
            .map_or_else(T::default, |p| unsafe { p.read_volatile() })
    }
    fn write<T: Copy>(&self, offset: u32, value: T) {
        if let Some(p) = self.at::<T>(offset) {
            // SAFETY: as above.
            unsafe { p.write_volatile(value) };
        }
    }
}

/// Offsets in the common configuration structure (4.1.4.3).
mod common {
    pub const DEVICE_FEATURE_SELECT: u32 = 0;
    pub const DEVICE_FEATURE: u32 = 4;
    pub const DRIVER_FEATURE_SELECT: u32 = 8;
    pub const DRIVER_FEATURE: u32 = 12;
    pub const CONFIG_MSIX_VECTOR: u32 = 16;
    pub const STATUS: u32 = 20;
    pub const CONFIG_GENERATION: u32 = 21;
    pub const QUEUE_SELECT: u32 = 22;
    pub const QUEUE_SIZE: u32 = 24;
    pub const QUEUE_MSIX_VECTOR: u32 = 26;
    pub const QUEUE_ENABLE: u32 = 28;
    pub const QUEUE_NOTIFY_OFF: u32 = 30;
    pub const QUEUE_DESC: u32 = 32;
    pub const QUEUE_DRIVER: u32 = 40;
    pub const QUEUE_DEVICE: u32 = 48;
    pub const BYTES: u32 = 56;
}

/// Ports of the legacy interface (4.1.4.10).
mod legacy {
    pub const DEVICE_FEATURES: u16 = 0;
    pub const DRIVER_FEATURES: u16 = 4;
    pub const QUEUE_ADDRESS: u16 = 8;
    pub const QUEUE_SIZE: u16 = 12;
    pub const QUEUE_SELECT: u16 = 14;
    pub const QUEUE_NOTIFY: u16 = 16;
    pub const STATUS: u16 = 18;
    pub const ISR: u16 = 19;
    pub const CONFIG_MSIX_VECTOR: u16 = 20;
    pub const QUEUE_MSIX_VECTOR: u16 = 22;
    /// Device configuration, without and with MSI-X on.
    pub const CONFIG: u16 = 20;
    pub const CONFIG_MSIX: u16 = 24;
}

const NO_VECTOR: u16 = 0xffff;

#[derive(Clone, Copy, Debug)]
enum Registers {
    Modern {
        common: Window,
        notify: Window,
        notify_multiplier: u32,
        isr: Window,
        config: Option<Window>,
    },
    Legacy {
        port: u16,
    },
}

/// A device: its registers and interrupts.
pub struct Transport {
    function: Function,
    registers: Registers,
    msix: Option<MsixTable>,
    features: u64,
}

/// How to tell the device about one queue's new buffers.
#[derive(Clone, Copy, Debug)]
pub struct Notifier {
    index: u16,
    register: NotifyRegister,
}

#[derive(Clone, Copy, Debug)]
enum NotifyRegister {
    Memory(u64),
    Port(u16),
}

impl Notifier {
    /// Tells the device.
    #[inline]
    pub fn notify(&self) {
        match self.register {
            // SAFETY: the queue's notify register, mapped for ever; the write has no effect
            // on memory but through the queue.
            NotifyRegister::Memory(at) => unsafe { (at as *mut u16).write_volatile(self.index) },
            // SAFETY: the device's notify port.
            NotifyRegister::Port(port) => unsafe { outw(port, self.index) },
        }
    }
}

fn map_window(f: &Function, cap: u8) -> Option<Window> {
    let bar = f.read8(cap.checked_add(4)?);
    let offset = f.read(cap.checked_add(8)?);
    let len = f.read(cap.checked_add(12)?);
    let Some(BarBase::Memory(base)) = f.bar_base(bar) else {
        return None;
    };
    // Notify windows may span megabytes; no more than what queues use is mapped.
    let len = len.min(0x10000);
    if len == 0 {
        return None;
    }
    let at = PhysAddr(base.checked_add(offset.into())?);
    let base = mmio::map(at, len as usize).ok()?;
    Some(Window { base, len })
}

fn find_modern(f: &Function) -> Option<Registers> {
    const VENDOR_SPECIFIC: u8 = 9;
    let (mut common, mut notify, mut isr, mut config) = (None, None, None, None);
    let mut notify_multiplier = 0;
    for cap in capabilities(f).filter(|c| c.id == VENDOR_SPECIFIC) {
        let Some(kind) = cap.offset.checked_add(3) else {
            continue;
        };
        match f.read8(kind) {
            1 if common.is_none() => common = map_window(f, cap.offset),
            2 if notify.is_none() => {
                notify = map_window(f, cap.offset);
                notify_multiplier = f.read(cap.offset.checked_add(16)?);
            }
            3 if isr.is_none() => isr = map_window(f, cap.offset),
            4 if config.is_none() => config = map_window(f, cap.offset),
            _ => {}
        }
    }
    let common = common.filter(|w| w.len >= common::BYTES)?;
    Some(Registers::Modern {
        common,
        notify: notify?,
        notify_multiplier,
        isr: isr?,
        config,
    })
}

impl Transport {
    /// Takes over a function: finds its registers, resets it and switches MSI-X on.
    pub fn new(function: &Function) -> Result<Transport, SetupError> {
        function.enable();
        let registers = match find_modern(function) {
            Some(r) => r,
            None => match function.bar_base(0) {
                Some(BarBase::Io(port)) => Registers::Legacy { port },
                _ => return Err(SetupError::BadRegisters),
            },
        };
        let transport = Transport {
            function: *function,
            registers,
            msix: MsixTable::enable(function),
            features: 0,
        };
        transport.reset()?;
        transport.add_status(status::ACKNOWLEDGE);
        transport.add_status(status::DRIVER);
        Ok(transport)
    }

    fn status(&self) -> u8 {
        match self.registers {
            Registers::Modern { common, .. } => common.read(common::STATUS),
            // SAFETY: the device's status port.
            Registers::Legacy { port } => unsafe { inb(port + legacy::STATUS) },
        }
    }
    fn set_status(&self, value: u8) {
        match self.registers {
            Registers::Modern { common, .. } => common.write(common::STATUS, value),
            // SAFETY: the device's status port.
            Registers::Legacy { port } => unsafe { outb(port + legacy::STATUS, value) },
        }
    }
    fn add_status(&self, bits: u8) {
        self.set_status(self.status() | bits);
    }

    /// Stops the device; it forgets its queues and touches no memory afterwards.
    pub fn reset(&self) -> Result<(), SetupError> {
        self.set_status(0);
        // 4.1.4.3.2: the device says 0 when the reset is done.
        for _ in 0..1_000_000 {
            if self.status() == 0 {
                return Ok(());
            }
            core::hint::spin_loop();
        }
        Err(SetupError::Refused)
    }

    /// Gives the device up.
    pub fn fail(&self) {
        self.add_status(status::FAILED);
    }

    fn device_features(&self) -> u64 {
        match self.registers {
            Registers::Modern { common, .. } => {
                let mut features = 0;
                for half in 0..2u32 {
                    common.write(common::DEVICE_FEATURE_SELECT, half);
                    features |=
                        u64::from(common.read::<u32>(common::DEVICE_FEATURE)) << (32 * half);
                }
                features
            }
            // SAFETY: the device's feature port.
            Registers::Legacy { port } => unsafe { u64::from(inl(port + legacy::DEVICE_FEATURES)) },
        }
    }

    /// Agrees on the features that both the device and the driver (`wanted`) know; returns
    /// them. VERSION_1 and EVENT_IDX are taken where offered.
    pub fn negotiate(&mut self, wanted: u64) -> Result<u64, SetupError> {
        let offered = self.device_features();
        let features = offered & (wanted | feature::VERSION_1 | feature::EVENT_IDX);
        match self.registers {
            Registers::Modern { common, .. } => {
                if features & feature::VERSION_1 == 0 {
                    return Err(SetupError::Refused);
                }
                for half in 0..2u32 {
                    common.write(common::DRIVER_FEATURE_SELECT, half);
                    common.write(common::DRIVER_FEATURE, (features >> (32 * half)) as u32);
                }
                self.add_status(status::FEATURES_OK);
                if self.status() & status::FEATURES_OK == 0 {
                    return Err(SetupError::Refused);
                }
            }
            // SAFETY: the device's feature port.
            Registers::Legacy { port } => unsafe {
                outl(port + legacy::DRIVER_FEATURES, features as u32);
            },
        }
        self.features = features;
        Ok(features)
    }

    /// Whether the device has the modern interface: little-endian configuration, VERSION_1.
    pub fn is_modern(&self) -> bool {
        matches!(self.registers, Registers::Modern { .. })
    }

    /// Whether interrupts come as MSI-X messages, not over a line.
    pub fn has_msix(&self) -> bool {
        self.msix.is_some()
    }

    /// Sets up queue `index`; MSI-X entry `entry` announces its used buffers.
    pub fn setup_queue(&self, index: u16, entry: u16) -> Result<(Queue, Notifier), SetupError> {
        let event_idx = self.features & feature::EVENT_IDX != 0;
        match self.registers {
            Registers::Modern {
                common,
                notify,
                notify_multiplier,
                ..
            } => {
                common.write(common::QUEUE_SELECT, index);
                let max: u16 = common.read(common::QUEUE_SIZE);
                if max == 0 || !max.is_power_of_two() {
                    return Err(SetupError::NoQueue);
                }
                let size = max.min(MAX_SIZE);
                let queue = Queue::new(size, event_idx).map_err(|_| SetupError::OutOfMemory)?;
                common.write(common::QUEUE_SIZE, size);
                let vector = if self.msix.is_some() {
                    entry
                } else {
                    NO_VECTOR
                };
                common.write(common::QUEUE_MSIX_VECTOR, vector);
                if self.msix.is_some() && common.read::<u16>(common::QUEUE_MSIX_VECTOR) == NO_VECTOR
                {
                    return Err(SetupError::NoInterrupt);
                }
                let layout = queue.layout();
                for (at, addr) in [
                    (common::QUEUE_DESC, layout.desc),
                    (common::QUEUE_DRIVER, layout.avail),
                    (common::QUEUE_DEVICE, layout.used),
                ] {
                    // In halves: 64-bit accesses are optional (4.1.3.1).
                    common.write(at, addr.as_u64() as u32);
                    common.write(at + 4, (addr.as_u64() >> 32) as u32);
                }
                let off: u16 = common.read(common::QUEUE_NOTIFY_OFF);
                let at = u32::from(off)
                    .checked_mul(notify_multiplier)
                    .and_then(|offset| notify.at::<u16>(offset))
                    .ok_or(SetupError::BadRegisters)?;
                common.write(common::QUEUE_ENABLE, 1u16);
                Ok((
                    queue,
                    Notifier {
                        index,
                        register: NotifyRegister::Memory(at as u64),
                    },
                ))
            }
            Registers::Legacy { port } => {
                // SAFETY: the device's queue ports.
                let size = unsafe {
                    outw(port + legacy::QUEUE_SELECT, index);
                    inw(port + legacy::QUEUE_SIZE)
                };
                // The size of a legacy queue is not the driver's to choose.
                if size == 0 || !size.is_power_of_two() {
                    return Err(SetupError::NoQueue);
                }
                let queue = Queue::new(size, event_idx).map_err(|_| SetupError::OutOfMemory)?;
                let frame = queue.layout().desc.as_u64() >> 12;
                let frame = u32::try_from(frame).map_err(|_| SetupError::OutOfMemory)?;
                // SAFETY: as above; the queue's memory lives as long as the queue.
                unsafe {
                    if self.msix.is_some() {
                        outw(port + legacy::QUEUE_MSIX_VECTOR, entry);
                        if inw(port + legacy::QUEUE_MSIX_VECTOR) == NO_VECTOR {
                            return Err(SetupError::NoInterrupt);
                        }
                    }
                    outl(port + legacy::QUEUE_ADDRESS, frame);
                }
                Ok((
                    queue,
                    Notifier {
                        index,
                        register: NotifyRegister::Port(port + legacy::QUEUE_NOTIFY),
                    },
                ))
            }
        }
    }

    /// Connects a handler to MSI-X entry `entry`, on CPU `cpu`; without MSI-X to the
    /// function's line, where it runs when the device says that it raised the line.
    pub fn connect(&self, entry: u16, cpu: usize, handler: Handler) -> Result<(), SetupError> {
        if let Some(msix) = &self.msix {
            let vector = allocate_vector(handler).map_err(|_| SetupError::NoInterrupt)?;
            return if msix.set(entry, vector, cpu) {
                Ok(())
            } else {
                Err(SetupError::NoInterrupt)
            };
        }
        let registers = self.registers;
        self.function
            .connect_intx(alloc::boxed::Box::new(move || {
                // Reading takes the line back (4.1.4.5).
                let isr = match registers {
                    Registers::Modern { isr, .. } => isr.read::<u8>(0),
                    // SAFETY: the device's ISR port.
                    Registers::Legacy { port } => unsafe { inb(port + legacy::ISR) },
                };
                if isr & 3 != 0 {
                    handler();
                }
            }))
            .map(|_| ())
            .ok_or(SetupError::NoInterrupt)
    }

    /// Lets MSI-X entry `entry` announce changes of the device's configuration.
    pub fn set_config_entry(&self, entry: u16) {
        if self.msix.is_none() {
            return;
        }
        match self.registers {
            Registers::Modern { common, .. } => common.write(common::CONFIG_MSIX_VECTOR, entry),
            // SAFETY: the device's vector port.
            Registers::Legacy { port } => unsafe {
                outw(port + legacy::CONFIG_MSIX_VECTOR, entry);
            },
        }
    }

    /// Starts the device: from now on it uses its queues.
    pub fn start(&self) {
        self.add_status(status::DRIVER_OK);
    }

    /// Reads `out.len()` bytes of the device's configuration at `offset`; what lies outside
    /// reads as 0.
    pub fn read_config(&self, offset: u32, out: &mut [u8]) {
        match self.registers {
            Registers::Modern { common, config, .. } => {
                // Until no change came in between (4.1.4.3.1).
                for _ in 0..100 {
                    let before: u8 = common.read(common::CONFIG_GENERATION);
                    for (i, b) in out.iter_mut().enumerate() {
                        *b = config.map_or(0, |c| c.read(offset.saturating_add(i as u32)));
                    }
                    if common.read::<u8>(common::CONFIG_GENERATION) == before {
                        return;
                    }
                }
            }
            Registers::Legacy { port } => {
                let base = if self.msix.is_some() {
                    legacy::CONFIG_MSIX
                } else {
                    legacy::CONFIG
                };
                for (i, b) in out.iter_mut().enumerate() {
                    let at = port
                        .wrapping_add(base)
                        .wrapping_add(offset as u16)
                        .wrapping_add(i as u16);
                    // SAFETY: the device's configuration ports.
                    *b = unsafe { inb(at) };
                }
            }
        }
    }

    /// A little-endian 16-bit field of the configuration.
    pub fn config_u16(&self, offset: u32) -> u16 {
        let mut b = [0; 2];
        self.read_config(offset, &mut b);
        u16::from_le_bytes(b)
    }
    /// A little-endian 32-bit field of the configuration.
    pub fn config_u32(&self, offset: u32) -> u32 {
        let mut b = [0; 4];
        self.read_config(offset, &mut b);
        u32::from_le_bytes(b)
    }
    /// A little-endian 64-bit field of the configuration.
    pub fn config_u64(&self, offset: u32) -> u64 {
        let mut b = [0; 8];
        self.read_config(offset, &mut b);
        u64::from_le_bytes(b)
    }
}

/// Spreads interrupts over the CPUs: each call names the next one.
pub fn next_cpu() -> usize {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    usize::from(NEXT.fetch_add(1, Ordering::Relaxed)) % crate::arch::nr_cpus()
}

/// A driver's interrupt handler, as [`Transport::connect`] wants it.
pub fn handler<T: Send + Sync + 'static>(device: &Arc<T>, f: fn(&T)) -> Handler {
    let device = device.clone();
    alloc::boxed::Box::new(move || f(&device))
}
