/* What the calls on memory answer: prints the same on Linux and on Oxbow. Run in a writable folder. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define RW (PROT_READ | PROT_WRITE)

static void show(const char *what, long result) {
    if (result == -1) printf("%s: %s\n", what, strerror(errno));
    else printf("%s: %ld\n", what, result);
}
#define SHOW(call) do { errno = 0; show(#call, (long)(call)); } while (0)
/* For calls that return an address. */
#define SHOWMAP(call) do { errno = 0; show(#call, (void *)(call) == MAP_FAILED ? -1 : 0); } while (0)

static sigjmp_buf back;
static void on_fault(int sig, siginfo_t *info, void *context) { (void)context; siglongjmp(back, sig * 100 + info->si_code); }

/* 0, or signal * 100 + code. */
static int touch(volatile char *p, int write) {
    int how = sigsetjmp(back, 1);
    if (how == 0) { if (write) *p = 1; else (void)*p; }
    return how;
}

static char *anon(unsigned long pages) { return mmap(0, pages * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

static void errors(void) {
    char *p = anon(4);
    SHOWMAP(mmap(0, 0, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    SHOWMAP(mmap(0, PAGE, RW, MAP_ANONYMOUS, -1, 0));
    SHOWMAP(mmap(0, PAGE, RW, MAP_PRIVATE, -1, 0));
    SHOWMAP(mmap(0, PAGE, RW, MAP_PRIVATE, 99, 0));
    SHOWMAP(mmap(p + 1, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    SHOWMAP(mmap(p, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    SHOWMAP(mmap(0, 1UL << 46, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    SHOWMAP(mmap(0, -1UL, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    SHOWMAP(mmap(0, 1UL << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    SHOW(munmap(p + 1, PAGE));
    SHOW(munmap(p, 0));
    SHOW(munmap((void *)(1UL << 48), PAGE));
    SHOW(mprotect(p + 1, PAGE, PROT_READ));
    SHOW(mprotect(p, 0, PROT_READ));
    SHOW(munmap(p + PAGE, PAGE));
    SHOW(munmap(p + PAGE, PAGE));
    SHOW(mprotect(p, 3 * PAGE, PROT_READ));
    SHOW(madvise(p, 3 * PAGE, MADV_DONTNEED));
    SHOW(madvise(p, PAGE, 12345));
    SHOW(madvise(p + 1, PAGE, MADV_NORMAL));
    SHOW(madvise(p, 0, MADV_NORMAL));
    SHOW(msync(p, PAGE, MS_SYNC | MS_ASYNC));
    SHOW(msync(p, PAGE, 64));
    SHOW(msync(p + 1, PAGE, MS_SYNC));
    SHOW(msync(p, 3 * PAGE, MS_SYNC));
    SHOW(mlock(p, 3 * PAGE));
    SHOW(munlock(p, PAGE));
    SHOW(mlockall(0));
    SHOW(mlockall(64));
    unsigned char vec[4];
    SHOW(mincore(p + 1, PAGE, vec));
    SHOW(mincore(p, 3 * PAGE, vec));
    SHOWMAP(mremap(p + 1, PAGE, PAGE, 0));
    SHOWMAP(mremap(p, PAGE, 0, 0));
    SHOWMAP(mremap(p, PAGE, PAGE, MREMAP_FIXED, p));
    SHOWMAP(mremap(p, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE));
    SHOWMAP(mremap(p + PAGE, PAGE, 3 * PAGE, MREMAP_MAYMOVE));
}

static void protection(void) {
    char *p = anon(3);
    p[0] = 7;
    SHOW(touch(p, 1));
    SHOW(mprotect(p, PAGE, PROT_READ));
    SHOW(touch(p, 0)); SHOW(touch(p, 1));
    SHOW(mprotect(p, PAGE, PROT_NONE));
    SHOW(touch(p, 0));
    SHOW(write(1, "", 0)); SHOW(write(open("/dev/null", O_WRONLY), p, 1) >= -1);
    SHOW(mprotect(p, PAGE, RW));
    SHOW(p[0] == 1); SHOW(touch(p, 1));
    SHOW(munmap(p + PAGE, PAGE));
    SHOW(touch(p + PAGE, 0)); SHOW(touch(p + 2 * PAGE, 1));
    SHOW(touch((char *)0, 1)); SHOW(touch((char *)0xffff800000000000UL, 0));
}

static void files(void) {
    char buffer[8] = { 0 };
    int fd = open("memory.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600);
    SHOW(ftruncate(fd, 3 * PAGE - 100));
    char *s = mmap(0, 4 * PAGE, RW, MAP_SHARED, fd, 0), *p = mmap(0, 4 * PAGE, RW, MAP_PRIVATE, fd, 0);
    strcpy(s + PAGE, "shared");
    SHOW(pread(fd, buffer, 6, PAGE)); printf("%s\n", buffer);
    SHOW(strcmp(p + PAGE, "shared"));
    strcpy(p + PAGE, "own");
    SHOW(strcmp(s + PAGE, "shared"));
    SHOW(pwrite(fd, "written", 7, 2 * PAGE));
    SHOW(memcmp(s + 2 * PAGE, "written", 7)); SHOW(memcmp(p + 2 * PAGE, "written", 7));
    SHOW(s[3 * PAGE - 100]);
    SHOW(touch(s + 3 * PAGE, 0)); SHOW(touch(p + 3 * PAGE, 1));
    SHOW(msync(s, 4 * PAGE, MS_SYNC));
    SHOW(ftruncate(fd, PAGE + 3));
    SHOW(touch(s + 2 * PAGE, 0)); SHOW(s[PAGE + 2]); SHOW(s[PAGE + 3]);
    SHOW(ftruncate(fd, 3 * PAGE));
    SHOW(s[PAGE + 3]); SHOW(s[2 * PAGE]);
    /* A write whose source is a mapping of the same page. */
    memset(s, 'x', PAGE);
    SHOW(pwrite(fd, s, PAGE, 0)); SHOW(pwrite(fd, s + 10, 100, 5)); SHOW(pwrite(fd, s, 2 * PAGE, PAGE));
    SHOW(s[2 * PAGE - 1]);
    /* A write that runs into a hole of the address space is short. */
    char *q = anon(2);
    munmap(q + PAGE, PAGE);
    SHOW(pwrite(fd, q + PAGE - 10, 100, 0)); SHOW(pread(fd, q + PAGE - 10, 100, 0)); SHOW(pwrite(fd, q + PAGE, 1, 0));
    int ro = open("memory.tmp", O_RDONLY), wo = open("memory.tmp", O_WRONLY);
    SHOWMAP(mmap(0, PAGE, RW, MAP_SHARED, ro, 0));
    SHOWMAP(mmap(0, PAGE, RW, MAP_PRIVATE, ro, 0));
    SHOWMAP(mmap(0, PAGE, PROT_READ, MAP_SHARED, wo, 0));
    SHOWMAP(mmap(0, PAGE, PROT_READ, MAP_SHARED, ro, 100));
    char *r = mmap(0, PAGE, PROT_READ, MAP_SHARED, ro, 0);
    SHOW(mprotect(r, PAGE, RW));
    int ends[2];
    SHOW(pipe(ends));
    SHOWMAP(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, ends[0], 0));
    SHOWMAP(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, open("/", O_RDONLY), 0));
    char *zero = mmap(0, PAGE, RW, MAP_PRIVATE, open("/dev/zero", O_RDWR), 0);
    SHOW(zero[5]); SHOW(touch(zero, 1));
    close(fd); unlink("memory.tmp");
    SHOW(s[0]); SHOW(touch(s, 1));
}

static void forks(void) {
    char *own = anon(4), *both = mmap(0, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strcpy(own, "parent"); strcpy(both, "parent");
    int status;
    if (fork() == 0) {
        int same = !strcmp(own, "parent");
        strcpy(own, "child"); strcpy(both, "child"); both[PAGE] = 5;
        _exit(same);
    }
    wait(&status);
    SHOW(WEXITSTATUS(status)); SHOW(strcmp(own, "parent")); SHOW(strcmp(both, "child")); SHOW(both[PAGE]);
    madvise(own, PAGE, MADV_WIPEONFORK); madvise(own + PAGE, PAGE, MADV_DONTFORK);
    if (fork() == 0) _exit(own[0] == 0 && touch(own + PAGE, 0) == SIGSEGV * 100 + SEGV_MAPERR);
    wait(&status);
    SHOW(WEXITSTATUS(status));
}

static void remote(void) {
    char *p = anon(3), mine[16] = "from the parent";
    int go[2], status;
    munmap(p + 2 * PAGE, PAGE); mprotect(p + PAGE, PAGE, PROT_READ);
    strcpy(p, "from the child");
    SHOW(pipe(go));
    pid_t pid = fork();
    if (pid == 0) { char c; close(go[1]); if (read(go[0], &c, 1)) _exit(9); _exit(!strcmp(p + 100, "from the parent")); }
    char got[16] = { 0 };
    struct iovec here = { got, 15 }, there = { p, 15 }, source = { mine, 16 }, target = { p + 100, 16 }, gone = { p + 2 * PAGE - 4, 15 }, fixed = { p + PAGE, 4 };
    SHOW(process_vm_readv(pid, &here, 1, &there, 1, 0)); printf("%s\n", got);
    SHOW(process_vm_readv(pid, &here, 1, &gone, 1, 0));
    SHOW(process_vm_writev(pid, &source, 1, &target, 1, 0));
    SHOW(process_vm_writev(pid, &source, 1, &fixed, 1, 0));
    SHOW(process_vm_readv(pid, &here, 1, &there, 1, 1));
    SHOW(process_vm_readv(99999999, &here, 1, &there, 1, 0));
    close(go[1]);
    wait(&status);
    SHOW(WEXITSTATUS(status)); SHOW(p[100]);
}

static void moves(void) {
    char *p = anon(8);
    for (int i = 0; i < 8; i++) p[i * PAGE] = i + 1;
    SHOWMAP(mremap(p, 8 * PAGE, 4 * PAGE, 0));
    SHOW(touch(p + 4 * PAGE, 0));
    char *block = mmap(p + 4 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    SHOW(block == p + 4 * PAGE);
    SHOWMAP(mremap(p, 4 * PAGE, 6 * PAGE, 0));
    char *n = mremap(p, 4 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    SHOW(n != p); SHOW(n[0] + n[PAGE] * 10 + n[2 * PAGE] * 100 + n[3 * PAGE] * 1000); SHOW(n[63 * PAGE]);
    SHOW(touch(p, 0));
    char *target = anon(4);
    SHOW(mremap(n, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
    SHOW(target[3 * PAGE]); SHOW(touch(n, 0)); SHOW(touch(n + 4 * PAGE, 1));
    SHOW(madvise(target, PAGE, MADV_DONTNEED)); SHOW(target[0]); SHOW(target[PAGE]);
    char *end = sbrk(0);
    SHOW(sbrk(3 * PAGE) == (void *)-1);
    (void)end;
}

static void stacks(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    volatile char *here = (volatile char *)&limit;
    SHOW(limit.rlim_cur);
    SHOW(touch(here - (4 << 20), 1));
    SHOW(touch(here - (64 << 20), 1));
}

/* Threads fault in the same pages, and unmap, protect and fork around each other. */
static char *arena;
static volatile int stop;
static void *filler(void *arg) {
    long me = (long)arg, bad = 0;
    for (int round = 0; round < 200; round++)
        for (int i = 0; i < 64; i++) {
            volatile long *slot = (volatile long *)(arena + i * PAGE) + me;
            if (round && *slot != me * 1000 + round - 1) bad++;
            *slot = me * 1000 + round;
        }
    return (void *)bad;
}
static void *shaker(void *arg) {
    (void)arg;
    long n = 0;
    while (!stop) {
        char *p = anon(16);
        for (int i = 0; i < 16; i++) p[i * PAGE] = i;
        mprotect(p + 4 * PAGE, 4 * PAGE, PROT_READ);
        munmap(p, 16 * PAGE);
        if (++n % 8 == 0) {
            pid_t pid = fork();
            if (pid == 0) { arena[0] = 1; _exit(0); }
            waitpid(pid, 0, 0);
        }
    }
    return 0;
}
static void threads(void) {
    pthread_t fill[4], shake[2];
    arena = anon(64);
    for (long i = 0; i < 4; i++) pthread_create(&fill[i], 0, filler, (void *)(i + 1));
    for (long i = 0; i < 2; i++) pthread_create(&shake[i], 0, shaker, 0);
    long bad = 0;
    for (int i = 0; i < 4; i++) { void *r; pthread_join(fill[i], &r); bad += (long)r; }
    stop = 1;
    for (int i = 0; i < 2; i++) pthread_join(shake[i], 0);
    SHOW(bad);
}

int main(void) {
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    static char altstack[65536];
    stack_t stack = { .ss_sp = altstack, .ss_size = sizeof altstack };
    sigaltstack(&stack, 0);
    sigaction(SIGSEGV, &action, 0); sigaction(SIGBUS, &action, 0);
    setvbuf(stdout, 0, _IOLBF, 0);
    errors(); protection(); files(); forks(); remote(); moves(); stacks(); threads();
    printf("end\n");
    return 0;
}
