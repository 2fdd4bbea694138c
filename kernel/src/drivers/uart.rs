//! The 16550 serial port (PC16550D data sheet): interrupt-driven in both directions.
//!
//! Programs write through a terminal, the kernel log through [`log_sink`]; both fill one
//! transmit ring that the transmitter-empty interrupt drains. Until [`Uart::start`] ran, and
//! after [`panic_mode`], the log goes out by waiting for the port.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use crate::arch::regs::{inb, outb};
use crate::error::Result;
use crate::sched::{self, WaitQueue};
use crate::sync::{IrqLock, Rank};
use crate::tty::ldisc::Settings;
use crate::tty::{Tty, TtyDriver};

/// I/O port of COM1.
const COM1: u16 = 0x3f8;
/// ISA interrupt of COM1.
pub const COM1_IRQ: u8 = 4;

// Register offsets (PC16550D, table II).
const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const IER_RECEIVE: u8 = 1;
const IER_TRANSMIT: u8 = 2;
const LSR_DATA_READY: u8 = 1;
const LSR_TRANSMIT_EMPTY: u8 = 0x20;
/// Depth of the transmit FIFO.
const FIFO_BYTES: usize = 16;
/// Bytes the transmit ring holds for programs; the log may use a half more.
const TX_BYTES: usize = 16 * 1024;
/// Bytes received and not yet processed; what comes beyond is lost, as on any line.
const RX_BYTES: usize = 16 * 1024;

fn read(register: u16) -> u8 {
    // SAFETY: COM1's registers; callers hold the port's lock or are the boot or panic path.
    unsafe { inb(COM1 + register) }
}

fn write(register: u16, value: u8) {
    // SAFETY: as in `read`.
    unsafe { outb(COM1 + register, value) }
}

/// Whether there is a port: the scratch register holds what is written.
pub fn probe() -> bool {
    [0x5a, 0xa5].into_iter().all(|pattern| {
        write(SCRATCH, pattern);
        read(SCRATCH) == pattern
    })
}

struct Port {
    tx: VecDeque<u8>,
    rx: VecDeque<u8>,
    /// The transmitter-empty interrupt is enabled: the ring is being drained.
    transmitting: bool,
    /// Held by flow control.
    stopped: bool,
}

/// The first serial port.
pub struct Uart {
    port: IrqLock<Port>,
    tty: spin_once::OnceTty,
    received: WaitQueue,
    /// Received bytes that found no room.
    nr_overruns: AtomicU64,
}

/// A terminal that is set once.
mod spin_once {
    use super::{IrqLock, Rank, Tty, Weak};
    use alloc::sync::Arc;

    pub struct OnceTty(IrqLock<Option<Weak<Tty>>>);
    impl OnceTty {
        pub const fn new() -> Self {
            Self(IrqLock::new(Rank::Leaf, None))
        }
        pub fn set(&self, tty: &Arc<Tty>) {
            *self.0.lock() = Some(Arc::downgrade(tty));
        }
        pub fn get(&self) -> Option<Arc<Tty>> {
            self.0.lock().as_ref()?.upgrade()
        }
    }
}

static LOG_PORT: IrqLock<Option<Arc<Uart>>> = IrqLock::new(Rank::Leaf, None);
static PANICKING: AtomicBool = AtomicBool::new(false);

impl Port {
    /// Moves bytes to the FIFO, and keeps the transmitter interrupt on while more wait.
    fn pump(&mut self) {
        if self.stopped {
            self.set_transmitting(false);
            return;
        }
        if read(LINE_STATUS) & LSR_TRANSMIT_EMPTY != 0 {
            let n = self.tx.len().min(FIFO_BYTES);
            self.tx.drain(..n).for_each(|byte| write(DATA, byte));
        }
        let more = !self.tx.is_empty();
        self.set_transmitting(more);
    }

    fn set_transmitting(&mut self, on: bool) {
        if self.transmitting != on {
            self.transmitting = on;
            write(
                INTERRUPT_ENABLE,
                if on {
                    IER_RECEIVE | IER_TRANSMIT
                } else {
                    IER_RECEIVE
                },
            );
        }
    }
}

impl Uart {
    /// Takes over COM1: terminal, interrupt handler (which the caller connects to
    /// [`COM1_IRQ`] with [`Uart::interrupt`]) and the worker that feeds the terminal.
    pub fn start(name: &'static str, device: u64) -> Result<(Arc<Uart>, Arc<Tty>)> {
        let uart = Arc::new(Uart {
            port: IrqLock::new(
                Rank::Device,
                Port {
                    // Full size at once: the interrupt handler never allocates.
                    tx: VecDeque::with_capacity(2 * TX_BYTES),
                    rx: VecDeque::with_capacity(RX_BYTES),
                    transmitting: false,
                    stopped: false,
                },
            ),
            tty: spin_once::OnceTty::new(),
            received: WaitQueue::new(),
            nr_overruns: AtomicU64::new(0),
        });
        let tty = Tty::new(name, device, uart.clone());
        uart.tty.set(&tty);
        let worker = uart.clone();
        sched::spawn_kernel("uart", move || worker.feed_terminal())?;
        Ok((uart, tty))
    }

