//! `memcpy`, `memmove` and `memset` for the compiler's own calls.
//!
//! Most calls move a few dozen bytes, where the string instructions of the usual versions
//! cost more than the copy, above all under software emulation. Up to 256 bytes go by plain
//! moves, more by `rep`. Copies of up to 32 bytes load everything before they store, and the
//! last bytes are loaded first, so the forward copy also serves `memmove` downwards.

core::arch::global_asm!(
    r#"
    .pushsection .text.oxbow_mem, "ax", @progbits
    .balign 32
    .globl memmove
memmove:
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jb 30f
    .globl memcpy
memcpy:
    mov rax, rdi
    cmp rdx, 16
    jb 4f
    cmp rdx, 32
    ja 1f
    mov r8, [rsi]
    mov r9, [rsi + 8]
    mov r10, [rsi + rdx - 16]
    mov r11, [rsi + rdx - 8]
    mov [rdi], r8
    mov [rdi + 8], r9
    mov [rdi + rdx - 16], r10
    mov [rdi + rdx - 8], r11
    ret
1:
    cmp rdx, 256
    ja 3f
    // 33 to 256: the last 32 bytes are loaded before, stored after the loop.
    push rbx
    push rbp
    mov r10, [rsi + rdx - 32]
    mov r11, [rsi + rdx - 24]
    mov rbx, [rsi + rdx - 16]
    mov rbp, [rsi + rdx - 8]
    lea rdx, [rdi + rdx - 32]
2:
    mov rcx, [rsi]
    mov r8, [rsi + 8]
    mov [rdi], rcx
    mov [rdi + 8], r8
    mov rcx, [rsi + 16]
    mov r8, [rsi + 24]
    mov [rdi + 16], rcx
    mov [rdi + 24], r8
    add rsi, 32
    add rdi, 32
    cmp rdi, rdx
    jb 2b
    mov [rdx], r10
    mov [rdx + 8], r11
    mov [rdx + 16], rbx
    mov [rdx + 24], rbp
    pop rbp
    pop rbx
    ret
3:
    mov r8, [rsi + rdx - 8]
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov [rax + rdx - 8], r8
    ret
4:
    cmp edx, 8
    jb 5f
    mov r8, [rsi]
    mov r9, [rsi + rdx - 8]
    mov [rdi], r8
    mov [rdi + rdx - 8], r9
    ret
5:
    cmp edx, 4
    jb 6f
    mov r8d, [rsi]
    mov r9d, [rsi + rdx - 4]
    mov [rdi], r8d
    mov [rdi + rdx - 4], r9d
    ret
6:
    test edx, edx
    jz 7f
    movzx r8d, byte ptr [rsi]
    movzx r9d, byte ptr [rsi + rdx - 1]
    shr edx
    movzx r10d, byte ptr [rsi + rdx]
    mov [rdi + rdx], r10b
    adc edx, edx
    mov [rdi], r8b
    mov [rdi + rdx - 1], r9b
7:
    ret

    // The target begins inside the source: copy from the end.
30:
    mov rax, rdi
    cmp rdx, 32
    jbe 33f
    // The first 8 bytes are loaded before, stored after.
    mov r9, [rsi]
31:
    mov rcx, [rsi + rdx - 8]
    mov r8, [rsi + rdx - 16]
    mov [rdi + rdx - 8], rcx
    mov [rdi + rdx - 16], r8
    sub rdx, 16
    cmp rdx, 16
    jae 31b
    cmp rdx, 8
    jbe 32f
    mov rcx, [rsi + rdx - 8]
    mov [rdi + rdx - 8], rcx
32:
    mov [rdi], r9
    ret
33:
    cmp rdx, 16
    jb 4b
    mov r8, [rsi]
    mov r9, [rsi + 8]
    mov r10, [rsi + rdx - 16]
    mov r11, [rsi + rdx - 8]
    mov [rdi], r8
    mov [rdi + 8], r9
    mov [rdi + rdx - 16], r10
    mov [rdi + rdx - 8], r11
    ret

    .balign 32
    .globl memset
memset:
    mov r9, rdi
    movzx eax, sil
    mov rcx, 0x0101010101010101
    imul rax, rcx
    cmp rdx, 16
    jb 22f
    cmp rdx, 256
    ja 21f
    lea rdx, [rdi + rdx - 16]
20:
    mov [rdi], rax
    mov [rdi + 8], rax
    add rdi, 16
    cmp rdi, rdx
    jb 20b
    mov [rdx], rax
    mov [rdx + 8], rax
    mov rax, r9
    ret
21:
    mov [rdi + rdx - 8], rax
    mov rcx, rdx
    shr rcx, 3
    rep stosq
    mov rax, r9
    ret
22:
    cmp edx, 8
    jb 23f
    mov [rdi], rax
    mov [rdi + rdx - 8], rax
    mov rax, r9
    ret
23:
    cmp edx, 4
    jb 24f
    mov [rdi], eax
    mov [rdi + rdx - 4], eax
    mov rax, r9
    ret
24:
    test edx, edx
    jz 25f
    mov [rdi], al
    mov [rdi + rdx - 1], al
    shr edx
    mov [rdi + rdx], al
25:
    mov rax, r9
    ret
    .popsection
    "#
);
