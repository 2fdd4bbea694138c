/* What the programs share. Each subject is a set of sections; each runs in a process group of its own with a time
 * limit, so that one failure leaves the others readable. Print results, never addresses, ids or times. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#define FUTEX_WAIT 0
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

static UNUSED void show(const char *what, long result) {
    if (result == -1) printf("  %s: %s\n", what, strerror(errno));
    else printf("  %s: %ld\n", what, result);
}
/* Prints the call's text with its result or error. */
#define SHOW(call) do { errno = 0; long r_ = (long)(call); show(#call, r_); } while (0)
/* For calls whose result is an address or an id: succeeded or not. */
#define SHOWOK(call) do { errno = 0; long r_ = (long)(call); show(#call, r_ == -1 ? -1 : 0); } while (0)

static UNUSED void ms(int n) { struct timespec t = {n / 1000, n % 1000 * 1000000L}; while (nanosleep(&t, &t) == -1 && errno == EINTR); }
static UNUSED long now_ms(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000 + t.tv_nsec / 1000000; }

/* How a wait status reads. */
static UNUSED void show_status(const char *what, int s) {
    if (WIFEXITED(s)) printf("  %s: exit %d\n", what, WEXITSTATUS(s));
    else if (WIFSIGNALED(s)) printf("  %s: signal %d\n", what, WTERMSIG(s));
    else if (WIFSTOPPED(s)) printf("  %s: stopped by %d\n", what, WSTOPSIG(s));
    else if (WIFCONTINUED(s)) printf("  %s: continued\n", what);
    else printf("  %s: status %x\n", what, s);
}

/* Runs `f` in a child and prints how it ended. */
static UNUSED void in_child(const char *what, void (*f)(void)) {
    pid_t p = fork();
    if (p == 0) { f(); exit(0); }
    int s = -1;
    while (waitpid(p, &s, 0) == -1 && errno == EINTR);
    show_status(what, s);
}

/* Every signal as after a log-in: who starts the tests may ignore or block some, and programs inherit that. By system
 * calls, for the library keeps three signals to itself. */
static UNUSED void fresh_signals(void) {
    struct { void *handler; unsigned long flags; void *restorer; unsigned long mask; } none = {0};
    for (int n = 1; n <= 64; n++) syscall(SYS_rt_sigaction, n, &none, 0, sizeof none.mask);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none.mask, 0, sizeof none.mask);
}

static UNUSED void section(const char *name, void (*f)(void)) {
    static int ready;
    if (!ready) { setvbuf(stdout, 0, _IOLBF, 4096); ready = 1; }
    printf("[%s]\n", name);
    fflush(stdout);
    pid_t p = fork();
    if (p == 0) { setpgid(0, 0); fresh_signals(); f(); fflush(stdout); _exit(0); }
    setpgid(p, p);
    int s;
    long end = now_ms() + 10000;
    for (;;) {
        pid_t got = waitpid(p, &s, WNOHANG);
        if (got == p) { if (s != 0) show_status("section", s); break; }
        if (now_ms() > end) { printf("  section: hangs\n"); kill(-p, SIGKILL); waitpid(p, &s, 0); break; }
        ms(1);
    }
    kill(-p, SIGKILL);
}
#define SECTION(f) section(#f, f)
