/* Signals: handlers, masks, queues, restarts, timers. */
#include "conform.h"

static volatile int count, last, order[64], nr_order, code, value, depth, maxdepth;
static void note(int s) { last = s; count++; if (nr_order < 64) order[nr_order++] = s; }
static void info(int s, siginfo_t *i, void *u) { (void)u; note(s); code = i->si_code; value = i->si_value.sival_int; }
static void on(int sig, int flags) { struct sigaction a = {0}; a.sa_handler = note; a.sa_flags = flags; sigaction(sig, &a, 0); }
static void oni(int sig, int flags) { struct sigaction a = {0}; a.sa_sigaction = info; a.sa_flags = flags | SA_SIGINFO; sigaction(sig, &a, 0); }

static void invalid(void) {
    struct sigaction a = {0};
    SHOW(sigaction(SIGKILL, &a, 0)); SHOW(sigaction(SIGSTOP, &a, 0)); SHOW(sigaction(0, &a, 0)); SHOW(sigaction(65, &a, 0));
    SHOW(sigaction(SIGKILL, 0, &a));
    SHOW(kill(0x7ffffff, 0)); SHOW(kill(getpid(), 65)); SHOW(kill(getpid(), -1)); SHOW(kill(getpid(), 0));
    SHOW(syscall(SYS_rt_sigprocmask, 3, &a, 0, 8)); SHOW(syscall(SYS_rt_sigprocmask, 0, &a, 0, 4));
    SHOW(syscall(SYS_tgkill, getpid(), 0, 0)); SHOW(syscall(SYS_tgkill, 0, getpid(), 0)); SHOW(syscall(SYS_tkill, -1, 0));
    SHOW(killpg(getpgrp(), 0)); SHOW(kill(-0x7fffff, 0));
}
static void masks(void) {
    on(SIGUSR1, 0);
    sigset_t s, o; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigaddset(&s, SIGKILL); sigaddset(&s, SIGSTOP);
    sigprocmask(SIG_BLOCK, &s, 0); sigprocmask(SIG_SETMASK, 0, &o);
    printf("  kill blocked %d stop blocked %d\n", sigismember(&o, SIGKILL), sigismember(&o, SIGSTOP));
    raise(SIGUSR1); raise(SIGUSR1); sigpending(&o);
    printf("  count %d pending %d\n", count, sigismember(&o, SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &s, 0);
    printf("  count %d\n", count);
    /* A signal that is ignored does not pend. */
    sigprocmask(SIG_BLOCK, &s, 0); signal(SIGUSR1, SIG_IGN); raise(SIGUSR1); sigpending(&o);
    printf("  ignored pending %d\n", sigismember(&o, SIGUSR1));
    on(SIGUSR1, 0); raise(SIGUSR1); signal(SIGUSR1, SIG_IGN); on(SIGUSR1, 0); sigpending(&o);
    printf("  discarded by ignoring: pending %d\n", sigismember(&o, SIGUSR1));
}
static void nested(int s) { depth++; if (depth > maxdepth) maxdepth = depth; count++; if (count < 4) raise(s); depth--; }
static void flags(void) {
    struct sigaction a = {0}; a.sa_handler = nested; sigaction(SIGUSR1, &a, 0); raise(SIGUSR1);
    printf("  plain: count %d depth %d\n", count, maxdepth);
    count = depth = maxdepth = 0; a.sa_flags = SA_NODEFER; sigaction(SIGUSR1, &a, 0); raise(SIGUSR1);
    printf("  nodefer: count %d depth %d\n", count, maxdepth);
    on(SIGUSR2, SA_RESETHAND); raise(SIGUSR2); sigaction(SIGUSR2, 0, &a);
    printf("  resethand: default %d flags %x\n", a.sa_handler == SIG_DFL, (unsigned)a.sa_flags & ~0x4000000u);
}
static void queue(void) {
    oni(SIGRTMIN, 0); oni(SIGRTMIN + 1, 0); oni(SIGUSR1, 0); oni(SIGUSR2, 0);
    sigset_t s; sigfillset(&s); sigprocmask(SIG_SETMASK, &s, 0);
    for (int i = 0; i < 3; i++) {
        union sigval v = {.sival_int = 10 + i};
        sigqueue(getpid(), SIGRTMIN + 1, v); sigqueue(getpid(), SIGRTMIN, v); sigqueue(getpid(), SIGUSR2, v); sigqueue(getpid(), SIGUSR1, v);
    }
    siginfo_t i; struct timespec zero = {0, 0};
    for (int k = 0; k < 9; k++) {
        int r = sigtimedwait(&s, &i, &zero);
        if (r == -1) { printf("  %s\n", strerror(errno)); continue; }
        printf("  got %d code %d value %d self %d\n", r >= SIGRTMIN ? r - SIGRTMIN + 100 : r, i.si_code, i.si_value.sival_int, i.si_pid == getpid());
    }
    struct timespec bad = {0, 1000000000}, some = {0, 20000000};
    SHOW(sigtimedwait(&s, &i, &bad)); SHOW(sigtimedwait(&s, &i, &some));
    raise(SIGUSR1); SHOW(sigtimedwait(&s, &i, &zero)); printf("  code %d\n", i.si_code);
    kill(getpid(), SIGUSR2); SHOW(sigwaitinfo(&s, &i)); printf("  code %d uid %d\n", i.si_code, i.si_uid);
    sigset_t none; sigemptyset(&none);
    oni(SIGUSR1, 0);
    union sigval v = {.sival_int = 77};
    sigqueue(getpid(), SIGUSR1, v); sigprocmask(SIG_SETMASK, &none, 0); printf("  handler: code %d value %d\n", code, value);
    siginfo_t forged = {0}; forged.si_code = SI_USER;
    SHOW(syscall(SYS_rt_sigqueueinfo, getppid(), SIGCHLD, &forged));
    forged.si_code = SI_QUEUE; SHOW(syscall(SYS_rt_sigqueueinfo, getpid(), 0, &forged));
}
static void delivery_order(void) {
    sigset_t s, none; sigfillset(&s); sigemptyset(&none); sigprocmask(SIG_SETMASK, &s, 0);
    int all[] = {SIGUSR2, SIGTERM, SIGUSR1, SIGHUP, SIGALRM, SIGRTMIN + 2, SIGRTMIN};
    for (int i = 0; i < 7; i++) { struct sigaction a = {0}; a.sa_handler = note; a.sa_mask = s; sigaction(all[i], &a, 0); }
    for (int i = 0; i < 7; i++) raise(all[i]);
    sigprocmask(SIG_SETMASK, &none, 0);
    for (int i = 0; i < nr_order; i++) printf("  %d\n", order[i] >= SIGRTMIN ? 100 + order[i] - SIGRTMIN : order[i]);
}
static pid_t poke(int delay, int sig) { pid_t me = getpid(), p = fork(); if (p == 0) { ms(delay); kill(me, sig); ms(60); _exit(0); } return p; }
static void restart_flags(int f) {
    int p[2]; char c; pipe(p); on(SIGUSR1, f);
    pid_t me = getpid(), k = fork();
    if (k == 0) { ms(30); kill(me, SIGUSR1); ms(60); write(p[1], "x", 1); _exit(0); }
    SHOW(read(p[0], &c, 1)); waitpid(k, 0, 0);
    struct timespec t = {0, 200000000}, rem = {9, 9};
    k = poke(30, SIGUSR1); SHOW(nanosleep(&t, &rem)); printf("  remainder %d\n", rem.tv_sec == 0 && rem.tv_nsec > 0 && rem.tv_nsec < 200000000); waitpid(k, 0, 0);
    k = poke(30, SIGUSR1); SHOW(poll(0, 0, 200)); waitpid(k, 0, 0);
    k = poke(30, SIGUSR1); SHOW(select(0, 0, 0, 0, &(struct timeval){0, 200000})); waitpid(k, 0, 0);
    int e = epoll_create1(0); struct epoll_event ev;
    k = poke(30, SIGUSR1); SHOW(epoll_wait(e, &ev, 1, 200)); waitpid(k, 0, 0);
    k = poke(30, SIGUSR1); SHOW(pause()); waitpid(k, 0, 0);
    k = poke(30, SIGUSR1); int s; pid_t w = waitpid(k, &s, 0); printf("  waitpid %s\n", w == k ? "restarted" : strerror(errno)); if (w != k) waitpid(k, &s, 0);
    uint32_t word = 0; struct timespec ft = {0, 200000000};
    k = poke(30, SIGUSR1); SHOW(syscall(SYS_futex, &word, 0, 0, &ft, 0, 0)); waitpid(k, 0, 0);
    k = poke(30, SIGUSR1); SHOW(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, 0)); waitpid(k, 0, 0);
    int ef = eventfd(0, 0); uint64_t v;
    k = fork(); if (k == 0) { ms(30); kill(me, SIGUSR1); ms(60); v = 5; write(ef, &v, 8); _exit(0); }
    SHOW(read(ef, &v, 8)); waitpid(k, 0, 0);
    int tf = timerfd_create(CLOCK_MONOTONIC, 0); struct itimerspec its = {{0, 0}, {0, 150000000}}; timerfd_settime(tf, 0, &its, 0);
    k = poke(30, SIGUSR1); SHOW(read(tf, &v, 8)); waitpid(k, 0, 0);
    char name[] = "fifo.restart"; mkfifo(name, 0600);
    k = fork(); if (k == 0) { ms(30); kill(me, SIGUSR1); ms(60); int w2 = open(name, O_WRONLY | O_NONBLOCK); ms(50); close(w2); _exit(0); }
    int fd = open(name, O_RDONLY); printf("  open fifo: %s\n", fd < 0 ? strerror(errno) : "opened"); waitpid(k, 0, 0); unlink(name);
    int sv[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
    k = fork(); if (k == 0) { ms(30); kill(me, SIGUSR1); ms(60); write(sv[1], "x", 1); _exit(0); }
    SHOW(read(sv[0], &c, 1)); waitpid(k, 0, 0);
    int q[2]; pipe(q); int lf = open("lock.restart", O_CREAT | O_RDWR, 0600);
    k = fork(); if (k == 0) { int l2 = open("lock.restart", O_RDWR); flock(l2, LOCK_EX); ms(30); write(q[1], "r", 1); ms(60); kill(me, SIGUSR1); ms(60); _exit(0); }
    read(q[0], &c, 1); SHOW(flock(lf, LOCK_EX)); waitpid(k, 0, 0); unlink("lock.restart");
    printf("  handled %d\n", count);
}
static void restarted(void) { restart_flags(SA_RESTART); }
static void interrupted(void) { restart_flags(0); }
static void stopped_wait(void) {
    /* A stop and a continue without a handler: sleeps go on, reads restart. */
    pid_t k = fork();
    if (k == 0) { struct timespec t = {0, 100000000}; int r = nanosleep(&t, 0); _exit(r == 0 ? 7 : 8); }
    int s; ms(20); kill(k, SIGSTOP); waitpid(k, &s, WUNTRACED); show_status("stop", s);
    SHOW(waitpid(k, &s, WNOHANG)); SHOW(waitpid(k, &s, WNOHANG | WUNTRACED));
    kill(k, SIGCONT); waitpid(k, &s, WCONTINUED); show_status("continue", s); waitpid(k, &s, 0); show_status("end", s);
    k = fork(); if (k == 0) { raise(SIGSTOP); _exit(3); }
    siginfo_t i; memset(&i, 0, sizeof i); waitid(P_PID, k, &i, WSTOPPED); printf("  signo %d code %d status %d\n", i.si_signo, i.si_code, i.si_status);
    kill(k, SIGKILL); memset(&i, 0, sizeof i); waitid(P_PID, k, &i, WEXITED | WNOWAIT); printf("  signo %d code %d status %d\n", i.si_signo, i.si_code, i.si_status);
    waitpid(k, &s, 0); show_status("killed while stopped", s);
}
static sigjmp_buf env;
static void alt(int s, siginfo_t *i, void *u) { (void)i; (void)u; stack_t o; char here; sigaltstack(0, &o);
    printf("  sig %d onstack %d inside %d change %s\n", s, o.ss_flags, (char *)o.ss_sp <= &here && &here < (char *)o.ss_sp + o.ss_size, sigaltstack(&o, 0) == -1 ? strerror(errno) : "ok"); siglongjmp(env, 1); }
static int deep(volatile int n) { volatile char b[4096]; b[0] = n; return n == -1 ? b[0] : deep(n + 1) + b[0]; }
static void altstack(void) {
    stack_t s = {.ss_sp = malloc(65536), .ss_size = 65536}, o;
    sigaltstack(0, &o); printf("  flags %d size %d\n", o.ss_flags, (int)o.ss_size);
    stack_t small = {.ss_sp = s.ss_sp, .ss_size = 100}, bad = {.ss_sp = s.ss_sp, .ss_size = 65536, .ss_flags = 99};
    SHOW(sigaltstack(&small, 0)); SHOW(sigaltstack(&bad, 0)); SHOW(sigaltstack(&s, 0));
    struct sigaction a = {0}; a.sa_sigaction = alt; a.sa_flags = SA_ONSTACK | SA_SIGINFO; sigaction(SIGUSR1, &a, 0); sigaction(SIGSEGV, &a, 0);
    if (!sigsetjmp(env, 1)) raise(SIGUSR1);
    struct rlimit r = {262144, 262144}; setrlimit(RLIMIT_STACK, &r);
    if (!sigsetjmp(env, 1)) deep(0);
    sigaltstack(0, &o); printf("  flags %d\n", o.ss_flags);
    stack_t off = {.ss_flags = SS_DISABLE}; SHOW(sigaltstack(&off, 0)); sigaltstack(0, &o); printf("  flags %d\n", o.ss_flags);
}
static void fault(int s, siginfo_t *i, void *u) { (void)u; printf("  sig %d code %d addr %d\n", s, i->si_code, i->si_addr == (void *)16); siglongjmp(env, 1); }
static void faults(void) {
    struct sigaction a = {0}; a.sa_sigaction = fault; a.sa_flags = SA_SIGINFO;
    int all[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP}; for (int i = 0; i < 5; i++) sigaction(all[i], &a, 0);
    volatile int zero = 0, x;
    if (!sigsetjmp(env, 1)) *(volatile int *)16 = 1;
    if (!sigsetjmp(env, 1)) __asm__ volatile("ud2");
    if (!sigsetjmp(env, 1)) { x = 1 / zero; (void)x; }
    if (!sigsetjmp(env, 1)) __asm__ volatile("int3");
    if (!sigsetjmp(env, 1)) __asm__ volatile("hlt");
    if (!sigsetjmp(env, 1)) *(volatile int *)0x8000000000000000UL = 1;
    if (!sigsetjmp(env, 1)) *(volatile int *)0xffffffff80000000UL = 1;
    if (!sigsetjmp(env, 1)) ((void (*)(void))0x10)();
    char *p = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sigsetjmp(env, 1)) *p = 1;
    if (!sigsetjmp(env, 1)) ((void (*)(void))p)();
}
static void blocked_fault(void) { sigset_t s; sigfillset(&s); sigprocmask(SIG_SETMASK, &s, 0); on(SIGSEGV, 0); *(volatile int *)16 = 1; }
static void ignored_fault(void) { signal(SIGSEGV, SIG_IGN); *(volatile int *)16 = 1; }
static void self_abort(void) { struct rlimit r = {0, 0}; setrlimit(RLIMIT_CORE, &r); signal(SIGABRT, SIG_IGN); abort(); }
static void endings(void) { struct rlimit r = {0, 0}; setrlimit(RLIMIT_CORE, &r); in_child("blocked fault", blocked_fault); in_child("ignored fault", ignored_fault); in_child("abort", self_abort);
    int ignoredefault[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT}; for (int i = 0; i < 4; i++) raise(ignoredefault[i]);
    int fatal[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2, SIGPOLL, SIGPWR, SIGVTALRM, SIGPROF, SIGXCPU, SIGXFSZ, SIGSYS, SIGSTKFLT, SIGTRAP, 40, 64};
    for (unsigned i = 0; i < sizeof fatal / sizeof *fatal; i++) { pid_t p = fork(); if (p == 0) { kill(getpid(), fatal[i]); _exit(0); } int s; waitpid(p, &s, 0); show_status("fatal", s & ~0x80); } }
