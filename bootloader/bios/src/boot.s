// The boot sector and the way into long mode. AT&T syntax.
//
// The BIOS loads the first sector to 0x7c00 and jumps there with the drive in DL. It loads
// the rest of the loader right behind itself, from where `oxbow-image` wrote it: the three
// numbers at `stage2_lba` are filled in when the image is built.

.section .boot_sector, "awx"
.code16
.global boot_sector
boot_sector:
    cli
    cld
    ljmpw $0, $1f               // some BIOSes start at 0x7c0:0
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    sti
    movb %dl, boot_drive
    rdtsc
    movl %eax, boot_tsc
    movl %edx, boot_tsc + 4

    movw $0x7e0, %bx            // segment of the next piece
    movl stage2_lba, %edi
    movw stage2_sectors, %bp
2:  movw $64, %cx               // 32 KiB at a time never crosses a segment
    cmpw %cx, %bp
    jae 3f
    movw %bp, %cx
3:  movl $0x00000010, dap       // packet size 16
    movw %cx, dap + 2
    movw $0, dap + 4
    movw %bx, dap + 6
    movl %edi, dap + 8
    movl $0, dap + 12
    movb $0x42, %ah
    movb boot_drive, %dl
    movw $dap, %si
    pushw %bx
    pushw %cx
    pushl %edi
    pushw %bp
    int $0x13
    popw %bp
    popl %edi
    popw %cx
    popw %bx
    jc disk_error
    movzwl %cx, %eax
    addl %eax, %edi
    shlw $5, %ax                // 32 paragraphs to a sector
    addw %ax, %bx
    subw %cx, %bp
    jnz 2b
    cmpl $0x42584f4b, stage2_magic
    jne damaged
    jmp stage2

disk_error:
    movw $disk_error_text, %si
    jmp fail
damaged:
    movw $damaged_text, %si

// Prints the string at SI on the screen and on COM1, and stops.
.global fail
fail:
    movw $0x3f8 + 3, %dx
    movb $0x80, %al             // divisor latch
    outb %al, %dx
    movw $0x3f8, %dx
    movb $1, %al                // 115200
    outb %al, %dx
    incw %dx
    decb %al
    outb %al, %dx
    movw $0x3f8 + 3, %dx
    movb $3, %al                // 8N1
    outb %al, %dx
4:  lodsb
    testb %al, %al
    jz 6f
    movb %al, %cl
    movb $0x0e, %ah
    movw $7, %bx
    pushw %si
    pushw %cx
    int $0x10
    popw %cx
    popw %si
    xorw %di, %di               // give a missing port up
    movw $0x3f8 + 5, %dx
5:  decw %di
    jz 7f
    inb %dx, %al
    testb $0x20, %al
    jz 5b
7:  movw $0x3f8, %dx
    movb %cl, %al
    outb %al, %dx
    jmp 4b
6:  cli
    hlt
    jmp 6b

disk_error_text: .asciz "\r\noxbow loader: disk read error while loading the second stage\r\n"
damaged_text: .asciz "\r\noxbow loader: the second stage is damaged\r\n"

.global boot_drive
.global boot_tsc
.org 0x190
boot_tsc: .quad 0
dap: .fill 16, 1, 0
boot_drive: .byte 0
// oxbow-image fills these in, and the partition table behind them.
.org 0x1ac
stage2_lba: .long 0
stage2_sectors: .word 0
.org 0x1fe
.word 0xaa55

.section .real_mode, "awx"
.code16
.org 0
stage2_magic: .long 0x42584f4b

stage2:
    // Long mode, or nothing. CPUID itself is older than any machine with int 13h extensions.
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb no_long_mode
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx
    jnc no_long_mode

    call a20_is_on
    jnz 1f
    movw $0x2401, %ax           // ask the BIOS for it
    int $0x15
    call a20_is_on
    jnz 1f
    inb $0x92, %al              // or the chipset
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92
    call a20_is_on
    jnz 1f
    movw $no_a20_text, %si
    jmp fail
no_long_mode:
    movw $no_long_mode_text, %si
    jmp fail

// Clears ZF when the address line is on: when 0x100500 is not 0x500.
a20_is_on:
    pushw %ds
    movw $0xffff, %ax
    movw %ax, %ds
    movl %ds:0x510, %eax
    popw %ds
    cmpl %eax, 0x500
    jne 2f
    notl 0x500                  // the same by chance?
    movl 0x500, %ecx
    pushw %ds
    movw $0xffff, %ax
    movw %ax, %ds
    movl %ds:0x510, %eax
    popw %ds
    cmpl %eax, %ecx
