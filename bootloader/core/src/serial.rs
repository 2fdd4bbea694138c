//! The first serial port, for error messages: COM1, 115200 8N1, polled.

use core::arch::asm;
use core::fmt;

const COM1: u16 = 0x3f8;
/// Reads of the line status before a character is given up: a missing or stuck port must
/// not hold up the boot.
const PATIENCE: u32 = 100_000;

/// Writes to the first serial port.
pub struct Serial(());

fn outb(port: u16, value: u8) {
    // SAFETY: only called with the ports of a 16550, whose registers do not touch memory.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags))
    };
}

fn inb(port: u16) -> u8 {
    let value;
    // SAFETY: as in `outb`.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags))
    };
    value
}

impl Serial {
    /// Sets the port up.
    ///
    /// # Safety
    /// Runs at privilege level 0, and nothing else uses COM1.
    pub unsafe fn init() -> Self {
        outb(COM1 + 1, 0); // no interrupts
        outb(COM1 + 3, 0x80); // divisor latch
        outb(COM1, 1); // 115200
        outb(COM1 + 1, 0);
        outb(COM1 + 3, 3); // 8N1
        outb(COM1 + 2, 7); // FIFO on and empty
        outb(COM1 + 4, 3); // DTR, RTS
        Serial(())
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            for byte in (byte == b'\n').then_some(b'\r').into_iter().chain([byte]) {
                let mut patience = PATIENCE;
                while inb(COM1 + 5) & 0x20 == 0 && patience > 0 {
                    patience -= 1;
                }
                outb(COM1, byte);
            }
        }
        Ok(())
    }
}