    /// Enables the port's interrupts and hands the kernel log to the ring. After the
    /// interrupt handler is connected.
    pub fn enable(self: &Arc<Self>) {
        let port = self.port.lock();
        write(INTERRUPT_ENABLE, IER_RECEIVE);
        drop(port);
        *LOG_PORT.lock() = Some(self.clone());
    }

    /// The port's interrupt handler.
    pub fn interrupt(&self) {
        let (mut got, had_room, has_room);
        {
            let mut port = self.port.lock();
            got = false;
            while read(LINE_STATUS) & LSR_DATA_READY != 0 {
                let byte = read(DATA);
                if port.rx.len() < RX_BYTES {
                    port.rx.push_back(byte);
                    got = true;
                } else {
                    self.nr_overruns.fetch_add(1, SeqCst);
                }
            }
            had_room = port.tx.len() < TX_BYTES / 2;
            let was_empty = port.tx.is_empty();
            port.pump();
            // Writers are woken when half the ring is free, and drainers at its end.
            has_room =
                (!had_room && port.tx.len() < TX_BYTES / 2) || (!was_empty && port.tx.is_empty());
        }
        if got {
            self.received.wake_all();
        }
        if has_room && let Some(tty) = self.tty.get() {
            tty.output_ready();
        }
    }

    fn feed_terminal(&self) {
        // Changes places with the port's ring, so that nothing is allocated under its lock.
        let mut bytes = VecDeque::with_capacity(RX_BYTES);
        loop {
            // Counts as idle, not as work (load average); nothing interrupts a kernel thread.
            let waited = self.received.wait_interruptible(None, || {
                let mut port = self.port.lock();
                (!port.rx.is_empty()).then(|| core::mem::swap(&mut port.rx, &mut bytes))
            });
            if waited.is_ok()
                && let Some(tty) = self.tty.get()
            {
                let (first, second) = bytes.as_slices();
                tty.receive(first);
                tty.receive(second);
            }
            bytes.clear();
        }
    }
}

impl TtyDriver for Uart {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut port = self.port.lock();
        let n = bytes.len().min(TX_BYTES.saturating_sub(port.tx.len()));
        port.tx.extend(&bytes[..n]);
        if !port.transmitting {
            port.pump();
        }
        n
    }
    fn room(&self) -> usize {
        TX_BYTES.saturating_sub(self.port.lock().tx.len())
    }
    fn nr_pending(&self) -> usize {
        self.port.lock().tx.len()
    }
    fn flush_output(&self) {
        self.port.lock().tx.clear();
    }
    fn set_stopped(&self, stopped: bool) {
        let mut port = self.port.lock();
        if port.stopped != stopped {
            port.stopped = stopped;
            port.pump();
        }
    }
    fn configure(&self, _settings: &Settings) {
        // A virtual line has no speed; framing other than 8N1 would only corrupt it.
    }
}

/// Where the kernel log goes (`log::set_sink`).
pub fn log_sink(text: &str) {
    if !PANICKING.load(SeqCst)
        && let Some(uart) = LOG_PORT.try_lock().and_then(|p| p.clone())
        && let Some(mut port) = uart.port.try_lock()
    {
        if port.tx.len() + 2 * text.len() <= TX_BYTES + TX_BYTES / 2 {
            for &byte in text.as_bytes() {
                if byte == b'\n' {
                    port.tx.push_back(b'\r');
                }
                port.tx.push_back(byte);
            }
            if !port.transmitting {
                port.pump();
            }
        }
        return;
    }
    write_waiting(text);
}

/// From now on the log goes out by waiting for the port, whatever locks are held. What the
/// ring still holds goes out first, if no stopped CPU has its lock.
pub fn panic_mode() {
    PANICKING.store(true, SeqCst);
    if let Some(uart) = LOG_PORT.try_lock().and_then(|p| p.clone())
        && let Some(mut port) = uart.port.try_lock()
    {
        port.tx.drain(..).for_each(put_waiting);
    }
}

/// Writes by waiting for the port; each wait is bounded, so a dead port cannot hang.
fn write_waiting(text: &str) {
    for byte in text.bytes() {
        if byte == b'\n' {
            put_waiting(b'\r');
        }
        put_waiting(byte);
    }
}

fn put_waiting(byte: u8) {
    for _ in 0..100_000 {
        if read(LINE_STATUS) & LSR_TRANSMIT_EMPTY != 0 {
            break;
        }
        core::hint::spin_loop();
    }
    write(DATA, byte);
}
