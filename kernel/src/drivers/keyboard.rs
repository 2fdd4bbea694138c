//! The PC's keyboard, as far as Ctrl-Alt-Del: somebody at the screen can restart the machine.
//! What else is typed goes nowhere, because the terminal is the serial port.
//!
//! Controller: Intel 8042 as PCs have it; scan codes: set 1, which the controller translates to.
#![cfg_attr(
    not(any(target_os = "none", test)),
    allow(dead_code, reason = "only the bare target has the keyboard")
)]

/// Prefix of the keys that the first keyboards did not have.
const EXTENDED: u8 = 0xe0;
/// The key was let go.
const RELEASED: u8 = 0x80;
const CTRL: u8 = 0x1d;
const ALT: u8 = 0x38;
const DELETE: u8 = 0x53;

/// Which of the keys that count are held.
#[derive(Default)]
struct Keys {
    /// The last byte was [`EXTENDED`].
    extended: bool,
    /// Left and right.
    ctrl: [bool; 2],
    alt: [bool; 2],
}

impl Keys {
    /// Takes a byte from the keyboard; true when Ctrl-Alt-Del is complete.
    fn take(&mut self, byte: u8) -> bool {
        let side = usize::from(core::mem::replace(&mut self.extended, byte == EXTENDED));
        let held = byte & RELEASED == 0;
        match byte & !RELEASED {
            CTRL => self.ctrl[side] = held,
            ALT => self.alt[side] = held,
            DELETE => return held && self.ctrl.contains(&true) && self.alt.contains(&true),
            _ => {}
        }
        false
    }
}

#[cfg(target_os = "none")]
pub use controller::start;

#[cfg(target_os = "none")]
mod controller {
    use alloc::boxed::Box;

    use super::Keys;
    use crate::arch::interrupts;
    use crate::arch::regs::{inb, outb};
    use crate::sync::{IrqLock, Rank};

    const DATA: u16 = 0x60;
    /// Status when read, command when written.
    const CONTROL: u16 = 0x64;
    const IRQ: u8 = 1;
    // Status.
    const OUTPUT_FULL: u8 = 1;
    const INPUT_FULL: u8 = 1 << 1;
    const FROM_MOUSE: u8 = 1 << 5;
    // Commands of the controller.
    const READ_CONFIG: u8 = 0x20;
    const WRITE_CONFIG: u8 = 0x60;
    const DISABLE_MOUSE: u8 = 0xa7;
    const DISABLE_KEYBOARD: u8 = 0xad;
    const ENABLE_KEYBOARD: u8 = 0xae;
    // Configuration.
    const INTERRUPTS: u8 = 1;
    const MOUSE_INTERRUPTS: u8 = 1 << 1;
    const KEYBOARD_OFF: u8 = 1 << 4;
    const TRANSLATED: u8 = 1 << 6;
    /// Command of the keyboard: send scan codes.
    const ENABLE_SCANNING: u8 = 0xf4;
    /// Reads of the status until the controller is taken for dead.
    const PATIENCE: usize = 10_000;

    /// What is held down. Taken by the interrupt handler only.
    static KEYS: IrqLock<Keys> = IrqLock::new(
        Rank::Leaf,
        Keys {
            extended: false,
            ctrl: [false; 2],
            alt: [false; 2],
        },
    );

    fn status() -> u8 {
        // SAFETY: reading the status changes nothing; without a controller it reads as ones.
        unsafe { inb(CONTROL) }
    }

    fn write(port: u16, value: u8) -> Option<()> {
        (0..PATIENCE).find(|_| status() & INPUT_FULL == 0)?;
        // SAFETY: the controller's own ports, and it takes the byte now.
        unsafe { outb(port, value) };
        Some(())
    }

    fn read() -> Option<u8> {
        (0..PATIENCE).find(|_| status() & OUTPUT_FULL != 0)?;
        // SAFETY: the controller has a byte.
        Some(unsafe { inb(DATA) })
    }

    /// Sets the controller up and calls `pressed`, in interrupt context, at each Ctrl-Alt-Del.
    /// A machine without a keyboard is left alone.
    pub fn start(pressed: fn()) {
        if status() == 0xff || set_up().is_none() {
            debug!("no keyboard");
            return;
        }
        let handler = move || {
            let mut complete = false;
            // A byte, or a few that came while the line was masked.
            for _ in 0..16 {
                let status = status();
                if status & OUTPUT_FULL == 0 {
                    break;
                }
                // SAFETY: the controller has a byte.
                let byte = unsafe { inb(DATA) };
                if status & FROM_MOUSE == 0 {
                    complete |= KEYS.lock().take(byte);
                }
            }
            if complete {
                pressed();
            }
        };
        if let Err(e) = interrupts::connect_isa(IRQ, Box::new(handler)) {
            warn!("keyboard: {e:?}");
            return;
        }
        // What was typed during start-up would hold the interrupt back.
        drain();
    }

    fn drain() {
        for _ in 0..64 {
            if status() & OUTPUT_FULL == 0 {
                break;
            }
            // SAFETY: the controller has a byte.
            unsafe { inb(DATA) };
        }
    }

    fn set_up() -> Option<()> {
        write(CONTROL, DISABLE_KEYBOARD)?;
        write(CONTROL, DISABLE_MOUSE)?;
        drain();
        write(CONTROL, READ_CONFIG)?;
        let config = read()?;
        write(CONTROL, WRITE_CONFIG)?;
        write(
            DATA,
            config & !(KEYBOARD_OFF | MOUSE_INTERRUPTS) | INTERRUPTS | TRANSLATED,
        )?;
        write(CONTROL, ENABLE_KEYBOARD)?;
        // Its acknowledgement is a byte like any other.
        write(DATA, ENABLE_SCANNING)
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    fn complete(bytes: &[u8]) -> usize {
        let mut keys = Keys::default();
        bytes.iter().filter(|b| keys.take(**b)).count()
    }

    #[test]
    fn ctrl_alt_del_is_seen_in_every_form() {
        // Left keys, the keypad's Del; right keys, the other Del; in another order.
        assert_eq!(complete(&[0x1d, 0x38, 0x53, 0xd3, 0xb8, 0x9d]), 1);
        assert_eq!(complete(&[0xe0, 0x38, 0xe0, 0x1d, 0xe0, 0x53]), 1);
        assert_eq!(
            complete(&[0x38, 0x1d, 0xe0, 0x53, 0xe0, 0xd3, 0xe0, 0x53]),
            2
        );
    }

    #[test]
    fn other_keys_are_not() {
        // Del alone; with one of the two; after one was let go; the letters around.
        assert_eq!(
            complete(&[0x53, 0xd3, 0x1d, 0x53, 0xd3, 0x9d, 0x38, 0x53]),
            0
        );
        assert_eq!(complete(&[0x1d, 0x38, 0x9d, 0x53]), 0);
        // Right Ctrl goes, left Ctrl stays.
        assert_eq!(complete(&[0x1d, 0xe0, 0x1d, 0xe0, 0x9d, 0x38, 0x53]), 1);
        assert_eq!(complete(&[0xfa, 0x1d, 0x38, 0x52, 0xd2]), 0);
    }
}
