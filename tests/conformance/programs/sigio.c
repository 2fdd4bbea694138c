/* Signal-driven input and output: O_ASYNC, F_SETOWN, F_SETSIG. */
#include "conform.h"
#include <netinet/in.h>
#include <sys/inotify.h>
#include <termios.h>

#define RT (SIGRTMIN + 3)
static sigset_t set;
static void block(void) { sigemptyset(&set); sigaddset(&set, SIGIO); sigaddset(&set, RT); sigaddset(&set, SIGCHLD); sigprocmask(SIG_BLOCK, &set, 0); }
static void start(int fd, int sig) { SHOW(fcntl(fd, F_SETOWN, getpid())); SHOW(fcntl(fd, F_SETSIG, sig)); SHOW(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC)); printf("  flag %d\n", !!(fcntl(fd, F_GETFL) & O_ASYNC)); }
/* The next signal that comes soon, and none behind it but of its own kind. */
static void comes(const char *what, int fd) {
    siginfo_t si; struct timespec t = {2, 0}, soon = {0, 60000000}; memset(&si, 0, sizeof si);
    int n = sigtimedwait(&set, &si, &t);
    if (n < 0) { printf("  %s: nothing\n", what); return; }
    printf("  %s: %s code %d", what, n == RT ? "RT" : strsignal(n), si.si_code);
    if (si.si_code != SI_KERNEL) printf(" band %lx own fd %d", (long)si.si_band, si.si_fd == fd);
    printf("\n");
    int code = si.si_code; while ((n = sigtimedwait(&set, &si, &soon)) > 0) if (si.si_code != code) printf("   and %d code %d\n", n, si.si_code);
}
static void quiet(const char *what) { struct timespec t = {0, 60000000}; siginfo_t si; int n = sigtimedwait(&set, &si, &t); if (n < 0) printf("  %s: quiet\n", what); else printf("  %s: signal %d code %d band %lx\n", what, n, si.si_code, (long)si.si_band); }

