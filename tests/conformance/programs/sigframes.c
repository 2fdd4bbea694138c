/* Signal frames: the FPU registers are kept over a handler, a handler changes them through its frame, and a frame
 * that makes no sense ends the program. Without XSAVE and AVX `refused` and `marks` differ, the rest does not. */
#include "conform.h"
#include <cpuid.h>
#include <ucontext.h>

/* Offsets in the image: MXCSR, the first SSE register, the marks, the header, the upper halves of AVX. */
enum { FX_MXCSR = 24, FX_XMM = 160, FX_MARKS = 464, FX_HEADER = 512, FX_UPPER = 576 };

int has_avx;
static void look(void) {
    unsigned a, b, c = 0, d;
    __get_cpuid(1, &a, &b, &c, &d);
    if (!(c >> 27 & 1)) return;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    has_avx = c >> 28 & 1 && (a & 6) == 6;
}

/* What a program can have in the FPU, and a system call with it: no C between loading and storing. */
struct registers { uint32_t mxcsr; uint16_t control, pad; int64_t x87; uint8_t ymm[16][32]; };
long fpu_call(const struct registers *in, struct registers *out, long nr, long a, long b, long c);
__asm__(".globl fpu_call\nfpu_call: push %rbx\n push %rbp\n mov %rdi, %rbx\n mov %rsi, %rbp\n"
        "mov %rdx, %rax\n mov %rcx, %rdi\n mov %r8, %rsi\n mov %r9, %rdx\n"
        "fninit\n fildll 8(%rbx)\n fldcw 4(%rbx)\n ldmxcsr (%rbx)\n cmpl $0, has_avx(%rip)\n je 1f\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu 16+32*\\n(%rbx), %ymm\\n\n .endr\n jmp 2f\n1:\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu 16+32*\\n(%rbx), %xmm\\n\n .endr\n2: syscall\n"
        "stmxcsr (%rbp)\n fnstcw 4(%rbp)\n fistpll 8(%rbp)\n cmpl $0, has_avx(%rip)\n je 3f\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu %ymm\\n, 16+32*\\n(%rbp)\n .endr\n vzeroupper\n jmp 4f\n3:\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu %xmm\\n, 16+32*\\n(%rbp)\n .endr\n4:\n"
        "fninit\n pushq $0x1f80\n ldmxcsr (%rsp)\n pop %rcx\n pop %rbp\n pop %rbx\n ret\n");

static void fill(struct registers *r, int seed) {
    memset(r, 0, sizeof *r);
    r->mxcsr = seed & 1 ? 0x3f80 : 0x5f80; /* rounds down or up */
    r->control = seed & 1 ? 0x67f : 0xb7f;
    r->x87 = 1000 + seed;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < (has_avx ? 32 : 16); j++) r->ymm[i][j] = seed * 31 + i * 7 + j;
}
/* Makes a call with registers of its own; whether they are the same after it. */
static int keeps(int seed, long nr, long a, long b, long c) {
    struct registers in, out;
    fill(&in, seed);
    memset(&out, 0, sizeof out);
    fpu_call(&in, &out, nr, a, b, c);
    return !memcmp(&in, &out, sizeof in);
}
static int raises(int seed, int sig) { return keeps(seed, SYS_kill, getpid(), sig, 0); }

static volatile int runs, fresh, inner, role;
static void start(void) {
    uint32_t mxcsr; uint16_t control;
    __asm__ volatile("stmxcsr %0\n fnstcw %1" : "=m"(mxcsr), "=m"(control));
    runs++;
    fresh += mxcsr == 0x1f80 && control == 0x37f;
}
static void trash(int s) { start(); keeps(90, SYS_getpid, 0, 0, 0); }
static void nest(int s) { start(); inner = raises(51, SIGUSR2); }
/* Both sides of a fork in a handler go on with what the handler had, and then with what it interrupted. */
static void forks(int s) {
    struct registers in, out;
    start();
    fill(&in, 61);
    memset(&out, 0, sizeof out);
    role = fpu_call(&in, &out, SYS_fork, 0, 0, 0);
    inner = !memcmp(&in, &out, sizeof in);
}
static void on(int sig, void (*f)(int), int flags) {
    struct sigaction a = {0};
    a.sa_handler = f; a.sa_flags = flags;
    sigaction(sig, &a, 0);
}
static void *stack_of(size_t bytes, int protection) {
    void *p = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t s = {.ss_sp = p, .ss_size = bytes};
    sigaltstack(&s, 0);
    mprotect(p, bytes, protection);
    return p;
}
static void keep(int flags) {
    runs = fresh = inner = 0;
    on(SIGUSR1, trash, flags); on(SIGUSR2, trash, flags);
    printf("  handler: kept %d\n", raises(1, SIGUSR1));
    printf("  again: kept %d\n", raises(2, SIGUSR1));
    on(SIGUSR1, nest, flags);
    int same = raises(3, SIGUSR1), status = 0;
    printf("  nested: kept %d, inner kept %d\n", same, inner);
    on(SIGUSR1, forks, flags);
    same = raises(4, SIGUSR1);
    if (role == 0) _exit(same + 2 * inner);
    waitpid(role, &status, 0);
    printf("  fork: kept %d, inner kept %d, child %d\n", same, inner, WEXITSTATUS(status));
    printf("  ran %d, with fresh registers %d\n", runs, fresh);
}
static void kept(void) { keep(0); }
static void kept_on_altstack(void) { stack_of(1 << 16, PROT_READ | PROT_WRITE); keep(SA_ONSTACK); }
static void kept_with_information(void) { keep(SA_SIGINFO | SA_NODEFER); }

