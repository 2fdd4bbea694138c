//! Calls BIOS services from long mode, and gives safe access to the low memory they use.
//!
//! The loader is one thread with interrupts off, so that the fixed buffers of [`layout`]
//! have one user at a time: whoever makes the call.

use crate::layout::{ANSWER, ANSWER_LEN, BOUNCE, BOUNCE_LEN, PACKET, REGISTERS, STACK_TOP, TABLES};

core::arch::global_asm!(
    include_str!("boot.s"),
    REGISTERS = const REGISTERS,
    STACK_TOP = const STACK_TOP,
    TABLES = const TABLES,
    options(att_syntax)
);

unsafe extern "sysv64" {
    fn bios_interrupt(vector: u8);
    static boot_drive: u8;
    static boot_tsc: u64;
}

/// Registers before and after a call. `flags` is an output only.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Registers {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
    pub flags: u32,
    pub es: u16,
}

impl Registers {
    /// Whether the call set the carry flag: for most services, whether it failed.
    pub fn carry(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// Calls the BIOS service `vector`.
pub fn call(vector: u8, registers: Registers) -> Registers {
    let at = REGISTERS as *mut Registers;
    // SAFETY: the address is the loader's alone by `layout` and aligned; `bios_interrupt`
    // keeps what the ABI says is kept. What the service itself writes is up to the caller,
    // who passes only addresses of `layout`.
    unsafe {
        at.write_volatile(registers);
        bios_interrupt(vector);
        at.read_volatile()
    }
}

/// The drive the BIOS started from, as int 13h counts.
pub fn drive() -> u8 {
    // SAFETY: written once by the boot sector, before any Rust ran.
    unsafe { boot_drive }
}

/// TSC when the boot sector started.
pub fn tsc_at_start() -> u64 {
    // SAFETY: as in `drive`; `boot_tsc` is aligned by its place in the boot sector.
    unsafe { boot_tsc }
}

/// Copies out what the last call left in [`ANSWER`].
pub fn answer() -> [u8; ANSWER_LEN] {
    let mut copy = [0; ANSWER_LEN];
    // SAFETY: fixed memory of `layout`, always readable, and no reference to it exists.
    unsafe { core::ptr::copy_nonoverlapping(ANSWER as *const u8, copy.as_mut_ptr(), ANSWER_LEN) };
    copy
}

/// Fills the beginning of [`ANSWER`].
pub fn set_answer(bytes: &[u8]) {
    let len = bytes.len().min(ANSWER_LEN);
    // SAFETY: within the buffer, which is the loader's alone.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), ANSWER as *mut u8, len) };
}

/// Writes the disk address packet.
pub fn set_packet(packet: [u8; 16]) {
    // SAFETY: fixed memory of `layout`, the loader's alone.
    unsafe { (PACKET as *mut [u8; 16]).write_volatile(packet) };
}

/// What the last disk read left in the bounce buffer.
pub fn bounce() -> &'static [u8; BOUNCE_LEN] {
    // SAFETY: fixed memory of `layout`; only a BIOS call writes it, and every user is done
    // with the reference before it makes the next one.
    unsafe { &*(BOUNCE as *const [u8; BOUNCE_LEN]) }
}

/// A little-endian 16-bit word of real-mode memory, at `segment:offset` in `address`.
pub fn far_word(address: u32) -> u16 {
    let linear = (address >> 16) * 16 + (address & 0xffff);
    // SAFETY: below 1 MiB + 64 KiB, which is mapped and never device memory that a read
    // disturbs; unaligned and volatile because it is the BIOS's.
    let bytes = unsafe { (linear as *const [u8; 2]).read_volatile() };
    u16::from_le_bytes(bytes)
}

/// The bytes `start..start + len` of the first MiB, read-only firmware data.
pub fn firmware(start: usize, len: usize) -> &'static [u8] {
    let (start, len) = if start.saturating_add(len) <= 1 << 20 && start >= 0x400 {
        (start, len)
    } else {
        (0x400, 0)
    };
    // SAFETY: within the first MiB, mapped, and not touched by the loader.
    unsafe { core::slice::from_raw_parts(start as *const u8, len) }
}
