//! Control registers, model-specific registers, I/O ports: single instructions behind
//! typed names. Absent on the host.

use core::arch::asm;

/// IA32_EFER.
pub const EFER: u32 = 0xc000_0080;
/// Selectors that `syscall` and `sysret` load.
pub const STAR: u32 = 0xc000_0081;
/// Entry point of `syscall`.
pub const LSTAR: u32 = 0xc000_0082;
/// Flags that `syscall` clears.
pub const FMASK: u32 = 0xc000_0084;
/// FS base.
pub const FS_BASE: u32 = 0xc000_0100;
/// GS base.
pub const GS_BASE: u32 = 0xc000_0101;
/// The GS base that `swapgs` exchanges.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// Where the local APIC is and whether it is on.
pub const APIC_BASE: u32 = 0x1b;
/// Deadline of the local APIC's timer.
pub const TSC_DEADLINE: u32 = 0x6e0;

/// What raised the last debug exception (DR6); forgets it.
pub fn take_debug_status() -> u64 {
    /// Its value when nothing did (SDM 3, 18.2.3).
    const IDLE: u64 = 0xffff_0ff0;
    let status;
    // SAFETY: kernel mode; DR6 only reports.
    unsafe {
        asm!("mov {}, dr6", "mov dr6, {}", out(reg) status, in(reg) IDLE,
            options(nomem, nostack, preserves_flags))
    };
    status
}

/// Reads a model-specific register.
///
/// # Safety
/// The CPU has the register.
#[inline]
pub unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: kernel mode; the caller knows that the register exists.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The CPU has the register, and the value keeps what Rust code relies on.
#[inline]
pub unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: kernel mode; the caller vouches for register and value.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags))
    };
}

macro_rules! control_register {
    ($read:ident, $write:ident, $name:literal) => {
        #[doc = concat!("Reads ", $name, ".")]
        #[inline]
        pub fn $read() -> u64 {
            let value: u64;
            // SAFETY: kernel mode; reading has no side effect.
            unsafe {
                asm!(concat!("mov {}, ", $name), out(reg) value,
                    options(nomem, nostack, preserves_flags))
            };
            value
        }
        #[doc = concat!("Writes ", $name, ".")]
        ///
        /// # Safety
        /// The value keeps what running code relies on.
        #[inline]
        pub unsafe fn $write(value: u64) {
            // SAFETY: kernel mode; the caller vouches for the value.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    };
}
control_register!(cr0, set_cr0, "cr0");
control_register!(cr2, set_cr2, "cr2");
control_register!(cr3, set_cr3, "cr3");
control_register!(cr4, set_cr4, "cr4");

macro_rules! port {
    ($read:ident, $write:ident, $t:ty, $reg:tt) => {
        /// Reads an I/O port.
        ///
        /// # Safety
        /// Reading the port has only the effect the caller wants on its device.
        #[inline]
        pub unsafe fn $read(port: u16) -> $t {
            let value: $t;
            // SAFETY: kernel mode; the caller knows the device.
            unsafe {
                asm!(concat!("in ", $reg, ", dx"), out($reg) value, in("dx") port,
                    options(nostack, preserves_flags))
            };
            value
        }
        /// Writes an I/O port.
        ///
        /// # Safety
        /// Writing the port has only the effect the caller wants on its device.
        #[inline]
        pub unsafe fn $write(port: u16, value: $t) {
            // SAFETY: kernel mode; the caller knows the device.
            unsafe {
                asm!(concat!("out dx, ", $reg), in("dx") port, in($reg) value,
                    options(nostack, preserves_flags))
            };
        }
    };
}
port!(inb, outb, u8, "al");
port!(inw, outw, u16, "ax");
port!(inl, outl, u32, "eax");