/* What a handler writes into its frame is what the program goes on with. */
static void write_frame(int s, siginfo_t *i, void *u) {
    uint8_t *fx = (void *)((ucontext_t *)u)->uc_mcontext.fpregs;
    *(uint32_t *)(fx + FX_MXCSR) = 0x7f80;
    *(uint16_t *)fx = 0x77f;
    memset(fx + FX_XMM + 16 * 5, 0xa5, 16);
    if (has_avx) { fx[FX_HEADER] |= 7; memset(fx + FX_UPPER + 16 * 6, 0x5a, 16); }
}
static void changed(void) {
    struct registers in, out;
    struct sigaction a = {0};
    a.sa_sigaction = write_frame; a.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &a, 0);
    fill(&in, 5);
    fpu_call(&in, &out, SYS_kill, getpid(), SIGUSR1, 0);
    in.mxcsr = 0x7f80; in.control = 0x77f;
    memset(in.ymm[5], 0xa5, 16);
    if (has_avx) memset(in.ymm[6] + 16, 0x5a, 16);
    else memset(out.ymm[6] + 16, 0, 16);
    printf("  mxcsr %x control %x sse %d avx %d\n", out.mxcsr, out.control, !memcmp(in.ymm[5], out.ymm[5], 16), !memcmp(in.ymm[6], out.ymm[6], 32));
}

/* Frames that a handler spoilt. */
static void (*twist)(ucontext_t *, uint8_t *);
static uint8_t *edge; /* the end of a page with none behind */
static void spoil(int s, siginfo_t *i, void *u) { twist(u, (void *)((ucontext_t *)u)->uc_mcontext.fpregs); }
static void move(ucontext_t *u, const uint8_t *fx, uint8_t *to, size_t bytes) { memcpy(to, fx, bytes); u->uc_mcontext.fpregs = (void *)to; }
static void mxcsr(ucontext_t *u, uint8_t *fx) { *(uint32_t *)(fx + FX_MXCSR) |= 1 << 20; }
static void component(ucontext_t *u, uint8_t *fx) { *(uint64_t *)(fx + FX_HEADER) |= 1ull << 50; }
static void compacted(ucontext_t *u, uint8_t *fx) { *(uint64_t *)(fx + FX_HEADER + 8) = 1; }
static void reserved(ucontext_t *u, uint8_t *fx) { *(uint64_t *)(fx + FX_HEADER + 16) = 1; }
static void unaligned(ucontext_t *u, uint8_t *fx) { move(u, fx, edge - 8192 + 16, *(uint32_t *)(fx + FX_MARKS + 4)); }
static void odd(ucontext_t *u, uint8_t *fx) { u->uc_mcontext.fpregs = (void *)(fx + 1); }
static void unmapped(ucontext_t *u, uint8_t *fx) { u->uc_mcontext.fpregs = (void *)edge; }
static void half(ucontext_t *u, uint8_t *fx) { move(u, fx, edge - 256, 256); }
static void header(ucontext_t *u, uint8_t *fx) { move(u, fx, edge - 512, 512); }
static void kernel(ucontext_t *u, uint8_t *fx) { u->uc_mcontext.fpregs = (void *)0xffff800000000000; }
static void wild(ucontext_t *u, uint8_t *fx) { u->uc_mcontext.fpregs = (void *)0x8000000000000000; }
static void border(ucontext_t *u, uint8_t *fx) { u->uc_mcontext.fpregs = (void *)0x7ffffffff000 - 64; }
static void last(ucontext_t *u, uint8_t *fx) { u->uc_mcontext.fpregs = (void *)-64; }
static void address(ucontext_t *u, uint8_t *fx) { u->uc_mcontext.gregs[REG_RIP] = 0xffffffff80000000; }
static void spoiled(void) {
    struct sigaction a = {0};
    a.sa_sigaction = spoil; a.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &a, 0);
    raises(7, SIGUSR1);
}
/* rt_sigreturn without a frame. */
static uint64_t at;
static void returns(void) { __asm__ volatile("mov %0, %%rsp\n mov $15, %%eax\n syscall" ::"r"(at)); }
static void no_core(void) { struct rlimit r = {0, 0}; setrlimit(RLIMIT_CORE, &r); }
static void make_edge(void) {
    uint8_t *p = mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    edge = p + 12288;
    munmap(edge, 4096);
}
static void refused(void) {
    no_core();
    make_edge();
#define REFUSED(f) twist = f, in_child(#f, spoiled)
    REFUSED(mxcsr); REFUSED(component); REFUSED(compacted); REFUSED(reserved); REFUSED(unaligned); REFUSED(odd);
    REFUSED(unmapped); REFUSED(half); REFUSED(header); REFUSED(kernel); REFUSED(wild); REFUSED(border); REFUSED(last); REFUSED(address);
    uint64_t ends[] = {16, (uint64_t)edge, (uint64_t)edge - 64, 0x7ffffffff000, 0xffffffff80000000, 0x8000000000000000, 4, -1};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) at = ends[i], in_child("no frame", returns);
}

