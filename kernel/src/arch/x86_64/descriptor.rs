//! Segment, task-state and interrupt descriptors of each CPU.
//!
//! Selectors have Linux's numbers, because programs see them. Double fault, NMI and machine
//! check run on stacks of their own (IST), so that they work whatever the kernel stack is.

use core::cell::UnsafeCell;

use super::trap_frame::{KERNEL_CS, KERNEL_SS};
use super::{MAX_CPUS, cpu_id};

const TSS_SELECTOR: u16 = 0x40;
/// IST index (1-based) of the double-fault stack.
pub const IST_DOUBLE_FAULT: u8 = 1;
/// IST index of the NMI stack.
pub const IST_NMI: u8 = 2;
/// IST index of the machine-check stack.
pub const IST_MACHINE_CHECK: u8 = 3;
const IST_STACK_BYTES: usize = 8192;

/// Intel SDM 3A, 8.7.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
struct Tss {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map_base: u16,
}

#[repr(C, align(64))]
struct Cpu {
    gdt: [u64; 10],
    tss: Tss,
}

#[repr(C, align(16))]
struct IstStacks([[u8; IST_STACK_BYTES]; 3]);

struct PerCpuTables(UnsafeCell<[Cpu; MAX_CPUS]>);
// SAFETY: each CPU touches its own element only.
unsafe impl Sync for PerCpuTables {}

static TABLES: PerCpuTables = PerCpuTables(UnsafeCell::new(
    [const {
        Cpu {
            gdt: [
                0,
                0,
                0x00af_9b00_0000_ffff, // 0x10: kernel code, 64 bits
                0x00cf_9300_0000_ffff, // 0x18: kernel data
                0, // 0x20: no 32-bit user code, where `syscall` would enter the kernel at CSTAR
                0x00cf_f300_0000_ffff, // 0x28: user data
                0x00af_fb00_0000_ffff, // 0x30: user code, 64 bits
                0,
                0, // 0x40: TSS, filled in by `load`
                0,
            ],
            tss: Tss {
                reserved0: 0,
                rsp: [0; 3],
                reserved1: 0,
                ist: [0; 7],
                reserved2: 0,
                reserved3: 0,
                io_map_base: size_of::<Tss>() as u16,
            },
        }
    }; MAX_CPUS],
));

/// The boot CPU's IST stacks; the others' come from [`load`]'s caller.
struct BootStacks(UnsafeCell<IstStacks>);
// SAFETY: only the CPU's exception entries use it.
unsafe impl Sync for BootStacks {}
static BOOT_STACKS: BootStacks = BootStacks(UnsafeCell::new(IstStacks([[0; IST_STACK_BYTES]; 3])));

/// Bytes that a CPU other than the boot CPU needs for its IST stacks.
pub const IST_BYTES: usize = size_of::<IstStacks>();

/// Sets TSS.rsp0 of this CPU. Interrupts are off, or no user thread runs here.
#[inline]
pub fn set_rsp0(top: u64) {
    // SAFETY: this CPU's own TSS; the field is unaligned.
    unsafe {
        let tss = &raw mut (*TABLES.0.get())[cpu_id()].tss;
        (&raw mut (*tss).rsp[0]).write_unaligned(top);
    }
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Loads GDT, TSS and IDT on this CPU. `ist` is the start of [`IST_BYTES`] of memory for its
/// IST stacks, 16-byte aligned; `None` on the boot CPU.
///
/// # Safety
/// Interrupts are off, GS is at this CPU's block, `ist` is this CPU's for ever.
#[cfg(target_os = "none")]
pub unsafe fn load(ist: Option<u64>) {
    let cpu = cpu_id();
    let base = ist.unwrap_or(BOOT_STACKS.0.get() as u64);
    // SAFETY: this CPU's own tables, not yet loaded, hence not read by anything.
    let (gdt, tss) = unsafe {
        let own = &raw mut (*TABLES.0.get())[cpu];
        let tss = &raw mut (*own).tss;
        for i in 0..3u64 {
            (&raw mut (*tss).ist[i as usize])
                .write_unaligned(base + (i + 1) * IST_STACK_BYTES as u64);
        }
        let at = tss as u64;
        let limit = size_of::<Tss>() as u64 - 1;
        // Available 64-bit TSS (SDM 3A, 8.2.3).
        (*own).gdt[8] = limit & 0xffff
            | (at & 0xff_ffff) << 16
            | 0x89 << 40
            | (limit >> 16 & 0xf) << 48
            | (at >> 24 & 0xff) << 56;
        (*own).gdt[9] = at >> 32;
        (&raw const (*own).gdt, tss)
    };
    let _ = tss;
    let pointer = TablePointer {
        limit: 10 * 8 - 1,
        base: gdt as u64,
    };
    // SAFETY: the table has the selectors that the code runs on and is loaded with; GS base
    // is saved around the loading of the selector, which clears it on some CPUs.
    unsafe {
        let gs = super::regs::rdmsr(super::regs::GS_BASE);
        core::arch::asm!(
            "lgdt [{pointer}]",
            "push {cs}",
            "lea {t}, [rip + 2f]",
            "push {t}",
            "retfq",
            "2:",
            "mov ss, {ss:x}",
            "mov ds, {ss:x}",
            "mov es, {ss:x}",
            "xor {t:e}, {t:e}",
            "mov fs, {t:x}",
            "mov gs, {t:x}",
            "ltr {tr:x}",
            pointer = in(reg) &pointer,
            cs = in(reg) KERNEL_CS,
            ss = in(reg) KERNEL_SS,
            tr = in(reg) TSS_SELECTOR,
            t = out(reg) _,
        );
        super::regs::wrmsr(super::regs::GS_BASE, gs);
    }
    load_idt();
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Gate(u64, u64);

struct Idt(UnsafeCell<[Gate; 256]>);
// SAFETY: written by the boot CPU before it is loaded anywhere.
unsafe impl Sync for Idt {}
static IDT: Idt = Idt(UnsafeCell::new([Gate(0, 0); 256]));

#[cfg(target_os = "none")]
fn load_idt() {
    if cpu_id() == 0 {
        for vector in 0..=255u8 {
            let handler = super::entry::stub(vector);
            let ist = match vector {
                2 => IST_NMI,
                8 => IST_DOUBLE_FAULT,
                18 => IST_MACHINE_CHECK,
                _ => 0,
            };
            // int3 and into are for programs.
            let dpl = if matches!(vector, 3 | 4) { 3u64 } else { 0 };
            // Interrupt gate (SDM 3A, 6.14.1).
            let low = handler & 0xffff
                | KERNEL_CS << 16
                | u64::from(ist) << 32
                | (0x8e | dpl << 5) << 40
                | (handler >> 16 & 0xffff) << 48;
            // SAFETY: the boot CPU, before the table is loaded.
            unsafe { (*IDT.0.get())[vector as usize] = Gate(low, handler >> 32) };
        }
    }
    let pointer = TablePointer {
        limit: 256 * 16 - 1,
        base: IDT.0.get() as u64,
    };
    // SAFETY: the table is complete.
    unsafe { core::arch::asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack)) };
}
