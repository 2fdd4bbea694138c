//! I/O APICs: interrupt lines of devices (82093AA datasheet; ACPI 6.5, 5.2.12).

use super::interrupts::{Polarity, RouteError, Trigger};

/// Lets line `gsi` raise `vector` on the boot CPU.
pub fn route(
    _gsi: u32,
    _vector: u8,
    _trigger: Trigger,
    _polarity: Polarity,
) -> Result<(), RouteError> {
    Err(RouteError::NoSuchLine)
}

/// Where ISA interrupt `irq` goes.
pub fn isa_line(irq: u8) -> (u32, Trigger, Polarity) {
    (u32::from(irq), Trigger::Edge, Polarity::High)
}