/* Images whose marks are missing or make no sense are FXSAVE's; components left out are as at a program's start. */
static void no_first(ucontext_t *u, uint8_t *fx) { *(uint32_t *)(fx + FX_MARKS) = 0; }
static void no_second(ucontext_t *u, uint8_t *fx) { *(uint32_t *)(fx + *(uint32_t *)(fx + FX_MARKS + 16)) = 0; }
static void too_long(ucontext_t *u, uint8_t *fx) { *(uint32_t *)(fx + FX_MARKS + 16) = 1 << 20; }
static void too_short(ucontext_t *u, uint8_t *fx) { *(uint32_t *)(fx + FX_MARKS + 16) = 100; }
static void no_room(ucontext_t *u, uint8_t *fx) { *(uint32_t *)(fx + FX_MARKS + 4) = 4; }
static void only_sse(ucontext_t *u, uint8_t *fx) { *(uint64_t *)(fx + FX_MARKS + 8) = 3; }
static void only_x87(ucontext_t *u, uint8_t *fx) { *(uint64_t *)(fx + FX_MARKS + 8) = 1; }
static void nothing(ucontext_t *u, uint8_t *fx) { *(uint64_t *)(fx + FX_MARKS + 8) = 0; }
static void unknown(ucontext_t *u, uint8_t *fx) { *(uint64_t *)(fx + FX_MARKS + 8) |= 1ull << 50; }
static void initial(ucontext_t *u, uint8_t *fx) { *(uint64_t *)(fx + FX_HEADER) = 0; }
static void none(ucontext_t *u, uint8_t *fx) { u->uc_mcontext.fpregs = 0; }
static void elsewhere(ucontext_t *u, uint8_t *fx) { move(u, fx, edge - 8192, *(uint32_t *)(fx + FX_MARKS + 4)); }
static void marks(void) {
    static const struct { const char *name; void (*f)(ucontext_t *, uint8_t *); } all[] = {
        {"no first", no_first}, {"no second", no_second}, {"too long", too_long}, {"too short", too_short}, {"no room", no_room},
        {"x87 and sse", only_sse}, {"x87", only_x87}, {"nothing", nothing}, {"unknown", unknown}, {"initial", initial}, {"no image", none}, {"elsewhere", elsewhere}};
    struct sigaction a = {0};
    make_edge();
    a.sa_sigaction = spoil; a.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &a, 0);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct registers in, out;
        twist = all[i].f;
        fill(&in, 9);
        memset(&out, 0, sizeof out);
        fpu_call(&in, &out, SYS_kill, getpid(), SIGUSR1, 0);
        int sse = !memcmp(in.ymm[3], out.ymm[3], 16), upper = 0;
        for (int j = 16; j < 32; j++) upper |= out.ymm[3][j] != 0;
        printf("  %s: mxcsr %x control %x x87 %d sse %d upper %d\n", all[i].name, out.mxcsr, out.control, out.x87 == in.x87, sse, upper);
    }
}

