//! Power: off, restart, the power button and Ctrl-Alt-Del.
//!
//! Off and restart go through the registers that ACPI's FADT names (ACPI 6.5, 4.8.3); there
//! is no AML interpreter, so `_S5_` was read by pattern (`arch::acpi`).

use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::acpi::{Power, platform};
use crate::arch::regs::{inw, outb, outw};
use crate::arch::{self, interrupts};

/// PM1 control: the machine is in ACPI mode.
const SCI_EN: u16 = 1;
/// PM1 control: enter the sleep state of SLP_TYP.
const SLP_EN: u16 = 1 << 13;
const SLP_TYP_SHIFT: u32 = 10;
/// PM1 status and enable: power button.
const PWRBTN: u16 = 1 << 8;

/// Stops the other CPUs and switches the machine off. Halts where that is not possible.
pub fn off() -> ! {
    let power = &platform().power;
    stop_others();
    if let Some((type_a, type_b)) = power.soft_off {
        enable_acpi(power);
        let _ = arch::irq_save();
        for (port, kind) in [(power.pm1a_control, type_a), (power.pm1b_control, type_b)] {
            if port != 0 {
                let value = u16::from(kind & 7) << SLP_TYP_SHIFT | SLP_EN;
                // SAFETY: the control register that the firmware named; the machine ends here.
                unsafe { outw(port, value) };
            }
        }
        arch::clock::spin_ns(100_000_000);
    }
    emergency!("power: the machine does not switch itself off; halted");
    arch::cpu::halt_forever()
}

/// Stops the other CPUs and restarts the machine.
pub fn restart() -> ! {
    stop_others();
    let _ = arch::irq_save();
    if let Some((port, value)) = platform().power.reset {
        // SAFETY: the reset register that the firmware named (ACPI 6.5, 4.8.3.6).
        unsafe { outb(port, value) };
        arch::clock::spin_ns(10_000_000);
    }
    arch::reset::reset()
}

/// Whether Ctrl-Alt-Del restarts at once (man 2 reboot, `LINUX_REBOOT_CMD_CAD_ON`).
static CTRL_ALT_DEL_RESTARTS: AtomicBool = AtomicBool::new(true);

/// Says what Ctrl-Alt-Del does: restart at once, or ask the first process for it.
pub fn set_ctrl_alt_del(restarts: bool) {
    CTRL_ALT_DEL_RESTARTS.store(restarts, Ordering::Relaxed);
}

/// Ctrl-Alt-Del was pressed: restarts, or calls `ask`.
pub fn ctrl_alt_del(ask: impl FnOnce()) {
    if CTRL_ALT_DEL_RESTARTS.load(Ordering::Relaxed) {
        info!("power: restart by Ctrl-Alt-Del");
        restart()
    }
    ask()
}

/// Stops all CPUs for good.
pub fn halt() -> ! {
    stop_others();
    emergency!("power: halted");
    arch::cpu::halt_forever()
}

fn stop_others() {
    let _ = arch::irq_save();
    arch::ipi::broadcast(arch::ipi::Ipi::Stop);
}

/// Switches to ACPI mode, if the firmware left it off (ACPI 6.5, 4.8.2.5).
fn enable_acpi(power: &Power) {
    let enabled = || {
        // SAFETY: the control register that the firmware named.
        power.pm1a_control == 0 || unsafe { inw(power.pm1a_control) } & SCI_EN != 0
    };
    if enabled() || power.smi_command == 0 || power.acpi_enable == 0 {
        return;
    }
    // SAFETY: the command port and value that the firmware named.
    unsafe { outb(power.smi_command, power.acpi_enable) };
    let end = crate::time::now_ns() + 100_000_000;
    while !enabled() && crate::time::now_ns() < end {
        core::hint::spin_loop();
    }
}

/// Calls `pressed`, in interrupt context, when somebody presses the power button. False when
/// the machine has none.
pub fn on_power_button(pressed: fn()) -> bool {
    let power = &platform().power;
    let (event, len) = (power.pm1a_event, u16::from(power.pm1_event_len));
    if event == 0 || len < 4 || power.sci == 0 {
        return false;
    }
    enable_acpi(power);
    let enable = event + len / 2;
    let handler = move || {
        // SAFETY: the status register that the firmware named; a written 1 clears the bit.
        let mine = unsafe {
            let status = inw(event) & PWRBTN;
            if status != 0 {
                outw(event, status);
            }
            status
        };
        if mine != 0 {
            pressed();
        }
    };
    let Ok(sci) = u8::try_from(power.sci) else {
        return false;
    };
    if interrupts::connect_isa(sci, alloc::boxed::Box::new(handler)).is_err() {
        return false;
    }
    // SAFETY: the registers that the firmware named: forgets old presses, wants new ones.
    unsafe {
        outw(event, PWRBTN);
        outw(enable, PWRBTN);
    }
    true
}
