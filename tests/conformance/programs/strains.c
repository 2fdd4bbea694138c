/* What strains a machine: timers quicker than their own signals, limits near the largest number, locks that change hands. */
#include "conform.h"
#include <sys/sendfile.h>

static volatile int count;
static void note(int s, siginfo_t *i, void *u) { (void)s; (void)u; (void)i; count++; }
static void on(int sig) { struct sigaction a = {0}; a.sa_sigaction = note; a.sa_flags = SA_SIGINFO | SA_RESTART; sigaction(sig, &a, 0); }
static timer_t quick(int signo, long interval_ns) {
    struct sigevent e = {0}; e.sigev_notify = SIGEV_SIGNAL; e.sigev_signo = signo; timer_t t;
    struct itimerspec its = {{0, interval_ns}, {0, 1}};
    if (timer_create(CLOCK_MONOTONIC, &e, &t) || timer_settime(t, 0, &its, 0)) perror("  timer");
    return t;
}
/* The program itself may come to nothing, as on Linux; others go on. */
static void others_go_on(void (*f)(void)) {
    pid_t p = fork(); if (p == 0) { f(); for (;;); }
    long begin = now_ms(); int done = 0;
    for (int i = 0; i < 20; i++) { pid_t k = fork(); if (k == 0) { ms(5); _exit(3); } int s; waitpid(k, &s, 0); done += WIFEXITED(s) && WEXITSTATUS(s) == 3; }
    printf("  children %d in time %d\n", done, now_ms() - begin < 5000); kill(p, SIGKILL); int s; waitpid(p, &s, 0); show_status("it", s);
}
static void one_ns(void) { on(SIGRTMIN); quick(SIGRTMIN, 1); }
static void one_ns_blocked(void) { sigset_t s; sigfillset(&s); sigprocmask(SIG_BLOCK, &s, 0); for (int i = 0; i < 50; i++) quick(SIGRTMIN, 1); }
static void one_us_alarm(void) { on(SIGALRM); struct itimerval v = {{0, 1}, {0, 1}}; setitimer(ITIMER_REAL, &v, 0); }
static void quick_timers(void) { others_go_on(one_ns); others_go_on(one_ns_blocked); others_go_on(one_us_alarm); }
static void steady_timer(void) {
    on(SIGRTMIN);
    timer_t t = quick(SIGRTMIN, 1000000); long end = now_ms() + 200; while (now_ms() < end);
    printf("  signals %d\n", count > 5);
    struct itimerspec off = {{0, 0}, {0, 0}}; timer_settime(t, 0, &off, 0); int had = count; ms(30); printf("  ends %d\n", count - had <= 1);
}
static void blocked_timer(void) {
    sigset_t s; sigemptyset(&s); sigaddset(&s, SIGRTMIN); sigprocmask(SIG_BLOCK, &s, 0);
    timer_t t = quick(SIGRTMIN, 100000); ms(50);
    siginfo_t i; struct timespec zero = {0, 0}, second = {1, 0};
    SHOW(sigtimedwait(&s, &i, &zero) == SIGRTMIN); printf("  stands for many %d, as getoverrun says %d\n", i.si_overrun > 300, timer_getoverrun(t) == i.si_overrun);
    SHOW(sigtimedwait(&s, &i, &second) == SIGRTMIN); printf("  the next for few %d\n", i.si_overrun < 300);
    struct itimerspec got; timer_gettime(t, &got); printf("  interval %ld left %d\n", got.it_interval.tv_nsec, got.it_value.tv_sec == 0 && got.it_value.tv_nsec <= 100000);
}
static void slow_timer(void) {
    on(SIGRTMIN); timer_t t = quick(SIGRTMIN, 20000000); long end = now_ms() + 500; while (now_ms() < end); timer_delete(t);
    printf("  about one each period %d\n", count >= 15 && count <= 26);
}
static void ignored_timer(void) {
    signal(SIGRTMIN, SIG_IGN); quick(SIGRTMIN, 2000000); ms(30); on(SIGRTMIN); ms(100); printf("  heard of later %d\n", count > 0);
}
static void steady_alarm(void) {
    on(SIGALRM); struct itimerval v = {{0, 2000}, {0, 1}}; setitimer(ITIMER_REAL, &v, 0);
    long end = now_ms() + 200; while (now_ms() < end);
    v = (struct itimerval){{0, 0}, {0, 0}}; setitimer(ITIMER_REAL, &v, 0); printf("  signals %d\n", count > 5);
}
static void stack_limits(void) {
    unsigned long at[] = {1UL << 16, 1UL << 47, 1UL << 63, -4096UL, -2UL, -1UL};
    for (unsigned i = 0; i < sizeof at / sizeof *at; i++) {
        pid_t p = fork();
        if (p == 0) { struct rlimit r = {at[i], -1UL}; setrlimit(RLIMIT_STACK, &r); execl("/proc/self/exe", "strains", "used", (char *)0); _exit(99); }
        int s; waitpid(p, &s, 0); printf("  limit %lx ", at[i]); show_status("", s);
    }
}
/* Two programs pass two locks to and fro: who was just let in waits for nobody. */
static void lock_turns(void) {
    int f = open("turns", O_CREAT | O_RDWR, 0600), wrong = 0, p[2]; pipe(p); (void)!write(f, "01", 2);
    pid_t k = fork();
    for (int i = 0; i < 2000; i++) {
        struct flock a = {F_WRLCK, SEEK_SET, 0, 1, 0}, b = {F_WRLCK, SEEK_SET, 1, 1, 0};
        if (fcntl(f, F_SETLKW, &a)) wrong++;
        a.l_type = F_UNLCK; fcntl(f, F_SETLK, &a);
        if (fcntl(f, F_SETLKW, &b)) wrong++;
        b.l_type = F_UNLCK; fcntl(f, F_SETLK, &b);
    }
    if (k == 0) { (void)!write(p[1], &wrong, sizeof wrong); _exit(0); }
    int other = -1; (void)!read(p[0], &other, sizeof other); waitpid(k, 0, 0);
    printf("  deadlocks that are none %d\n", wrong + other);
}
/* One waits for a lock while it holds another; the holder gives the first up and wants the second. */
static void lock_exchange(void) {
    int wrong = 0, f = open("exchange", O_CREAT | O_RDWR, 0600), up[2], down[2]; pipe(up); pipe(down); char c;
    pid_t k = fork();
    for (int i = 0; i < 300; i++) {
        struct flock a = {F_WRLCK, SEEK_SET, 0, 1, 0}, b = {F_WRLCK, SEEK_SET, 1, 1, 0};
        if (k == 0) {
            fcntl(f, F_SETLKW, &a); (void)!write(up[1], "x", 1); (void)!read(down[0], &c, 1);
            if (fcntl(f, F_SETLKW, &b)) wrong++;
            a.l_type = b.l_type = F_UNLCK; fcntl(f, F_SETLK, &b); fcntl(f, F_SETLK, &a); (void)!write(up[1], "x", 1); (void)!read(down[0], &c, 1);
        } else {
            fcntl(f, F_SETLKW, &b); (void)!read(up[0], &c, 1); (void)!write(down[1], "x", 1); usleep(300);
            b.l_type = F_UNLCK; fcntl(f, F_SETLK, &b);
            if (fcntl(f, F_SETLKW, &a)) wrong++;
            a.l_type = F_UNLCK; fcntl(f, F_SETLK, &a); (void)!read(up[0], &c, 1); (void)!write(down[1], "x", 1);
        }
    }
    if (k == 0) _exit(wrong != 0);
    int s; waitpid(k, &s, 0); show_status("child", s); printf("  deadlocks that are none %d\n", wrong);
}
/* Most descriptors and arguments in one piece of kernel memory. */
static void large_blocks(void) {
    struct rlimit r = {4096, 4096}; setrlimit(RLIMIT_NOFILE, &r); int n = 0; while (dup(1) >= 0) n++; printf("  descriptors %d\n", n > 4000);
    in_child("with descriptors", stack_limits); for (int i = 3; i < 4096; i++) close(i);
    int f = open("/dev/zero", O_RDONLY), o = open("large", O_CREAT | O_RDWR, 0600); static char page[4096]; struct iovec v[1024]; for (int i = 0; i < 1024; i++) v[i] = (struct iovec){page, 4096};
    SHOW(readv(f, v, 1024)); SHOW(writev(o, v, 1024)); SHOW(lseek(o, 0, SEEK_SET)); int z = open("/dev/null", O_WRONLY); SHOW(sendfile(z, o, 0, 4 << 20));
    static char *args[30000]; static char word[] = "a word of an argument list"; for (int i = 0; i < 29999; i++) args[i] = word; args[0] = "strains"; args[1] = "used";
    pid_t p = fork(); if (p == 0) { execv("/proc/self/exe", args); _exit(99); } int s; waitpid(p, &s, 0); show_status("long list", s);
    struct pollfd *q = calloc(4096, sizeof *q); for (int i = 0; i < 4096; i++) q[i] = (struct pollfd){z, POLLOUT, 0}; SHOW(poll(q, 4096, 0));
}
static void places_in_devices(void) {
    const char *names[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"}; char b[8]; struct iovec v = {b, 8};
    for (int i = 0; i < 4; i++) {
        int f = open(names[i], O_RDWR); printf("  %s\n", names[i]); memset(b, 1, 8);
        SHOW(pread(f, b, 8, 1L << 40)); if (i < 3) printf("  %d\n", b[7]);
        SHOW(pwrite(f, "abc", 3, 7)); SHOW(preadv(f, &v, 1, 5)); SHOW(pread(f, b, 8, -1)); SHOW(lseek(f, 0, SEEK_CUR)); close(f);
    }
}
int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "used")) return 7;
    SECTION(quick_timers); SECTION(steady_timer); SECTION(blocked_timer); SECTION(slow_timer); SECTION(ignored_timer); SECTION(steady_alarm); SECTION(stack_limits); SECTION(lock_turns); SECTION(lock_exchange); SECTION(large_blocks); SECTION(places_in_devices);
    return 0;
}