2:  ret

no_a20_text: .asciz "\r\noxbow loader: the A20 line cannot be switched on\r\n"
no_long_mode_text: .asciz "\r\noxbow loader: this processor has no 64-bit mode\r\n"

1:  cli
    lgdtl gdt_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x18, $protected

.code32
protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    cld
    // Zero what the flat image does not hold.
    movl $bss_start, %edi
    movl $bss_end, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb
    // The first 4 GiB one-to-one in pages of 2 MiB: PML4, PDPT, four directories.
    movl ${TABLES}, %edi
    movl $0x6000 / 4, %ecx
    rep stosl
    movl ${TABLES} + 0x1003, {TABLES}
    movl ${TABLES} + 0x2003, {TABLES} + 0x1000
    movl ${TABLES} + 0x3003, {TABLES} + 0x1008
    movl ${TABLES} + 0x4003, {TABLES} + 0x1010
    movl ${TABLES} + 0x5003, {TABLES} + 0x1018
    movl ${TABLES} + 0x2000, %edi
    movl $0xe3, %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b
    movl $0, long_mode_stack + 4
    movl ${STACK_TOP}, long_mode_stack
    movl $long_mode_start, long_mode_target
    jmp enter_long_mode

// Turns long mode on and continues at `long_mode_target` with `long_mode_stack`.
enter_long_mode:
    movl %cr4, %eax
    orl $0x20, %eax             // PAE
    movl %eax, %cr4
    movl ${TABLES}, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax            // LME
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl $0x08, $1f
.code64
1:  movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movq long_mode_stack(%rip), %rsp
    movl long_mode_target(%rip), %eax
    jmpq *%rax

long_mode_start:
    xorl %ebp, %ebp
    call bios_main
1:  cli
    hlt
    jmp 1b

// void bios_interrupt(u8 vector): runs a BIOS service in real mode with the registers at
// {REGISTERS} and leaves the results there. See `real_mode.rs`.
.global bios_interrupt
bios_interrupt:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, long_mode_stack(%rip)
    movl $bios_return, long_mode_target(%rip)
    movzbl %dil, %edi
    shll $2, %edi
    movl (%rdi), %eax           // the interrupt vector table starts at 0
    movl %eax, bios_vector(%rip)
    subq $16, %rsp
    movl $1f, (%rsp)
    movl $0x18, 4(%rsp)
    lretl
.code32
1:  movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    andl $0xfffffeff, %eax
    wrmsr
    xorl %eax, %eax
    movl %eax, %cr4
    movw $0x28, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    ljmpw $0x20, $1f
.code16
1:  movl %cr0, %eax
    andb $0xfe, %al
    movl %eax, %cr0
    ljmpw $0, $1f
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movl $0x7c00, %esp
    lidtl real_mode_idt
    movl {REGISTERS} + 4, %ebx
    movl {REGISTERS} + 8, %ecx
    movl {REGISTERS} + 12, %edx
    movl {REGISTERS} + 16, %esi
    movl {REGISTERS} + 20, %edi
    movw {REGISTERS} + 28, %es
    movl {REGISTERS}, %eax
    sti
    pushfw                      // what `int` does, with a vector that varies
    cli
    lcallw *bios_vector
    cli
    cld
    pushw %ds
    pushw $0
    popw %ds
    movl %eax, {REGISTERS}
    popw %ax
    movl %ebx, {REGISTERS} + 4
    movl %ecx, {REGISTERS} + 8
    movl %edx, {REGISTERS} + 12
    movl %esi, {REGISTERS} + 16
    movl %edi, {REGISTERS} + 20
    pushfl
    popl {REGISTERS} + 24
    movw %es, {REGISTERS} + 28
    lgdtl gdt_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x18, $1f
.code32
1:  movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    jmp enter_long_mode
.code64
bios_return:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

.balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    // 0x08 64-bit code
    .quad 0x00cf93000000ffff    // 0x10 data
    .quad 0x00cf9b000000ffff    // 0x18 32-bit code
    .quad 0x00009b000000ffff    // 0x20 16-bit code
    .quad 0x000093000000ffff    // 0x28 16-bit data
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt
real_mode_idt:
    .word 0x3ff
    .long 0
.balign 8
long_mode_stack: .quad 0
long_mode_target: .long 0
bios_vector: .long 0
.text