static void timers(void) {
    on(SIGALRM, 0); SHOW(alarm(100)); SHOW(alarm(0)); SHOW(alarm(0));
    struct itimerval v = {{0, 20000}, {0, 20000}}, o; setitimer(ITIMER_REAL, &v, 0); while (count < 3) pause(); getitimer(ITIMER_REAL, &o);
    printf("  interval %ld\n", (long)o.it_interval.tv_usec); memset(&v, 0, sizeof v); setitimer(ITIMER_REAL, &v, 0);
    v.it_value.tv_usec = 1000000; SHOW(setitimer(ITIMER_REAL, &v, 0)); SHOW(setitimer(3, &o, 0)); SHOW(getitimer(3, &o));
    timer_t t; struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value = {.sival_int = 42}};
    oni(SIGRTMIN, 0); SHOWOK(timer_create(CLOCK_MONOTONIC, &e, &t)); struct itimerspec its = {{0, 0}, {0, 20000000}}, got;
    last = 0; SHOW(timer_settime(t, 0, &its, 0)); while (!last) ms(5); printf("  code %d value %d overrun %d\n", code, value, timer_getoverrun(t));
    timer_gettime(t, &got); printf("  left %ld %ld\n", (long)got.it_value.tv_sec, got.it_value.tv_nsec);
    its.it_value.tv_nsec = 2000000000; SHOW(timer_settime(t, 0, &its, 0)); SHOW(timer_delete(t)); SHOW(syscall(SYS_timer_delete, 12345)); SHOW(syscall(SYS_timer_gettime, 12345, &got));
    e.sigev_signo = 99; SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &t)); e.sigev_notify = 77; SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &t)); SHOW(syscall(SYS_timer_create, 99, 0, &t));
    e.sigev_notify = SIGEV_NONE; timer_create(CLOCK_REALTIME, &e, &t); its.it_value = (struct timespec){100, 0}; timer_settime(t, 0, &its, 0); timer_gettime(t, &got); printf("  none: running %d\n", got.it_value.tv_sec > 90);
    /* Timers are not inherited. */
    alarm(100); pid_t p = fork(); if (p == 0) _exit(alarm(0)); int s; waitpid(p, &s, 0); show_status("child's alarm", s);
}
static void cpu_timers(void) {
    struct itimerval v = {{0, 0}, {0, 20000}};
    on(SIGVTALRM, 0); v.it_value.tv_usec = 20000; last = 0; setitimer(ITIMER_VIRTUAL, &v, 0); for (volatile long n = 0; last == 0 && n < 2000000000; n++); printf("  virtual %d\n", last);
    on(SIGPROF, 0); last = 0; setitimer(ITIMER_PROF, &v, 0); for (volatile long n = 0; last == 0 && n < 2000000000; n++); printf("  prof %d\n", last);
}
static void chld(int s, siginfo_t *i, void *u) { (void)u; (void)s; printf("  SIGCHLD code %d status %d\n", i->si_code, i->si_status); count++; }
static void child_signals(void) {
    struct sigaction a = {0}; a.sa_sigaction = chld; a.sa_flags = SA_SIGINFO | SA_RESTART; sigaction(SIGCHLD, &a, 0);
    pid_t p = fork(); if (p == 0) _exit(9); waitpid(p, 0, 0);
    p = fork(); if (p == 0) { pause(); _exit(0); } kill(p, SIGTERM); waitpid(p, 0, 0);
    p = fork(); if (p == 0) { raise(SIGSTOP); _exit(1); } int s; waitpid(p, &s, WUNTRACED); kill(p, SIGCONT); waitpid(p, &s, 0);
    a.sa_flags |= SA_NOCLDSTOP; sigaction(SIGCHLD, &a, 0); count = 0;
    p = fork(); if (p == 0) { raise(SIGSTOP); _exit(1); } waitpid(p, &s, WUNTRACED); printf("  after stop %d\n", count); kill(p, SIGCONT); waitpid(p, &s, 0); printf("  after end %d\n", count);
    a.sa_flags |= SA_NOCLDWAIT; sigaction(SIGCHLD, &a, 0); p = fork(); if (p == 0) _exit(1); SHOW(waitpid(p, &s, 0)); 
    signal(SIGCHLD, SIG_IGN); p = fork(); if (p == 0) _exit(1); SHOW(waitpid(-1, &s, 0));
}
static void suspend(void) {
    on(SIGUSR1, 0); sigset_t s, n, o; sigemptyset(&n); sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, 0);
    raise(SIGUSR1); SHOW(sigsuspend(&n)); sigprocmask(SIG_SETMASK, 0, &o); printf("  count %d still blocked %d\n", count, sigismember(&o, SIGUSR1));
    raise(SIGUSR1); SHOW(ppoll(0, 0, &(struct timespec){1, 0}, &n)); printf("  count %d\n", count);
    raise(SIGUSR1); SHOW(pselect(0, 0, 0, 0, &(struct timespec){1, 0}, &n)); printf("  count %d\n", count);
    int e = epoll_create1(0); struct epoll_event ev; raise(SIGUSR1); SHOW(epoll_pwait(e, &ev, 1, 1000, &n)); printf("  count %d\n", count);
    int p[2]; pipe(p); struct pollfd f = {p[1], POLLOUT, 0}; raise(SIGUSR1); SHOW(ppoll(&f, 1, 0, &n)); printf("  ready first: count %d\n", count);
}
static void inherit(void) {
    on(SIGUSR1, 0); signal(SIGUSR2, SIG_IGN); sigset_t s; sigemptyset(&s); sigaddset(&s, SIGHUP); sigprocmask(SIG_BLOCK, &s, 0); raise(SIGHUP);
    pid_t p = fork(); if (p == 0) { struct sigaction a; sigset_t q; sigaction(SIGUSR1, 0, &a); sigpending(&q); sigprocmask(SIG_SETMASK, 0, &s);
        printf("  child: handler %d pending %d blocked %d\n", a.sa_handler == note, sigismember(&q, SIGHUP), sigismember(&s, SIGHUP)); _exit(0); }
    waitpid(p, 0, 0);
}
int main(void) {
    SECTION(invalid); SECTION(masks); SECTION(flags); SECTION(queue); SECTION(delivery_order); SECTION(restarted); SECTION(interrupted);
    SECTION(stopped_wait); SECTION(altstack); SECTION(faults); SECTION(endings); SECTION(timers); SECTION(cpu_timers); SECTION(child_signals); SECTION(suspend); SECTION(inherit);
    return 0;
}
