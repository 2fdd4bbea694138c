#!/usr/bin/env bash
# Succeeds when a real guest runs under KVM. Prints nothing.
#
# Why a guest: /dev/kvm may open and yet die with "KVM internal error" once a guest runs (nested virtualisation, some
# cloud machines). The guest is a boot sector that goes through protected mode and paging into long mode, as Oxbow does,
# and then writes to QEMU's debug-exit device. The answer is kept until the next boot of this machine.
. "$(dirname "$0")/env.sh"

[ -r /dev/kvm ] && [ -w /dev/kvm ] || exit 1
answer=$OXBOW_HOME/kvm-$(cat /proc/sys/kernel/random/boot_id)
if [ ! -f "$answer" ]; then
    mkdir -p "$OXBOW_HOME"
    rm -f "$OXBOW_HOME"/kvm-*
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cat >"$work/probe.s" <<'S'
    .code16
    .globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7000, %sp
    # Page tables at 0x8000: one 2 MiB identity page.
    movw $0x8000, %di
    movw $0x1800, %cx
    cld
    rep stosw
    movl $0x9003, 0x8000
    movl $0xa003, 0x9000
    movl $0x0083, 0xa000
    lgdt gdtr
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $0x8000, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    ljmpl $8, $long
    .code64
long:
    movl $0xf4, %edx
    movl $0x10, %eax
    outl %eax, %dx
1:  hlt
    jmp 1b
    .balign 8
gdt:
    .quad 0, 0x00209a0000000000
gdtr:
    .word 15
    .long gdt
S
    result=no
    if as --64 -o "$work/probe.o" "$work/probe.s" &&
        ld -m elf_x86_64 --oformat binary -Ttext 0x7c00 -o "$work/probe.bin" "$work/probe.o"; then
        truncate -s 510 "$work/probe.bin"
        printf '\x55\xaa' >>"$work/probe.bin"
        # isa-debug-exit turns a written 0x10 into status (0x10 << 1) | 1.
        # The subshell's stderr takes bash's own "Aborted" line.
        status=$(
            exec 2>/dev/null
            timeout 10 qemu-system-x86_64 -machine pc,accel=kvm -cpu max -m 32 -display none -nic none \
                -drive if=ide,format=raw,file="$work/probe.bin" -device isa-debug-exit,iobase=0xf4,iosize=4 \
                </dev/null >/dev/null
            echo $?
        )
        [ "$status" != 33 ] || result=yes
    fi
    echo "$result" >"$answer"
fi
[ "$(cat "$answer")" = yes ]
