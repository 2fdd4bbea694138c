//! Restarting the machine.

use super::regs::{inb, outb};

/// Restarts the machine by the means that every PC has: the keyboard controller, then
/// PCI's reset register, then a fault that cannot be handled.
pub fn reset() -> ! {
    let _ = super::irq_save();
    // SAFETY: the machine ends here.
    unsafe {
        // ICH9 datasheet 13.7.5, also PIIX3: full reset.
        outb(0xcf9, 0x02);
        outb(0xcf9, 0x06);
        for _ in 0..10_000 {
            if inb(0x64) & 2 == 0 {
                break;
            }
        }
        outb(0x64, 0xfe);
        for _ in 0..1_000_000 {
            core::hint::spin_loop();
        }
        #[repr(C, packed)]
        struct Pointer(u16, u64);
        let none = Pointer(0, 0);
        core::arch::asm!("lidt [{}]", "int3", in(reg) &none);
    }
    super::cpu::halt_forever()
}
