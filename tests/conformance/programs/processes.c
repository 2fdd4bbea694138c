/* Processes: fork, exec, wait, groups, sessions, limits. */
#include "conform.h"
extern char **environ;

static void statuses(void) {
    int s; siginfo_t i;
    SHOW(waitpid(-1, &s, 0)); SHOW(waitpid(-1, &s, WNOHANG)); SHOW(waitpid(getpid(), &s, 0)); SHOW(waitpid(1, &s, 0)); SHOW(waitpid(-1, &s, 0x100)); SHOW(waitpid(-0x7ffffff, &s, 0));
    SHOW(waitid(P_ALL, 0, &i, 0)); SHOW(waitid(P_ALL, 0, &i, WEXITED)); SHOW(waitid(99, 0, &i, WEXITED)); SHOW(waitid(P_PID, 0, &i, WEXITED)); SHOW(waitpid(INT_MIN, &s, 0));
    for (int e = 0; e < 260; e += 51) { pid_t p = fork(); if (!p) _exit(e); printf("  mine %d\n", waitpid(p, &s, 0) == p); show_status("exit", s); }
    pid_t p = fork(); if (!p) { pause(); } SHOW(waitpid(p, &s, WNOHANG)); memset(&i, 7, sizeof i); SHOW(waitid(P_PID, p, &i, WEXITED | WNOHANG)); printf("  pid %d signo %d\n", i.si_pid, i.si_signo);
    kill(p, SIGKILL); struct rusage u; printf("  wait4 %d\n", wait4(p, &s, 0, &u) == p); show_status("killed", s);
    SHOW(waitpid(p, &s, 0)); SHOW(kill(p, 0));
    p = fork(); if (!p) { setpgid(0, 0); pause(); _exit(0); } setpgid(p, p);
    SHOW(waitpid(0, &s, WNOHANG)); SHOW(waitpid(-p, &s, WNOHANG)); SHOW(kill(-p, SIGUSR1)); printf("  by group %d\n", waitpid(-p, &s, 0) == p); show_status("group", s);
    p = fork(); if (!p) _exit(5); ms(30); SHOW(kill(p, 0)); memset(&i, 0, sizeof i); SHOW(waitid(P_ALL, 0, &i, WEXITED | WNOWAIT)); SHOW(waitid(P_PID, p, 0, WEXITED)); SHOW(waitid(P_PID, p, 0, WEXITED));
    struct rlimit r = {0, 0}; setrlimit(RLIMIT_CORE, &r); p = fork(); if (!p) abort(); waitpid(p, &s, 0); printf("  core %d\n", !!WCOREDUMP(s));
}
static void orphans(void) {
    int p[2]; pipe(p); pid_t me = getpid();
    pid_t k = fork(); if (!k) { if (!fork()) { while (getppid() == getpid() || getppid() != 1 && getppid() > 2) { static int n; if (n++ > 200) break; ms(5); } close(p[0]); write(p[1], getppid() == me ? "m" : "i", 1); _exit(0); } _exit(0); }
    waitpid(k, 0, 0); char c; read(p[0], &c, 1); printf("  reparented %c\n", c);
    SHOW(syscall(SYS_prctl, 36, 1, 0, 0, 0)); /* PR_SET_CHILD_SUBREAPER */
    k = fork(); if (!k) { pid_t mid = getpid(); if (!fork()) { while (getppid() == mid) ms(2); write(p[1], getppid() == me ? "m" : "i", 1); _exit(6); } _exit(0); }
    waitpid(k, 0, 0); read(p[0], &c, 1); printf("  subreaper %c\n", c); int s; SHOWOK(wait(&s)); show_status("adopted", s);
    k = fork(); if (!k) { syscall(SYS_prctl, 1, SIGUSR1, 0, 0, 0); ms(0); pid_t m = getpid(); pid_t g = fork(); if (!g) { syscall(SYS_prctl, 1, SIGUSR2); write(p[1], "r", 1); pause(); _exit(1); } read(p[0], &c, 1); _exit(0); }
    waitpid(k, 0, 0); SHOWOK(wait(&s)); show_status("parent death signal", s);
}
static void vforks(void) {
    volatile int x = 0; pid_t p = vfork(); if (!p) { x = 5; _exit(3); } printf("  shared %d\n", x); int s; waitpid(p, &s, 0); show_status("vfork", s);
    p = vfork(); if (!p) { execl("/nonexistent", "x", (char *)0); x = errno; _exit(4); } printf("  errno %s\n", strerror(x)); waitpid(p, &s, 0); show_status("vfork", s);
    char *a[] = {"sh", "-c", "exit 7", 0}; int r = posix_spawn(&p, "/bin/sh", 0, 0, a, environ); printf("  spawn %d\n", r); waitpid(p, &s, 0); show_status("spawn", s);
    r = posix_spawn(&p, "/nonexistent", 0, 0, a, environ); printf("  spawn: %s\n", strerror(r)); SHOW(waitpid(-1, &s, 0));
    posix_spawn_file_actions_t fa; posix_spawn_file_actions_init(&fa); posix_spawn_file_actions_addopen(&fa, 1, "spawned", O_CREAT | O_WRONLY | O_TRUNC, 0644); posix_spawn_file_actions_adddup2(&fa, 1, 2);
    posix_spawnattr_t at; posix_spawnattr_init(&at); posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK); sigset_t m; sigemptyset(&m); posix_spawnattr_setsigmask(&at, &m);
    char *b[] = {"sh", "-c", "echo out; echo err >&2", 0}; r = posix_spawnp(&p, "sh", &fa, &at, b, environ); waitpid(p, &s, 0); show_status("actions", s);
    char buf[64]; int f = open("spawned", O_RDONLY); int n = read(f, buf, 64); printf("  %.*s", n, buf); unlink("spawned");
}
static void groups(void) {
    SHOW(setpgid(0x7ffffff, 0)); SHOW(setpgid(-1, 0)); SHOW(setpgid(0, -1)); SHOW(getpgid(0x7ffffff)); SHOW(getsid(0x7ffffff));
    printf("  leader %d\n", getpgrp() == getpid()); SHOWOK(setsid());
    int p[2]; pipe(p); char c;
    pid_t k = fork(); if (!k) { SHOWOK(setsid()); SHOWOK(setsid()); printf("  sid %d pgrp %d\n", getsid(0) == getpid(), getpgrp() == getpid()); SHOW(setpgid(0, 0)); write(p[1], "x", 1); pause(); _exit(0); }
    read(p[0], &c, 1); SHOW(setpgid(k, 0)); SHOW(setpgid(0, k)); kill(k, SIGKILL); waitpid(k, 0, 0);
    k = fork(); if (!k) { char *a[] = {"sh", "-c", "read x", 0}; dup2(p[0], 0); execv("/bin/sh", a); _exit(9); } ms(200); SHOW(setpgid(k, k)); write(p[1], "\n", 1); waitpid(k, 0, 0);
    SHOW(tcgetpgrp(p[0])); SHOW(open("/dev/tty", O_RDWR) < 0 ? 0 : 0);
}
static void *sleeper(void *a) { ms(3000); return a; }
static void *execer(void *a) { char *v[] = {"sh", "-c", "exit 21", 0}; execv("/bin/sh", v); return a; }
static void *exiter(void *a) { _exit(22); }
static void *texit(void *a) { ms(50); _exit(23); }
static void te(void) { pthread_t t; pthread_create(&t, 0, sleeper, 0); pthread_create(&t, 0, execer, 0); ms(3000); }
static void tx(void) { pthread_t t; pthread_create(&t, 0, sleeper, 0); pthread_create(&t, 0, exiter, 0); ms(3000); }
static void tl(void) { pthread_t t; pthread_create(&t, 0, texit, 0); syscall(SYS_exit, 5); }
static void tk(void) { pthread_t t; for (int i = 0; i < 20; i++) pthread_create(&t, 0, sleeper, 0); raise(SIGTERM); }
static void threads(void) { in_child("exec from a thread", te); in_child("exit from a thread", tx); in_child("leader ends first", tl); in_child("signal kills all", tk); }
static int script(const char *n, const char *text, int mode) { int f = open(n, O_CREAT | O_WRONLY | O_TRUNC, 0700); write(f, text, strlen(text)); close(f); chmod(n, mode); return 0; }
static void run(const char *what, char **argv, char **envp) { pid_t p = fork(); if (!p) { execve(argv[0], argv, envp); printf("  %s: %s\n", what, strerror(errno)); fflush(stdout); _exit(99); } int s; waitpid(p, &s, 0); show_status(what, s); }
#define RUN(...) do { char *a_[] = {__VA_ARGS__, 0}; run(a_[0], a_, environ); } while (0)
static int copy_self(void) { int f = open("/proc/self/exe", O_RDONLY), o = open("copy", O_CREAT | O_RDWR | O_TRUNC, 0755); char buf[65536]; int n; while ((n = read(f, buf, sizeof buf)) > 0) write(o, buf, n); close(f); return o; }
static void busy(void) { int o = copy_self(); RUN("./copy", "child"); close(o); RUN("./copy", "child"); RUN("./copy", "busy"); }
static void cpu_limit(void) { int s; pid_t k = fork(); if (!k) { struct rlimit q = {1, 3}, cc = {0, 0}; setrlimit(RLIMIT_CORE, &cc); setrlimit(RLIMIT_CPU, &q); for (;;); } waitpid(k, &s, 0); show_status("over CPU", s); }
static void execs(void) {
    script("s1", "#!/bin/sh\necho \"$#:$1:$2\"\nexit 4\n", 0755); RUN("./s1", "a", "b c");
    script("s2", "#!/bin/echo one two  three \nx\n", 0755); RUN("./s2", "arg");
    script("s3", "#! \t /bin/echo\n", 0755); RUN("./s3", "arg"); script("s4", "#!\n", 0755); RUN("./s4"); script("s5", "#!/nonexistent\n", 0755); RUN("./s5");
    script("s6", "echo no magic\n", 0755); RUN("./s6"); script("s7", "", 0755); RUN("./s7"); script("s8", "#!/bin/sh\n", 0644); RUN("./s8"); script("s9", "#!./s1 x\n", 0755); RUN("./s9", "y");
    script("s10", "#!./s10\n", 0755); RUN("./s10"); script("s11", "\177ELF broken file, too short to be one", 0755); RUN("./s11"); script("s12", "#!/bin/echo nonewline", 0755); RUN("./s12");
    mkdir("d", 0755); RUN("./d"); RUN("./nonexistent"); RUN("./s1/x"); RUN(""); symlink("s1", "l"); RUN("./l", "via link"); symlink("loop", "loop"); RUN("./loop");
    char big[400]; memset(big, 'x', 399); big[399] = 0; char text[600]; sprintf(text, "#!/bin/%s\n", big); script("s13", text, 0755); RUN("./s13");
    close(copy_self());
    char *none[] = {0}; pid_t p = fork(); if (!p) { execve("./copy", none, none); _exit(98); } int s; waitpid(p, &s, 0); show_status("no arguments", s);
    int fd = open("copy", O_RDONLY); char *c[] = {"zz", "child", 0}; p = fork(); if (!p) { syscall(SYS_execveat, fd, "", c, environ, AT_EMPTY_PATH); _exit(97); } waitpid(p, &s, 0); show_status("execveat", s);
    p = fork(); if (!p) { syscall(SYS_execveat, AT_FDCWD, "l", c, environ, AT_SYMLINK_NOFOLLOW); printf("  %s\n", strerror(errno)); fflush(stdout); _exit(97); } waitpid(p, &s, 0); show_status("execveat nofollow", s);
}
static void arguments(void) {
    char *big = malloc(200000); memset(big, 'a', 199999); big[199999] = 0; RUN("/bin/true", big); big[131071] = 0; RUN("/bin/true", big); big[131070] = 0; RUN("/bin/true", big);
    char **many = malloc(sizeof *many * 40000); many[0] = "/bin/true"; for (int i = 1; i < 20000; i++) many[i] = "argument of some length"; many[20000] = 0; run("many", many, environ);
    for (int i = 1; i < 30; i++) many[i] = big; many[30] = 0; run("much", many, environ);
    SHOW(syscall(SYS_execve, "/bin/true", (char **)1, 0)); char *bad[] = {"/bin/true", (char *)16, 0}; SHOW(execve("/bin/true", bad, environ)); SHOW(execve((char *)16, bad, environ));
    char *e[] = {"A=1", "B=two", "noequals", 0}; char *a[] = {"/proc/self/exe", "environment", 0}; run("environment", a, e);
}
static void across(void) {
    int a = open("/dev/null", O_RDONLY | O_CLOEXEC), b = open("/dev/null", O_RDONLY); int c = dup(a), d = fcntl(b, F_DUPFD_CLOEXEC, 40), e = dup3(b, 50, O_CLOEXEC); SHOW(fcntl(a, F_GETFD)); SHOW(fcntl(c, F_GETFD)); SHOW(fcntl(d, F_GETFD)); SHOW(fcntl(e, F_GETFD)); SHOW(dup3(b, b, 0)); SHOW(dup2(b, b) == b); SHOW(dup3(b, 60, 5)); SHOW(dup2(99, 3)); SHOW(dup2(b, -1)); SHOW(dup2(b, 1 << 20 << 5));
    char t[5][8]; sprintf(t[0], "%d", a); sprintf(t[1], "%d", b); sprintf(t[2], "%d", c); sprintf(t[3], "%d", d); sprintf(t[4], "%d", e);
    signal(SIGUSR1, exit); signal(SIGUSR2, SIG_IGN); sigset_t m; sigemptyset(&m); sigaddset(&m, SIGHUP); sigprocmask(SIG_SETMASK, &m, 0); raise(SIGHUP); umask(027); alarm(50); chdir("/tmp");
    RUN("/proc/self/exe", "across", t[0], t[1], t[2], t[3], t[4]);
    char *v[] = {"x", "across", t[0], t[1], t[2], t[3], t[4], 0}; execv("/proc/self/exe", v);
}
static void limits(void) {
    struct rlimit r, old; SHOW(getrlimit(99, &r)); r = (struct rlimit){10, 5}; SHOW(setrlimit(RLIMIT_NOFILE, &r)); getrlimit(RLIMIT_NOFILE, &old);
    r = (struct rlimit){8, old.rlim_max}; SHOW(setrlimit(RLIMIT_NOFILE, &r)); int n = 0, f; while ((f = open("/dev/null", O_RDONLY)) >= 0) n = f; printf("  last %d %s\n", n, strerror(errno)); SHOW(dup(0)); SHOW(dup2(0, 8)); SHOW(fcntl(0, F_DUPFD, 8)); SHOW(fcntl(0, F_DUPFD, 7)); int p[2]; SHOW(pipe(p)); SHOW(eventfd(0, 0)); SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, p)); SHOW(epoll_create1(0)); setrlimit(RLIMIT_NOFILE, &old); for (int i = 3; i < 8; i++) close(i);
    signal(SIGXFSZ, SIG_IGN); r = (struct rlimit){1000, RLIM_INFINITY}; setrlimit(RLIMIT_FSIZE, &r); f = open("limited", O_CREAT | O_RDWR | O_TRUNC, 0644); char b[600]; SHOW(write(f, b, 600)); SHOW(write(f, b, 600)); SHOW(write(f, b, 600)); SHOW(pwrite(f, b, 10, 2000)); SHOW(ftruncate(f, 5000)); SHOW(ftruncate(f, 900));
    pid_t k = fork(); if (!k) { struct rlimit c = {0, 0}; setrlimit(RLIMIT_CORE, &c); signal(SIGXFSZ, SIG_DFL); write(f, b, 600); write(f, b, 600); _exit(0); } int s; waitpid(k, &s, 0); show_status("over FSIZE", s);
    r.rlim_cur = RLIM_INFINITY; setrlimit(RLIMIT_FSIZE, &r); unlink("limited");
    k = fork(); if (!k) { struct rlimit q = {1, 1}; setrlimit(RLIMIT_NPROC, &q); setresuid(54321, 54321, 54321); pid_t z = fork(); printf("  fork as user: %s\n", z == -1 ? strerror(errno) : "made"); fflush(stdout); if (z == 0) _exit(0); struct rlimit up = {1, 2}; SHOW(setrlimit(RLIMIT_NPROC, &up)); _exit(0); } waitpid(k, &s, 0);
    k = fork(); if (!k) { struct rlimit q = {64 << 20, 64 << 20}; setrlimit(RLIMIT_AS, &q); SHOWOK(mmap(0, 100 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); SHOWOK(mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); _exit(0); } waitpid(k, &s, 0);
    k = fork(); if (!k) { struct rlimit q = {0, 0}; setrlimit(RLIMIT_DATA, &q); void *now = sbrk(0); printf("  brk %s\n", sbrk(1 << 20) == (void *)-1 ? strerror(errno) : "grown"); fflush(stdout); _exit(0); } waitpid(k, &s, 0);
}
static void credentials(void) {
    pid_t k = fork(); int s; if (k) { waitpid(k, &s, 0); return; }
    gid_t g[3] = {10, 20, 30}; SHOW(setgroups(3, g)); gid_t got[10]; SHOW(getgroups(10, got)); SHOW(getgroups(1, got)); SHOW(getgroups(0, 0)); SHOW(setresgid(100, 101, 102)); SHOW(setresuid(1000, 1001, 0)); printf("  %d %d %d %d\n", getuid(), geteuid(), getgid(), getegid());
    SHOW(setuid(5)); SHOW(seteuid(1000)); SHOW(seteuid(0)); SHOW(setuid(1000)); SHOW(seteuid(0)); SHOW(setreuid(-1, 7)); SHOW(setgroups(1, g)); SHOW(setgid(5)); SHOW(kill(1, 0)); SHOW(nice(-5)); SHOW(setpriority(PRIO_PROCESS, 0, -10)); SHOW(setpriority(PRIO_PROCESS, 1, 5)); SHOW(chroot("/")); SHOW(sethostname("x", 1)); SHOW(mknod("/tmp/conform.dev", S_IFCHR | 0600, 0x103)); SHOW(syscall(SYS_mount, "a", "/tmp", "tmpfs", 0, 0)); SHOW(syscall(SYS_settimeofday, &(struct timeval){1, 1}, 0)); SHOW(syscall(SYS_reboot, 1, 2, 3, 4)); SHOW(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1}));
    fflush(stdout); _exit(0);
}
static void clones(void) {
    SHOW(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, 0, 0, 0, 0)); SHOW(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0)); SHOW(syscall(SYS_clone, CLONE_FS | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0));
    int x = 0; pid_t p = syscall(SYS_clone, CLONE_FILES | CLONE_FS | SIGCHLD, 0, 0, 0, 0); if (!p) { close(0); chdir("/"); _exit(0); } waitpid(p, 0, 0); SHOW(fcntl(0, F_GETFD)); char b[100]; getcwd(b, 100); printf("  %s\n", b);
    p = syscall(SYS_clone, 0, 0, 0, 0, 0); if (!p) _exit(3); int s; SHOW(waitpid(p, &s, 0)); SHOW(waitpid(p, &s, __WALL) == p); p = syscall(SYS_clone, SIGUSR2, 0, 0, 0, 0); if (!p) _exit(3); signal(SIGUSR2, SIG_IGN); SHOW(waitpid(p, &s, __WCLONE) == p);
}
int main(int argc, char **argv) {
    if (argc == 0 || !argv[0][0]) return 30 + argc;
    if (argc > 1) { setvbuf(stdout, 0, _IOLBF, 4096);
        if (!strcmp(argv[1], "child")) { printf("  child argc %d\n", argc); return 12; }
        if (!strcmp(argv[1], "busy")) { printf("  running program: %s\n", open("copy", O_WRONLY) < 0 ? strerror(errno) : "opened"); printf("  truncate: %s\n", truncate("copy", 0) < 0 ? strerror(errno) : "done"); return 0; }
        if (!strcmp(argv[1], "environment")) { for (char **e = environ; *e; e++) printf("  %s\n", *e); return 0; }
        if (!strcmp(argv[1], "across")) { for (int i = 2; i < argc; i++) printf("  %d: %d\n", i, fcntl(atoi(argv[i]), F_GETFD)); struct sigaction a; sigaction(SIGUSR1, 0, &a); printf("  usr1 default %d\n", a.sa_handler == SIG_DFL); sigaction(SIGUSR2, 0, &a); printf("  usr2 ignored %d\n", a.sa_handler == SIG_IGN);
            sigset_t m; sigprocmask(0, 0, &m); printf("  hup blocked %d\n", sigismember(&m, SIGHUP)); sigpending(&m); printf("  hup pending %d\n", sigismember(&m, SIGHUP)); printf("  umask %o alarm %d\n", umask(0), alarm(0) > 0); char b[100]; printf("  %s\n", getcwd(b, 100)); return 0; }
    }
    SECTION(statuses); SECTION(orphans); SECTION(vforks); SECTION(groups); SECTION(threads); SECTION(execs); SECTION(arguments); SECTION(across); SECTION(limits); SECTION(busy); SECTION(cpu_limit); SECTION(credentials); SECTION(clones);
    return 0;
}