static void owners(void) {
    block(); int p[2]; pipe(p); struct f_owner_ex o = {9, 9};
    SHOW(fcntl(p[0], F_GETOWN)); SHOW(fcntl(p[0], F_GETSIG)); SHOW(fcntl(p[0], F_GETOWN_EX, &o)); printf("  %d %d\n", o.type, o.pid);
    SHOW(fcntl(p[0], F_SETOWN, 0x7ffffff)); SHOW(fcntl(p[0], F_SETOWN, -0x7ffffff)); SHOW(fcntl(p[0], F_SETOWN, INT_MIN)); SHOW(fcntl(p[0], F_SETOWN, getpid())); SHOW(fcntl(p[0], F_GETOWN) == getpid());
    SHOW(fcntl(p[0], F_GETOWN_EX, &o)); printf("  %d %d\n", o.type, o.pid == getpid()); SHOW(fcntl(p[0], F_SETOWN, -getpgrp())); SHOW(fcntl(p[0], F_GETOWN_EX, &o)); printf("  %d %d\n", o.type, o.pid == getpgrp());
    o.type = F_OWNER_TID; o.pid = getpid(); SHOW(fcntl(p[0], F_SETOWN_EX, &o)); o.type = 7; SHOW(fcntl(p[0], F_SETOWN_EX, &o)); o.type = -1; SHOW(fcntl(p[0], F_SETOWN_EX, &o)); o.type = F_OWNER_PGRP; o.pid = 0x7ffffff; SHOW(fcntl(p[0], F_SETOWN_EX, &o)); SHOW(fcntl(p[0], F_SETOWN_EX, 16)); SHOW(fcntl(p[0], F_GETOWN_EX, 16));
    SHOW(fcntl(p[0], F_GETOWN_EX, &o)); printf("  %d %d\n", o.type, o.pid == getpid()); SHOW(fcntl(p[0], F_SETOWN, 0)); SHOW(fcntl(p[0], F_GETOWN));
    SHOW(fcntl(p[0], F_SETSIG, 65)); SHOW(fcntl(p[0], F_SETSIG, -1)); SHOW(fcntl(p[0], F_SETSIG, 64)); SHOW(fcntl(p[0], F_GETSIG)); SHOW(fcntl(p[0], F_SETSIG, 0)); SHOW(fcntl(99, F_SETOWN, getpid()));
    pid_t k = fork(); if (!k) { pause(); _exit(0); } SHOW(fcntl(p[0], F_SETOWN, k)); kill(k, SIGKILL); waitpid(k, 0, 0); SHOW(fcntl(p[0], F_GETOWN)); SHOW(fcntl(p[0], F_GETOWN_EX, &o)); printf("  %d %d\n", o.type, o.pid);
    int s = socket(AF_UNIX, SOCK_STREAM, 0), who = getpid(), got = 0; SHOW(ioctl(s, FIOSETOWN, &who)); SHOW(ioctl(s, SIOCGPGRP, &got)); printf("  %d\n", got == who); who = -getpgrp(); SHOW(ioctl(s, SIOCSPGRP, &who)); SHOW(ioctl(s, FIOGETOWN, &got)); printf("  %d\n", got == who); SHOW(ioctl(p[0], FIOSETOWN, &who)); SHOW(ioctl(p[0], FIOGETOWN, &got));
}
static void files(void) {
    block(); int f = open("plain", O_CREAT | O_RDWR, 0600), e = eventfd(0, 0), t = timerfd_create(CLOCK_MONOTONIC, 0), one = 1, zero = 0, p[2]; pipe(p);
    SHOW(fcntl(f, F_SETFL, O_ASYNC)); printf("  flag %d\n", !!(fcntl(f, F_GETFL) & O_ASYNC)); SHOW(ioctl(f, FIOASYNC, &one)); SHOW(ioctl(f, FIOASYNC, &zero)); SHOW(fcntl(e, F_SETFL, O_ASYNC)); printf("  flag %d\n", !!(fcntl(e, F_GETFL) & O_ASYNC)); SHOW(ioctl(e, FIOASYNC, &one)); SHOW(ioctl(t, FIOASYNC, &one));
    SHOW(ioctl(p[0], FIOASYNC, &one)); printf("  flag %d\n", !!(fcntl(p[0], F_GETFL) & O_ASYNC)); SHOW(ioctl(p[0], FIOASYNC, &one)); SHOW(ioctl(p[0], FIOASYNC, &zero)); printf("  flag %d\n", !!(fcntl(p[0], F_GETFL) & O_ASYNC)); SHOW(ioctl(p[0], FIOASYNC, 16));
    unlink("plain"); f = open("/dev/null", O_RDWR | O_ASYNC); printf("  opened with flag %d\n", !!(fcntl(f, F_GETFL) & O_ASYNC)); mkfifo("fifo", 0600); f = open("fifo", O_RDWR | O_ASYNC); printf("  opened with flag %d\n", !!(fcntl(f, F_GETFL) & O_ASYNC)); fcntl(f, F_SETOWN, getpid()); write(f, "x", 1); quiet("open does not start it"); unlink("fifo");
}
static void pipes(void) {
    block(); int p[2]; char b[9]; pipe(p); start(p[0], 0); quiet("nothing written"); write(p[1], "a", 1); comes("bare", p[0]); SHOW(fcntl(p[0], F_SETSIG, RT)); write(p[1], "b", 1); comes("written", p[0]); SHOW(fcntl(p[0], F_SETSIG, SIGIO)); write(p[1], "b", 1); comes("SIGIO asked for", p[0]); SHOW(fcntl(p[0], F_SETSIG, SIGCHLD)); write(p[1], "b", 1); comes("of another meaning", p[0]); fcntl(p[0], F_SETSIG, RT);
    read(p[0], b, 9); quiet("read"); int d = dup(p[0]); close(p[0]); write(p[1], "d", 1); comes("through a closed number", p[0]); SHOW(fcntl(d, F_SETFL, 0)); write(p[1], "e", 1); quiet("off"); read(d, b, 9); SHOW(fcntl(d, F_SETFL, O_ASYNC)); close(p[1]); comes("end", d); close(d);
    pipe(p); start(p[1], RT); write(p[1], "a", 1); quiet("own write"); read(p[0], b, 9); comes("room", p[1]); close(p[0]); comes("no reader", p[1]); close(p[1]);
    pipe(p); start(p[0], RT); SHOW(fcntl(p[0], F_SETOWN, 0)); write(p[1], "a", 1); quiet("nobody owns it"); fcntl(p[0], F_SETOWN, getpid()); sigdelset(&set, SIGCHLD); pid_t k = fork(); if (!k) { write(p[1], "from a child", 12); _exit(0); } comes("child writes", p[0]); waitpid(k, 0, 0);
    struct f_owner_ex o = {F_OWNER_TID, syscall(SYS_gettid)}; SHOW(fcntl(p[0], F_SETOWN_EX, &o)); write(p[1], "t", 1); comes("thread", p[0]); o.type = F_OWNER_PGRP; o.pid = getpgrp(); SHOW(fcntl(p[0], F_SETOWN_EX, &o)); write(p[1], "g", 1); comes("group", p[0]);
}
static volatile int seen; static void handler(int s) { (void)s; seen++; }
static void defaults(void) {
    signal(SIGIO, handler); int p[2]; pipe(p); fcntl(p[0], F_SETOWN, getpid()); fcntl(p[0], F_SETFL, O_ASYNC); write(p[1], "a", 1); for (int i = 0; i < 200 && !seen; i++) ms(5); printf("  handled %d\n", seen); fflush(stdout);
    pid_t k = fork(); if (!k) { int q[2]; pipe(q); signal(SIGIO, SIG_DFL); fcntl(q[0], F_SETOWN, getpid()); fcntl(q[0], F_SETFL, O_ASYNC); write(q[1], "a", 1); ms(2000); _exit(3); } int s; waitpid(k, &s, 0); show_status("by default", s);
}
static void sockets(void) {
    block(); int s[2]; char b[9]; static char big[300000]; socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s); start(s[0], RT); write(s[0], "a", 1); quiet("own write"); read(s[1], b, 9); quiet("room that nobody missed"); write(s[1], "b", 1); comes("written", s[0]); read(s[0], b, 9);
    while (write(s[0], big, sizeof big) > 0); quiet("full"); while (read(s[1], big, sizeof big) > 0); comes("room", s[0]); shutdown(s[1], SHUT_WR); comes("shut", s[0]); close(s[0]); close(s[1]);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s); start(s[0], RT); close(s[1]); comes("closed", s[0]); close(s[0]);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s); start(s[0], RT); send(s[1], "d", 1, 0); comes("datagram", s[0]); close(s[0]); close(s[1]);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; socklen_t n = sizeof a; int u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0); bind(u, (void *)&a, sizeof a); getsockname(u, (void *)&a, &n); start(u, RT); sendto(v, "d", 1, 0, (void *)&a, n); comes("udp", u);
    int l = socket(AF_INET, SOCK_STREAM, 0); a.sin_port = 0; bind(l, (void *)&a, sizeof a); listen(l, 3); getsockname(l, (void *)&a, &n); start(l, RT); int c = socket(AF_INET, SOCK_STREAM, 0); SHOW(connect(c, (void *)&a, n)); comes("connection", l); int t = accept(l, 0, 0); start(t, RT); write(c, "x", 1); comes("tcp", t); read(t, b, 9); shutdown(c, SHUT_WR); comes("end", t);
}
static void terminals(void) {
    block(); int m = posix_openpt(O_RDWR | O_NOCTTY); grantpt(m); unlockpt(m); int s = open(ptsname(m), O_RDWR | O_NOCTTY); SHOW(fcntl(s, F_SETFL, O_ASYNC)); SHOW(fcntl(s, F_GETOWN) == getpid()); write(m, "a", 1); quiet("half a line"); write(m, "\n", 1); comes("a line", s); SHOW(fcntl(s, F_SETSIG, RT)); write(m, "b\n", 2); comes("another", s); write(s, "out", 3); quiet("own output");
    struct termios t; tcgetattr(s, &t); t.c_lflag &= ~ICANON; tcflush(s, TCIFLUSH); tcsetattr(s, TCSANOW, &t); write(m, "c", 1); comes("raw", s); char b[99]; read(m, b, 99); SHOW(fcntl(m, F_SETFL, O_ASYNC)); fcntl(m, F_SETSIG, RT); write(s, "x", 1); comes("master", m);
}
static void queues(void) {
    /* Not more than the limit, and then a bare SIGIO. */
    block(); struct rlimit r = {0, 0}; setrlimit(RLIMIT_SIGPENDING, &r); int p[2]; pipe(p); start(p[0], RT); write(p[1], "a", 1); comes("full queue", p[0]);
}
static void rights(void) {
    if (geteuid() != 0) return;
    block(); int p[2], go[2]; char b; pipe(p); pipe(go); fcntl(p[0], F_SETSIG, RT); fcntl(p[0], F_SETFL, O_ASYNC); pid_t k = fork(); if (!k) { setresuid(1234, 1234, 1234); SHOW(fcntl(p[0], F_SETOWN, getppid())); fflush(stdout); _exit(0); } waitpid(k, 0, 0); SHOW(sigtimedwait(&set, 0, &(struct timespec){0, 0}) == SIGCHLD); write(p[1], "a", 1); quiet("another user's owner"); k = fork(); if (!k) { read(go[0], &b, 1); _exit(0); } fcntl(p[0], F_SETOWN, getpid()); write(p[1], "a", 1); comes("own", p[0]); kill(k, SIGKILL); waitpid(k, 0, 0);
}
static void events(void) {
    block(); int i = inotify_init1(IN_NONBLOCK); mkdir("dir", 0700); inotify_add_watch(i, "dir", IN_CREATE); start(i, RT); close(open("dir/x", O_CREAT | O_RDWR, 0600)); comes("event", i); unlink("dir/x"); rmdir("dir");
}
int main(void) { SECTION(owners); SECTION(files); SECTION(pipes); SECTION(defaults); SECTION(sockets); SECTION(terminals); SECTION(queues); SECTION(rights); SECTION(events); return 0; }
