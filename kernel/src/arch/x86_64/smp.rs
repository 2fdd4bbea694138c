//! Starting the other CPUs (Intel SDM 3A, 9.4): all at once, while the boot CPU goes on.
//!
//! A started CPU begins in real mode in a page below 1 MiB, with tables there that map the
//! first 2 MiB one-to-one and share the kernel's half; it leaves both within microseconds.

use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::{MAX_CPUS, apic, clock, cpu, descriptor, entry, fpu, ipi, percpu, protect, regs};

/// Pages of low memory that [`start`] needs: code, and three levels of page tables.
pub const LOW_PAGES: usize = 4;

core::arch::global_asm!(
    r#"
    .pushsection .rodata.oxbow_ap, "a", @progbits
    .balign 16
    .globl oxbow_ap_begin
oxbow_ap_begin:
    .code16
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl oxbow_ap_gdtr - oxbow_ap_begin
    movl $0x20, %eax
    movl %eax, %cr4
    movl oxbow_ap_cr3 - oxbow_ap_begin, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl oxbow_ap_efer - oxbow_ap_begin, %eax
    wrmsr
    movl $0x80010001, %eax
    movl %eax, %cr0
    ljmpl *(oxbow_ap_far - oxbow_ap_begin)
    .code64
    .globl oxbow_ap_long
oxbow_ap_long:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $1, %eax
    lock xaddl %eax, oxbow_ap_slot(%rip)
    cmpl oxbow_ap_slots(%rip), %eax
    jae 1f
    movl %eax, %edi
    movq oxbow_ap_stacks(%rip), %rbx
    movq (%rbx,%rdi,8), %rsp
    movq oxbow_ap_entry(%rip), %rax
    xorl %ebp, %ebp
    pushq $0
    jmpq *%rax
1:  hlt
    jmp 1b
    .balign 8
    .globl oxbow_ap_gdt
oxbow_ap_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
    .globl oxbow_ap_gdtr
oxbow_ap_gdtr:
    .word 23
    .long 0
    .balign 8
    .globl oxbow_ap_far
oxbow_ap_far:
    .long 0
    .word 8
    .balign 8
    .globl oxbow_ap_cr3
oxbow_ap_cr3:
    .quad 0
    .globl oxbow_ap_efer
oxbow_ap_efer:
    .quad 0
    .globl oxbow_ap_slot
oxbow_ap_slot:
    .long 0
    .globl oxbow_ap_slots
oxbow_ap_slots:
    .long 0
    .globl oxbow_ap_stacks
oxbow_ap_stacks:
    .quad 0
    .globl oxbow_ap_entry
oxbow_ap_entry:
    .quad 0
    .globl oxbow_ap_end
oxbow_ap_end:
    .popsection
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    static oxbow_ap_begin: u8;
    static oxbow_ap_long: u8;
    static oxbow_ap_gdt: u8;
    static oxbow_ap_gdtr: u8;
    static oxbow_ap_far: u8;
    static oxbow_ap_cr3: u8;
    static oxbow_ap_efer: u8;
    static oxbow_ap_slots: u8;
    static oxbow_ap_stacks: u8;
    static oxbow_ap_entry: u8;
    static oxbow_ap_end: u8;
}

/// What a CPU needs to come up.
#[derive(Clone, Copy, Debug)]
pub struct CpuMemory {
    /// Top of its first stack, 16-byte aligned.
    pub stack_top: u64,
    /// Start of [`descriptor::IST_BYTES`] bytes, 16-byte aligned.
    pub ist: u64,
}

/// Stack tops, for the assembly; written before the CPUs start.
static STACKS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static ISTS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static KERNEL_CR3: AtomicU64 = AtomicU64::new(0);
static MAIN: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
/// Slots whose CPU is set up, as bits; CPU n has slot n - 1.
static READY: AtomicU64 = AtomicU64::new(0);
/// Set when all that will ever come are there: then they go on.
static GO: AtomicUsize = AtomicUsize::new(0);

/// Starts the CPUs with these APIC ids, without waiting for them. Each numbers itself in the
/// order of arrival, from 1 on, sets itself up, waits for [`release`] and calls `main`.
///
/// # Safety
/// Boot CPU, once, in the kernel's page tables. `memory` has an element per APIC id, theirs
/// for ever; `low` is the physical address of [`LOW_PAGES`] unused pages below 1 MiB.
pub unsafe fn start(apic_ids: &[u32], memory: &[CpuMemory], low: u64, main: fn(usize) -> !) {
    let n = apic_ids.len().min(memory.len()).min(MAX_CPUS - 1);
    for (i, m) in memory[..n].iter().enumerate() {
        STACKS[i].store(m.stack_top, Ordering::Relaxed);
        ISTS[i].store(m.ist, Ordering::Relaxed);
    }
    KERNEL_CR3.store(regs::cr3(), Ordering::Relaxed);
    MAIN.store(main as *mut (), Ordering::Release);
    // SAFETY: the pages are the caller's to give.
    unsafe { write_low(low, n) };
    for &id in &apic_ids[..n] {
        apic::send_init(id);
    }
    // Real machines of the last twenty years need no 10 ms here; the second round of start-up
    // IPIs (`start_again`) helps one that does.
    clock::spin_ns(100_000);
    for &id in &apic_ids[..n] {
        apic::send_startup(id, (low >> 12) as u8);
    }
}

