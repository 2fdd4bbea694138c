//! Terminals: the serial port, and which one is /dev/console.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::abi;
use crate::arch::interrupts;
use crate::drivers::uart::{self, Uart};
use crate::error::{Errno, Result};
use crate::file::File;
use crate::sync::{Rank, SpinLock};
use crate::tty::Tty;
use crate::vfs::Dev;
use crate::vfs::device;

/// Numbers of Linux's devices.txt.
const TTYS0: Dev = Dev::new(4, 64);
const CONSOLE: Dev = Dev::new(5, 1);

/// The first serial port's terminal, once there is one.
static SERIAL: SpinLock<Option<Arc<Tty>>> = SpinLock::new(Rank::Leaf, None);

/// The terminal that is the console.
pub fn terminal() -> Option<Arc<Tty>> {
    SERIAL.lock().clone()
}

fn open_serial(_: Dev, flags: u32) -> Result<Arc<dyn File>> {
    terminal().ok_or(Errno::ENXIO)?.open(flags)
}

/// Never becomes a controlling terminal by being opened (as on Linux).
fn open_console(_: Dev, flags: u32) -> Result<Arc<dyn File>> {
    terminal().ok_or(Errno::ENXIO)?.open(flags | abi::O_NOCTTY)
}

/// Brings up the serial port, if there is one, and shows the terminals in /dev.
pub fn start() {
    if !uart::probe() {
        return;
    }
    if let Err(e) = start_serial() {
        error!("ttyS0: {e:?}");
        return;
    }
    device::register_char(TTYS0.major, TTYS0.minor, 1, open_serial);
    device::add_node("ttyS0", abi::S_IFCHR | 0o620, TTYS0);
    device::register_char(CONSOLE.major, CONSOLE.minor, 1, open_console);
    device::add_node("console", abi::S_IFCHR | 0o600, CONSOLE);
}

fn start_serial() -> Result<()> {
    let (port, tty) = Uart::start("ttyS0", TTYS0.encode())?;
    let handler = port.clone();
    interrupts::connect_isa(uart::COM1_IRQ, Box::new(move || handler.interrupt()))
        .map_err(|_| Errno::ENODEV)?;
    *SERIAL.lock() = Some(tty);
    port.enable();
    crate::trap::panic::set_hook(uart::panic_mode);
    crate::log::set_sink(uart::log_sink);
    Ok(())
}
