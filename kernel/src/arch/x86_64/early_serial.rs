//! COM1 as the console of the first milliseconds and of panics, polled. The driver in
//! `drivers` takes over once interrupts work.

use core::sync::atomic::{AtomicU8, Ordering};

use super::regs::{inb, outb};

const COM1: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
const FIFO_BYTES: usize = 16;

const UNKNOWN: u8 = 0;
const PRESENT: u8 = 1;
const ABSENT: u8 = 2;
static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);

fn present() -> bool {
    if STATE.load(Ordering::Relaxed) == UNKNOWN {
        // SAFETY: COM1's registers; on a machine without it the ports lead nowhere. 16550:
        // 115200 baud, 8 data bits, no parity, 1 stop bit, FIFOs on, no interrupts.
        let there = unsafe {
            outb(COM1 + SCRATCH, 0x5a);
            let there = inb(COM1 + SCRATCH) == 0x5a;
            if there {
                outb(COM1 + INTERRUPT_ENABLE, 0);
                outb(COM1 + LINE_CONTROL, 0x80);
                outb(COM1, 1);
                outb(COM1 + 1, 0);
                outb(COM1 + LINE_CONTROL, 3);
                outb(COM1 + FIFO_CONTROL, 7);
                outb(COM1 + MODEM_CONTROL, 3);
            }
            there
        };
        STATE.store(if there { PRESENT } else { ABSENT }, Ordering::Relaxed);
    }
    STATE.load(Ordering::Relaxed) == PRESENT
}

/// Writes text, with CR before each LF. A log sink: from any context. Two CPUs that write at
/// once mix their lines.
pub fn write(text: &str) {
    if !present() {
        return;
    }
    let mut room = 0;
    let mut put = |byte: u8| {
        if room == 0 {
            // A UART that never gets ready must not stop the kernel.
            for _ in 0..1_000_000 {
                // SAFETY: COM1 is there; reading its status changes nothing.
                if unsafe { inb(COM1 + LINE_STATUS) } & TRANSMITTER_EMPTY != 0 {
                    break;
                }
                core::hint::spin_loop();
            }
            room = FIFO_BYTES;
        }
        // SAFETY: COM1 is there and has room.
        unsafe { outb(COM1, byte) };
        room -= 1;
    };
    for byte in text.bytes() {
        if byte == b'\n' {
            put(b'\r');
        }
        put(byte);
    }
}