unsafe fn write_low(low: u64, slots: usize) {
    const TABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let base = oxbow_handover::DIRECT_MAP_BASE + low;
    let begin = &raw const oxbow_ap_begin as u64;
    let len = &raw const oxbow_ap_end as usize - begin as usize;
    assert!(len <= 4096);
    // SAFETY: the four pages at `low` are unused memory (caller), `len` fits into the first;
    // the labels lie within `len` of the beginning.
    unsafe {
        core::ptr::copy_nonoverlapping(begin as *const u8, base as *mut u8, len);
        let at = |label: *const u8| base + (label as u64 - begin);
        let put32 = |label, v: u32| (at(label) as *mut u32).write_unaligned(v);
        let put64 = |label, v: u64| (at(label) as *mut u64).write_unaligned(v);
        let phys = |label: *const u8| (low + (label as u64 - begin)) as u32;
        put32(
            (&raw const oxbow_ap_gdtr).add(2),
            phys(&raw const oxbow_ap_gdt),
        );
        put32(&raw const oxbow_ap_far, phys(&raw const oxbow_ap_long));
        put32(&raw const oxbow_ap_cr3, (low + 4096) as u32);
        // The kernel's: long mode and, where there is one, no-execute.
        let efer = regs::rdmsr(regs::EFER) & 0x900;
        put32(&raw const oxbow_ap_efer, efer as u32);
        put32(&raw const oxbow_ap_slots, slots as u32);
        put64(&raw const oxbow_ap_stacks, STACKS.as_ptr() as u64);
        put64(
            &raw const oxbow_ap_entry,
            ap_entry as *const () as usize as u64,
        );

        let table = |n: u64| (base + n * 4096) as *mut u64;
        for n in 1..4 {
            table(n).write_bytes(0, 512);
        }
        let kernel = (oxbow_handover::DIRECT_MAP_BASE + (regs::cr3() & !0xfff)) as *const u64;
        for slot in 256..512 {
            table(1).add(slot).write(kernel.add(slot).read());
        }
        table(1).write((low + 2 * 4096) | TABLE);
        table(2).write((low + 3 * 4096) | TABLE);
        table(3).write(TABLE | LARGE);
    }
}

/// First Rust code of a started CPU: on its stack, in the low page tables.
extern "C" fn ap_entry(slot: usize) -> ! {
    let cpu = slot + 1;
    // SAFETY: first thing on this CPU, each step as on the boot CPU; the kernel's tables have
    // everything that runs here.
    unsafe {
        regs::set_cr3(KERNEL_CR3.load(Ordering::Relaxed));
        let stack = STACKS[slot].load(Ordering::Relaxed);
        percpu::install(cpu, cpu::initial_apic_id(), stack);
        descriptor::load(Some(ISTS[slot].load(Ordering::Relaxed)));
        protect::init_cpu();
        entry::enable_syscall();
    }
    fpu::init_cpu();
    apic::init_cpu();
    apic::init_timer();
    READY.fetch_or(1 << slot, Ordering::AcqRel);
    while GO.load(Ordering::Acquire) <= slot {
        core::hint::spin_loop();
    }
    let main = MAIN.load(Ordering::Acquire);
    // SAFETY: `start` stored a `fn(usize) -> !`.
    (unsafe { core::mem::transmute::<*mut (), fn(usize) -> !>(main) })(cpu)
}

/// How many of the started CPUs are set up.
pub fn nr_ready() -> usize {
    READY.load(Ordering::Acquire).trailing_ones() as usize
}

/// Sends the start-up IPI again: real machines may miss the first. A CPU that runs already
/// takes no notice.
pub fn start_again(apic_ids: &[u32], low: u64) {
    for &id in apic_ids {
        apic::send_startup(id, (low >> 12) as u8);
    }
}

/// Makes the CPUs that are set up part of the machine, lets them call their main function,
/// and returns how many CPUs run. Those that come later wait for ever. Once.
pub fn release() -> usize {
    let ready = nr_ready();
    for cpu in 1..=ready {
        ipi::set_online(cpu);
    }
    cpu::set_nr_cpus(ready + 1);
    GO.store(ready, Ordering::Release);
    ready + 1
}