/* Stacks that a frame does not fit on, and such that become present only while it is written. */
static void usual(void) { on(SIGUSR1, trash, SA_ONSTACK); raises(11, SIGUSR1); }
static void read_only(void) { stack_of(1 << 16, PROT_READ); usual(); }
static void no_access(void) { stack_of(1 << 16, PROT_NONE); usual(); }
static void gone(void) { munmap(stack_of(1 << 16, PROT_READ), 1 << 16); usual(); }
static void read_only_top(void) { uint8_t *p = stack_of(1 << 16, PROT_READ | PROT_WRITE); mprotect(p + (1 << 16) - 4096, 4096, PROT_READ); usual(); }
static void bad_pointer(void) { on(SIGUSR1, trash, 0); __asm__ volatile("mov $16, %%rsp\n mov %0, %%edi\n mov $10, %%esi\n mov $62, %%eax\n syscall" ::"r"(getpid()) : "rdi"); }
static void stacks(void) {
    no_core();
    in_child("read only", read_only); in_child("no access", no_access); in_child("gone", gone);
    in_child("read only at the top", read_only_top); in_child("bad pointer", bad_pointer);
    on(SIGUSR1, trash, SA_ONSTACK);
    int good = 0, tried = 0;
    for (int up = 0; up < 4096; up += 64, tried++) {
        uint8_t *p = mmap(0, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        stack_t s = {.ss_sp = p, .ss_size = (1 << 16) - up};
        sigaltstack(&s, 0);
        good += raises(12, SIGUSR1);
        /* The page is shared now: the child's frame goes to a copy. */
        int pid = fork(), status = 0;
        if (pid == 0) { int same = raises(13, SIGUSR1); memset(p + 32768, 1, 32768 - up); _exit(!same); }
        waitpid(pid, &status, 0);
        good += status == 0;
        good += raises(14, SIGUSR1);
        munmap(p, 1 << 16);
    }
    printf("  %d of %d\n", good, 3 * tried);
}

/* Another thread takes the frame's pages away, or writes nonsense into them. Any end of the program will do. */
static uint8_t *shared;
static void *flip_protection(void *p) { for (;;) { mprotect(shared, 1 << 16, PROT_NONE); mprotect(shared, 1 << 16, PROT_READ | PROT_WRITE); } }
static void *flip_pages(void *p) { for (;;) madvise(shared, 1 << 16, MADV_DONTNEED); }
static void *scribble(void *p) {
    for (unsigned i = 1;; i = i * 1103515245 + 12345) {
        *(volatile uint64_t *)(edge - 8192 + FX_HEADER + (i >> 16) % 4 * 8) = i & 0x200000 ? 0 : 1ull << (i >> 24) % 64;
        *(volatile uint32_t *)(edge - 8192 + FX_MXCSR) = i & 0x400000 ? 0x1f80 : i;
    }
}
static void again(int s) { }
static void race(void *(*other)(void *)) {
    pthread_t t;
    long end = now_ms() + 100;
    signal(SIGSEGV, SIG_DFL);
    pthread_create(&t, 0, other, 0);
    while (now_ms() < end) kill(getpid(), SIGUSR1);
    _exit(0);
}
static void protection(void) { shared = stack_of(1 << 16, PROT_READ | PROT_WRITE); on(SIGUSR1, again, SA_ONSTACK); race(flip_protection); }
static void pages(void) { shared = stack_of(1 << 16, PROT_READ | PROT_WRITE); on(SIGUSR1, again, SA_ONSTACK); race(flip_pages); }
static void scribbled(void) {
    struct sigaction a = {0};
    make_edge();
    twist = elsewhere;
    a.sa_sigaction = spoil; a.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &a, 0);
    race(scribble);
}
static void races(void) {
    void (*all[])(void) = {protection, pages, scribbled};
    no_core();
    for (int i = 0; i < 12; i++) {
        pid_t p = fork();
        if (p == 0) { all[i % 3](); _exit(0); }
        int s = -1;
        waitpid(p, &s, 0);
        if (!(WIFEXITED(s) && WEXITSTATUS(s) == 0 || WIFSIGNALED(s) && (WTERMSIG(s) == SIGSEGV || WTERMSIG(s) == SIGILL || WTERMSIG(s) == SIGFPE || WTERMSIG(s) == SIGBUS)))
            show_status("odd end", s);
    }
    printf("  over\n");
}

int main(void) {
    look();
    SECTION(kept); SECTION(kept_on_altstack); SECTION(kept_with_information); SECTION(changed); SECTION(refused); SECTION(marks);
    SECTION(stacks); SECTION(races);
    return 0;
}
