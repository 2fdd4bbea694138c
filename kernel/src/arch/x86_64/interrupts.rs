//! Vectors above 31: who handles which, and how devices reach one (I/O APIC lines, MSI).

use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering};

/// First vector for devices.
pub const FIRST_DEVICE: u8 = 0x30;
/// Last vector for devices; above are the local APIC's and IPIs.
pub const LAST_DEVICE: u8 = 0xef;
/// This CPU's timer.
pub const TIMER: u8 = 0xfe;
/// The local APIC's spurious vector (low four bits set, as old ones want).
pub const SPURIOUS: u8 = 0xff;

/// What runs when an interrupt comes: in interrupt context, on whichever CPU got it.
pub type Handler = Box<dyn Fn() + Send + Sync>;

/// How a line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// On the change.
    Edge,
    /// While it is active.
    Level,
}

/// Which level of a line is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// High.
    High,
    /// Low.
    Low,
}

/// Why a line cannot be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// All vectors are in use.
    NoVector,
    /// No I/O APIC has the line.
    NoSuchLine,
}

/// What an MSI capability is told (PCI Local Bus 3.0, 6.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiMessage {
    /// Message address.
    pub address: u64,
    /// Message data.
    pub data: u32,
}

/// A handler in a vector's list. Never freed: lists are read without a lock.
struct Node {
    handler: Handler,
    next: *mut Node,
}

static HANDLERS: [AtomicPtr<Node>; 256] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 256];
static NEXT_VECTOR: AtomicU8 = AtomicU8::new(FIRST_DEVICE);
/// Vector of each connected GSI below 64, eight bits each; 0 for none.
static GSI_VECTORS: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];
/// Interrupts taken, per vector: for /proc/interrupts.
static COUNTS: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

/// A fresh vector that runs `handler`.
pub fn allocate_vector(handler: Handler) -> Result<u8, RouteError> {
    let vector = NEXT_VECTOR
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |v| {
            (v <= LAST_DEVICE).then_some(v + 1)
        })
        .map_err(|_| RouteError::NoVector)?;
    add_handler(vector, handler);
    Ok(vector)
}

/// Adds a handler to a vector that has one (lines shared by PCI devices): all run.
pub fn add_handler(vector: u8, handler: Handler) {
    let slot = &HANDLERS[vector as usize];
    let node = Box::into_raw(Box::new(Node {
        handler,
        next: core::ptr::null_mut(),
    }));
    let mut head = slot.load(Ordering::Acquire);
    loop {
        // SAFETY: the node is not shared before the exchange below succeeds.
        unsafe { (*node).next = head };
        match slot.compare_exchange(head, node, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// Lets I/O APIC line `gsi` raise `vector` on the boot CPU, unmasked.
pub fn route_gsi(
    gsi: u32,
    vector: u8,
    trigger: Trigger,
    polarity: Polarity,
) -> Result<(), RouteError> {
    #[cfg(target_os = "none")]
    {
        super::ioapic::route(gsi, vector, trigger, polarity)
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (gsi, vector, trigger, polarity);
        Err(RouteError::NoSuchLine)
    }
}

/// Connects a handler to a line that others may share. Returns the line's vector.
pub fn connect_gsi(
    gsi: u32,
    trigger: Trigger,
    polarity: Polarity,
    handler: Handler,
) -> Result<u8, RouteError> {
    let known = GSI_VECTORS
        .get(gsi as usize)
        .ok_or(RouteError::NoSuchLine)?;
    let vector = known.load(Ordering::Acquire);
    if vector != 0 {
        add_handler(vector, handler);
        return Ok(vector);
    }
    let vector = allocate_vector(handler)?;
    route_gsi(gsi, vector, trigger, polarity)?;
    known.store(vector, Ordering::Release);
    Ok(vector)
}

/// Connects a handler to one of the sixteen ISA interrupts (4: COM1, 1: keyboard, 12: mouse,
/// 8: RTC), wherever the firmware says that its line goes.
pub fn connect_isa(irq: u8, handler: Handler) -> Result<u8, RouteError> {
    #[cfg(target_os = "none")]
    {
        let (gsi, trigger, polarity) = super::ioapic::isa_line(irq);
        connect_gsi(gsi, trigger, polarity, handler)
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (irq, handler);
        Err(RouteError::NoSuchLine)
    }
}

/// What to write into an MSI or MSI-X entry so that the device raises `vector` on CPU `cpu`
/// (Intel SDM 3A, 11.11).
pub fn msi_message(vector: u8, cpu: usize) -> MsiMessage {
    #[cfg(target_os = "none")]
    let apic_id = u64::from(super::percpu::of(cpu).map_or(0, |c| c.apic_id) & 0xff);
    #[cfg(not(target_os = "none"))]
    let apic_id = cpu as u64;
    MsiMessage {
        address: 0xfee0_0000 | apic_id << 12,
        data: u32::from(vector),
    }
}

/// How often `vector` was taken.
pub fn count(vector: u8) -> u64 {
    COUNTS[vector as usize].load(Ordering::Relaxed)
}

/// Counts one interrupt.
pub fn count_one(vector: u8) {
    COUNTS[vector as usize].fetch_add(1, Ordering::Relaxed);
}

/// Runs a vector's handlers, newest first; false when it has none.
pub fn run_handlers(vector: u8) -> bool {
    let mut node = HANDLERS[vector as usize].load(Ordering::Acquire);
    let any = !node.is_null();
    while !node.is_null() {
        // SAFETY: nodes are complete before they are linked, and never freed.
        let n = unsafe { &*node };
        (n.handler)();
        node = n.next;
    }
    any
}
