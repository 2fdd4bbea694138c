/* Does one thing that must end the process by a signal; the caller looks at the status. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int recurse(int n) { volatile char frame[4096]; frame[0] = n; return recurse(n + 1) + frame[0]; }

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    volatile int zero = 0;
    if (!strcmp(what, "null")) *(volatile int *)0 = 1;
    if (!strcmp(what, "kernel")) *(volatile int *)0xffffffff80000000UL = 1;
    if (!strcmp(what, "kernel-read")) return *(volatile int *)0xffff800000100000UL;
    if (!strcmp(what, "noncanonical")) *(volatile int *)0x8000000000000000UL = 1;
    if (!strcmp(what, "text")) *(volatile char *)(void *)main = 1;
    if (!strcmp(what, "exec-data")) { static char code[] = "\xc3"; ((void (*)(void))code)(); }
    if (!strcmp(what, "divide")) return 100 / zero;
    if (!strcmp(what, "illegal")) __asm__ volatile("ud2");
    if (!strcmp(what, "privileged")) __asm__ volatile("hlt");
    if (!strcmp(what, "cli")) __asm__ volatile("cli");
    if (!strcmp(what, "int80")) __asm__ volatile("int $0x42");
    if (!strcmp(what, "stack")) return recurse(0);
    if (!strcmp(what, "abort")) raise(SIGABRT);
    if (!strcmp(what, "rodata")) { char *p = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); *p = 1; }
    printf("still here after %s\n", what);
    return 0;
}
