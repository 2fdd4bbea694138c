/* Terminals: line discipline, job control, hang-up, on pseudo-terminals. */
#include "conform.h"
#include <termios.h>
static int M, S;
static struct termios cooked;

static void open_pair(void) {
    M = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(M); unlockpt(M);
    S = open(ptsname(M), O_RDWR | O_NOCTTY | O_NONBLOCK);
    tcgetattr(S, &cooked);
}
/* Starts afresh with the settings of a new terminal, changed. */
static void with(int iset, int iclear, int oset, int oclear, int lset, int lclear) {
    struct termios t = cooked;
    t.c_iflag = (t.c_iflag | iset) & ~iclear; t.c_oflag = (t.c_oflag | oset) & ~oclear; t.c_lflag = (t.c_lflag | lset) & ~lclear;
    tcflush(S, TCIOFLUSH); tcsetattr(S, TCSANOW, &t);
}
static void text(const char *what, const char *b, int n) {
    printf("  %s: ", what);
    if (n < 0) { printf("%s\n", strerror(errno)); return; }
    if (n > 200) { printf("%d bytes, last %02x\n", n, b[n - 1] & 255); return; }
    printf("%d \"", n);
    for (int i = 0; i < n; i++) if (b[i] >= 32 && b[i] < 127) putchar(b[i]); else printf("\\%02x", b[i] & 255);
    printf("\"\n");
}
static char buf[20000];
/* What the master's reader finds until nothing more comes. */
static void shown(const char *what) {
    int n = 0; struct pollfd p = {M, POLLIN, 0};
    while (poll(&p, 1, 30) == 1 && p.revents & POLLIN) { int r = read(M, buf + n, sizeof buf - n); if (r <= 0) break; n += r; }
    text(what, buf, n);
}
/* What a program on the terminal reads, one line for each read. */
static void got(const char *what) {
    ms(20);
    for (int i = 0; i < 9; i++) { int n = read(S, buf, sizeof buf); int e = errno; errno = e; text(what, buf, n); if (n < 0 || (n == 0 && i > 1)) break; }
}
static void types(const char *s, int n) { int r = write(M, s, n); if (r != n) printf("  typed %d of %d\n", r, n); }
#define TYPE(s) do { printf(" <" #s ">\n"); types(s, sizeof s - 1); ms(10); } while (0)

static void fresh(void) {
    open_pair();
    printf("  i %x o %x c %x l %x\n", cooked.c_iflag, cooked.c_oflag, cooked.c_cflag, cooked.c_lflag);
    for (int i = 0; i < 19; i++) printf("  cc %d %d\n", i, cooked.c_cc[i]);
    struct winsize w = {9, 9, 9, 9}; SHOW(ioctl(S, TIOCGWINSZ, &w)); printf("  %d %d %d %d\n", w.ws_row, w.ws_col, w.ws_xpixel, w.ws_ypixel);
    printf("  speeds %x %x isatty %d %d\n", (int)cfgetispeed(&cooked), (int)cfgetospeed(&cooked), isatty(M), isatty(S));
}
static void lines(void) {
    open_pair();
    TYPE("one\ntwo\nthr"); shown("echo"); got("read"); TYPE("ee\n"); got("rest");
    TYPE("ab\177c\n"); shown("erase"); got("erase"); TYPE("\177\177x\n"); shown("erase nothing"); got("erase nothing");
    TYPE("one two  \027z\n"); shown("word"); got("word"); TYPE("a-b_c.d\027\n"); shown("word"); got("word"); TYPE("abc\025d\n"); shown("kill"); got("kill");
    TYPE("a\026\003b\026\nc\n"); shown("literal"); got("literal"); TYPE("ab\022c\n"); shown("reprint"); got("reprint");
    TYPE("\004"); got("eof"); TYPE("mid\004"); got("eof in the middle"); TYPE("mid\004dle\n\004"); got("eof"); TYPE("x\n\004\004y\n"); got("eofs");
    TYPE("a\tb\177\177\177z\n"); shown("tab"); got("tab"); TYPE("\001\002\033\177\177\n"); shown("controls"); got("controls"); TYPE("\303\244\177x\n"); shown("utf8 off"); got("utf8 off");
    with(IUTF8, 0, 0, 0, 0, 0); TYPE("a\303\244\177x\n"); shown("utf8"); got("utf8"); TYPE("\303\244\303\266 \303\244\027x\n"); shown("utf8 word"); got("utf8 word");
    struct termios t = cooked; t.c_cc[VEOL] = ';'; t.c_cc[VEOL2] = '!'; tcsetattr(S, TCSANOW, &t); TYPE("a;b!c\n"); shown("eol"); got("eol");
    t.c_lflag &= ~IEXTEN; tcsetattr(S, TCSANOW, &t); TYPE("a!b\027c\026d\n"); shown("no iexten"); got("no iexten");
    t = cooked; t.c_cc[VERASE] = 0; t.c_cc[VINTR] = 0; tcsetattr(S, TCSANOW, &t); TYPE("a\177\003b\n"); shown("disabled"); got("disabled");
    char few[3]; tcsetattr(S, TCSANOW, &cooked); TYPE("abcdefg\nh\n"); ms(20); for (int i = 0; i < 5; i++) { int n = read(S, few, 3); text("piece", few, n); }
    TYPE("abc\n"); ms(20); SHOW(read(S, few, 0)); SHOW(read(S, few, 3)); SHOW(read(S, few, 3)); TYPE("abc\004\n"); ms(20); SHOW(read(S, few, 3)); SHOW(read(S, few, 3)); SHOW(read(S, few, 3));
    int n; TYPE("abc\nde"); ms(20); SHOW(ioctl(S, FIONREAD, &n)); printf("  %d\n", n); SHOW(ioctl(M, FIONREAD, &n)); shown("echo"); SHOW(ioctl(S, TIOCOUTQ, &n)); printf("  %d\n", n); got("line"); TYPE("\004"); got("rest");
}
static void echoes(void) {
    open_pair();
    with(0, 0, 0, 0, 0, ECHO); TYPE("a\177b\025c\n"); shown("no echo"); got("no echo"); with(0, 0, 0, 0, ECHONL, ECHO); TYPE("a\n"); shown("echonl"); got("echonl");
    with(0, 0, 0, 0, 0, ECHOE); TYPE("ab\177\177c d\027e\025f\n"); shown("no echoe"); got("no echoe"); with(0, 0, 0, 0, 0, ECHOK); TYPE("ab\025c\n"); shown("no echok"); got("no echok");
    with(0, 0, 0, 0, 0, ECHOKE); TYPE("ab\025c\n"); shown("no echoke"); got("no echoke"); with(0, 0, 0, 0, 0, ECHOCTL); TYPE("a\001b\t\033\177\177c\n"); shown("no echoctl"); got("no echoctl");
    with(0, 0, 0, 0, ECHOPRT, 0); TYPE("abc\177\177d\177\n"); shown("echoprt"); got("echoprt"); with(0, 0, 0, OPOST, 0, 0); TYPE("ab\n"); shown("no opost"); got("no opost");
    with(0, 0, 0, 0, 0, ICANON); TYPE("a\177\025\n\r\004"); shown("raw echo"); got("raw echo"); with(0, 0, 0, 0, 0, ECHOE | ECHOCTL); TYPE("ab\177c\003\n"); shown("plain"); got("plain");
    with(0, 0, 0, 0, NOFLSH, 0); TYPE("ab\003c\n"); shown("noflsh"); got("noflsh"); with(0, 0, 0, 0, 0, 0); TYPE("ab\003c\034d\032e\n"); shown("signals"); got("signals"); with(0, 0, 0, 0, 0, ISIG); TYPE("ab\003\n"); shown("no isig"); got("no isig");
}
static void inputs(void) {
    open_pair();
    struct { const char *what; int set, clear; } f[] = {{"default", 0, 0}, {"igncr", IGNCR, 0}, {"no icrnl", 0, ICRNL}, {"inlcr", INLCR, 0}, {"inlcr only", INLCR, ICRNL}, {"istrip", ISTRIP, 0}, {"iuclc", IUCLC, 0}, {"parmrk", PARMRK, 0}, {"parmrk istrip", PARMRK | ISTRIP, 0}, {"imaxbel", IMAXBEL, 0}, {"no ixon", 0, IXON}};
    for (unsigned i = 0; i < sizeof f / sizeof *f; i++) for (int raw = 0; raw < 2; raw++) { with(f[i].set, f[i].clear, 0, 0, 0, raw ? ICANON : 0); types("Ab\rc\nD\377\342\021\n", 10); shown(f[i].what); got(f[i].what); }
    with(IUCLC, 0, 0, 0, 0, IEXTEN); types("AB\n", 3); got("iuclc without iexten");
}
static void outputs(void) {
    open_pair();
    struct { const char *what; int set, clear; } f[] = {{"default", 0, 0}, {"no opost", 0, OPOST}, {"no onlcr", 0, ONLCR}, {"ocrnl", OCRNL, 0}, {"onocr", ONOCR, 0}, {"onlret", ONLRET, ONLCR}, {"onlret", ONLRET, 0}, {"olcuc", OLCUC, 0}, {"xtabs", TABDLY, 0}, {"tab1", TAB1, 0}};
    for (unsigned i = 0; i < sizeof f / sizeof *f; i++) { with(0, 0, f[i].set, f[i].clear, 0, 0); printf("  %zd\n", write(S, "\rab\tc\n\rdE\r\n\t\bx\n", 17)); shown(f[i].what); }
    with(0, 0, TABDLY, 0, 0, 0); TYPE("a\tb\n"); shown("xtabs echo");
}
static void raw_reads(void) {
    open_pair(); fcntl(S, F_SETFL, 0);
    struct { int min, time; const char *in; int later; } c[] = {{0, 0, "", 0}, {0, 0, "ab", 0}, {0, 2, "", 0}, {0, 2, "a", 0}, {0, 5, "", 1}, {1, 0, "abc", 0}, {3, 0, "ab", 1}, {3, 2, "a", 0}, {3, 2, "ab", 1}, {5, 0, "abcde", 0}, {2, 1, "abc", 0}, {10, 0, "abcd", 0}};
    for (unsigned i = 0; i < sizeof c / sizeof *c; i++) {
        struct termios t = cooked; t.c_lflag &= ~(ICANON | ECHO); t.c_cc[VMIN] = c[i].min; t.c_cc[VTIME] = c[i].time; tcflush(S, TCIFLUSH); tcsetattr(S, TCSANOW, &t);
        types(c[i].in, strlen(c[i].in)); ms(20); pid_t k = 0; if (c[i].later) { k = fork(); if (!k) { ms(100); write(M, "z", 1); _exit(0); } }
        long start = now_ms(); int n = read(S, buf, 4); long took = now_ms() - start; printf("  min %d time %d: ", c[i].min, c[i].time); text("read", buf, n); printf("  took %s\n", took < 60 ? "none" : took < 170 ? "0.1" : took < 280 ? "0.2" : took < 450 ? "0.3" : "more"); if (k) waitpid(k, 0, 0);
    }
    struct termios t = cooked; t.c_lflag &= ~(ICANON | ECHO); t.c_cc[VMIN] = 3; t.c_cc[VTIME] = 0; tcsetattr(S, TCSAFLUSH, &t); struct pollfd p = {S, POLLIN, 0};
    types("ab", 2); SHOW(poll(&p, 1, 30)); types("c", 1); SHOW(poll(&p, 1, 100)); printf("  revents %x\n", p.revents); fcntl(S, F_SETFL, O_NONBLOCK); SHOW(read(S, buf, 9)); SHOW(read(S, buf, 9)); types("a", 1); ms(20); SHOW(read(S, buf, 9)); t.c_cc[VTIME] = 1; tcsetattr(S, TCSANOW, &t); types("a", 1); SHOW(poll(&p, 1, 50)); t.c_cc[VMIN] = 0; tcsetattr(S, TCSAFLUSH, &t); SHOW(poll(&p, 1, 50)); SHOW(read(S, buf, 9));
}
static void limits(void) {
    open_pair(); char *big = malloc(9000); memset(big, 'x', 9000);
    with(0, 0, 0, 0, 0, ECHO); for (int i = 0; i < 5000; i += 500) types(big, 500); types("\n", 1); got("overlong line"); types("ok\n", 3); got("next");
    with(0, 0, 0, 0, 0, ECHO); for (int i = 0; i < 4000; i += 500) types(big, 500); types("\n", 1); for (int i = 0; i < 200; i += 50) types(big, 50); types("\n", 1); got("two lines"); 
    with(0, 0, 0, 0, 0, ECHO | ICANON); for (int i = 0; i < 4000; i += 500) types(big, 500); ms(20); int n = read(S, buf, sizeof buf); text("raw", buf, n);
}
static void modes(void) {
    open_pair(); struct termios raw = cooked; raw.c_lflag &= ~(ICANON | ECHO);
    TYPE("abc"); ms(20); tcsetattr(S, TCSANOW, &raw); got("edit to raw"); tcsetattr(S, TCSANOW, &cooked); TYPE("one\ntwo\nthree"); ms(20); tcsetattr(S, TCSANOW, &raw); got("lines to raw");
    TYPE("abc"); ms(20); tcsetattr(S, TCSANOW, &cooked); got("raw to lines"); TYPE("de\n"); got("then"); tcsetattr(S, TCSANOW, &raw); TYPE("ab\ncd"); ms(20); tcsetattr(S, TCSANOW, &cooked); got("raw line to lines"); TYPE("\n"); got("then");
    tcsetattr(S, TCSANOW, &cooked); TYPE("abc\n"); ms(20); tcsetattr(S, TCSAFLUSH, &cooked); got("flushed");
    SHOW(tcflush(S, 9)); SHOW(tcflow(S, 9)); SHOW(tcsendbreak(S, 0)); SHOW(tcdrain(S)); SHOW(tcdrain(M)); struct termios t = cooked; t.c_cflag = 0; SHOW(tcsetattr(S, TCSANOW, &t)); tcgetattr(S, &t); printf("  cflag %x\n", t.c_cflag); t.c_cflag = B9600 | CS7 | PARENB | CSTOPB; tcsetattr(S, TCSANOW, &t); tcgetattr(S, &t); printf("  cflag %x\n", t.c_cflag);
}
static void flow(void) {
    open_pair();
    TYPE("\023"); SHOW(write(S, "held", 4)); struct pollfd p = {S, POLLOUT, 0}; SHOW(poll(&p, 1, 20)); shown("stopped"); TYPE("x"); shown("echo while stopped"); TYPE("\021"); shown("started"); SHOW(poll(&p, 1, 20)); SHOW(write(S, "held", 4)); shown("started"); TYPE("\n"); got("read");
    shown("nl"); with(IXANY, 0, 0, 0, 0, 0); TYPE("\023"); SHOW(write(S, "held", 4)); TYPE("a"); SHOW(write(S, "go", 2)); shown("any"); TYPE("\n"); shown("nl"); got("any");
    with(0, 0, 0, 0, 0, 0); SHOW(tcflow(S, TCOOFF)); SHOW(write(S, "held", 4)); shown("off"); TYPE("\021"); SHOW(write(S, "q", 1)); SHOW(tcflow(S, TCOON)); SHOW(write(S, "on", 2)); shown("on"); SHOW(tcflow(S, TCIOFF)); shown("ioff"); SHOW(tcflow(S, TCION)); shown("ion");
    TYPE("\023"); SHOW(write(S, "x", 1)); TYPE("\003"); SHOW(write(S, "after", 5)); shown("signal"); with(0, IXON, 0, 0, 0, 0); TYPE("a\023\021b\n"); shown("no ixon"); got("no ixon");
    tcsetattr(S, TCSANOW, &cooked); TYPE("\023"); ms(20); with(0, IXON, 0, 0, 0, 0); SHOW(write(S, "free", 4)); shown("ixon off");
}
/* Runs f as the leader of a session on the terminal; prints how it ended. */
static void session(const char *what, void (*f)(void)) {
    fflush(stdout); pid_t p = fork();
    if (!p) { setsid(); ioctl(S, TIOCSCTTY, 0); fcntl(S, F_SETFL, 0); f(); fflush(stdout); _exit(0); }
    int s; waitpid(p, &s, 0); show_status(what, s);
}
static volatile int caught[65]; static void note(int s) { caught[s]++; }
static void catches(int s, int flags) { struct sigaction a = {0}; a.sa_handler = note; a.sa_flags = flags; sigaction(s, &a, 0); }
static void ctty(void) {
    printf("  sid %d pgrp %d\n", tcgetsid(S) == getpid(), tcgetpgrp(S) == getpid()); SHOW(ioctl(S, TIOCSCTTY, 0)); int t = open("/dev/tty", O_RDWR); printf("  /dev/tty %d\n", t > 0); SHOW(tcgetpgrp(t) == getpid()); 
    int g = 0; SHOW(ioctl(M, TIOCGPGRP, &g)); printf("  master says %d\n", g == getpid()); SHOW(ioctl(M, TIOCGSID, &g)); printf("  sid %d\n", g == getpid()); SHOW(tcsetpgrp(S, 0x7fffff)); SHOW(tcsetpgrp(S, -5)); SHOW(tcsetpgrp(S, getppid())); SHOW(tcsetpgrp(M, getpid()));
    pid_t k = fork(); if (!k) { setsid(); SHOW(open("/dev/tty", O_RDWR)); SHOW(tcgetpgrp(S)); SHOW(tcgetsid(S)); SHOW(ioctl(S, TIOCSCTTY, 0)); SHOW(tcsetpgrp(S, getpid())); SHOW(ioctl(S, TIOCNOTTY)); _exit(0); } waitpid(k, 0, 0);
    k = fork(); if (!k) { SHOW(ioctl(S, TIOCSCTTY, 0)); SHOW(ioctl(S, TIOCNOTTY)); SHOW(open("/dev/tty", O_RDWR)); SHOW(tcgetpgrp(S)); SHOW(ioctl(S, TIOCNOTTY)); _exit(0); } waitpid(k, 0, 0);
    printf("  still mine %d\n", tcgetpgrp(S) == getpid()); catches(SIGHUP, 0); catches(SIGCONT, 0); SHOW(ioctl(S, TIOCNOTTY)); printf("  hup %d cont %d\n", caught[SIGHUP], caught[SIGCONT]); SHOW(open("/dev/tty", O_RDWR)); SHOW(tcgetpgrp(S)); SHOW(ioctl(S, TIOCNOTTY)); SHOW(ioctl(S, TIOCSCTTY, 0)); printf("  again %d\n", tcgetpgrp(S) == getpid());
}
static void steal(void) {
    pid_t k = fork(); if (!k) { setsid(); int n = open(ptsname(M), O_RDWR); printf("  opened %d\n", n > 0); SHOW(tcgetpgrp(n)); SHOW(ioctl(n, TIOCSCTTY, 0)); SHOW(ioctl(n, TIOCSCTTY, 1)); printf("  mine %d\n", tcgetpgrp(n) == getpid()); _exit(0); } int s; waitpid(k, &s, 0); show_status("thief", s); SHOW(tcgetpgrp(S)); SHOW(open("/dev/tty", O_RDWR)); 
}
static void opens(void) {
    char *name = ptsname(M); pid_t k = fork(); if (!k) { setsid(); int n = open(name, O_RDWR | O_NOCTTY); printf("  noctty "); SHOW(tcgetpgrp(n)); close(n); n = open(name, O_WRONLY); printf("  write only "); SHOW(tcgetpgrp(n)); close(n); n = open(name, O_RDWR); printf("  taken %d\n", tcgetpgrp(n) == getpid()); _exit(0); } int s; waitpid(k, &s, 0); show_status("leader", s);
    k = fork(); if (!k) { int n = open(name, O_RDWR); SHOW(tcgetpgrp(n)); SHOW(ioctl(n, TIOCSCTTY, 0)); _exit(0); } waitpid(k, &s, 0);
}
static void controlling(void) { open_pair(); SHOW(tcgetpgrp(S)); SHOW(tcgetsid(S)); int g; SHOW(ioctl(M, TIOCGPGRP, &g)); SHOW(ioctl(M, TIOCGSID, &g)); session("ctty", ctty); session("steal", steal); opens(); }
static void bg(void (*f)(void)) { fflush(stdout); pid_t p = fork(); if (!p) { setpgid(0, 0); f(); fflush(stdout); _exit(0); } setpgid(p, p); int s; for (int i = 0; i < 3; i++) { waitpid(p, &s, WUNTRACED); show_status("background", s); if (!WIFSTOPPED(s)) return; if (i == 0) { tcsetpgrp(S, p); kill(-p, SIGCONT); } else kill(-p, SIGKILL); } }
static void reads(void) { text("read", buf, read(S, buf, 9)); } static void writes(void) { SHOW(write(S, "w", 1)); } static void sets(void) { SHOW(tcsetattr(S, TCSANOW, &cooked)); } static void setpg(void) { SHOW(tcsetpgrp(S, getpgrp())); } static void flushes(void) { SHOW(tcflush(S, TCIFLUSH)); } static void size(void) { struct winsize w = {1, 2, 3, 4}; SHOW(ioctl(S, TIOCSWINSZ, &w)); }
static void reads_ign(void) { signal(SIGTTIN, SIG_IGN); reads(); } static void reads_blk(void) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGTTIN); sigprocmask(SIG_BLOCK, &s, 0); reads(); } static void reads_caught(void) { catches(SIGTTIN, 0); reads(); printf("  caught %d\n", caught[SIGTTIN]); } static void reads_ndelay(void) { fcntl(S, F_SETFL, O_NONBLOCK); reads(); fcntl(S, F_SETFL, 0); }
static void writes_ign(void) { signal(SIGTTOU, SIG_IGN); writes(); sets(); setpg(); } static void sets_blk(void) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGTTOU); sigprocmask(SIG_BLOCK, &s, 0); sets(); setpg(); } static void sets_caught(void) { catches(SIGTTOU, 0); SHOW(tcsetattr(S, TCSANOW, &cooked)); printf("  caught %d\n", caught[SIGTTOU] > 0); }
static void orphan_reads(void) { pid_t k = fork(); if (!k) { setpgid(0, 0); pid_t g = fork(); if (!g) { while (getppid() != 1 && getppid() > 2) { static int n; if (n++ > 100) break; ms(2); } ms(20); reads(); SHOW(tcsetattr(S, TCSANOW, &cooked)); SHOW(tcsetpgrp(S, getpgrp())); fflush(stdout); _exit(0); } _exit(0); } waitpid(k, 0, 0); ms(150); }
static void jobs(void) {
    types("input\n", 6); ms(20); bg(reads); signal(SIGTTOU, SIG_IGN); tcsetpgrp(S, getpid()); signal(SIGTTOU, SIG_DFL);
    struct { const char *n; void (*f)(void); } c[] = {{"write", writes}, {"set", sets}, {"pgrp", setpg}, {"flush", flushes}, {"size", size}, {"read ignored", reads_ign}, {"read blocked", reads_blk}, {"read caught", reads_caught}, {"write ignored", writes_ign}, {"set blocked", sets_blk}, {"set caught", 0}};
    for (int i = 0; i < 10; i++) { printf("  -- %s\n", c[i].n); bg(c[i].f); signal(SIGTTOU, SIG_IGN); tcsetpgrp(S, getpid()); signal(SIGTTOU, SIG_DFL); }
    struct termios t = cooked; t.c_lflag |= TOSTOP; tcsetattr(S, TCSANOW, &t); printf("  -- tostop\n"); bg(writes); signal(SIGTTOU, SIG_IGN); tcsetpgrp(S, getpid()); signal(SIGTTOU, SIG_DFL); bg(writes_ign); printf("  -- orphan\n"); signal(SIGTTOU, SIG_IGN); tcsetpgrp(S, getpid()); signal(SIGTTOU, SIG_DFL); orphan_reads();
}
static void job_control(void) { open_pair(); session("jobs", jobs); }
static void keys(void) {
    int sigs[] = {SIGINT, SIGQUIT, SIGTSTP, SIGWINCH, SIGCONT}; for (int i = 0; i < 5; i++) catches(sigs[i], 0);
    int r = open("/dev/null", O_RDONLY); pid_t k = fork(); if (!k) { setpgid(0, 0); for (int i = 0; i < 40; i++) ms(10); for (int i = 0; i < 5; i++) printf("  other group: %d: %d\n", sigs[i], caught[sigs[i]]); fflush(stdout); _exit(0); } setpgid(k, k);
    write(M, "\003", 1); ms(20); write(M, "\034", 1); ms(20); write(M, "\032", 1); ms(20); struct winsize w = {24, 80, 0, 0}; ioctl(M, TIOCSWINSZ, &w); ms(20); ioctl(M, TIOCSWINSZ, &w); ioctl(S, TIOCSWINSZ, &w); ms(20); for (int i = 0; i < 5; i++) printf("  %d: %d\n", sigs[i], caught[sigs[i]]);
    w.ws_row++; ioctl(S, TIOCSWINSZ, &w); ms(20); printf("  winch %d\n", caught[SIGWINCH]); memset(&w, 0, sizeof w); ioctl(M, TIOCGWINSZ, &w); printf("  %d %d\n", w.ws_row, w.ws_col); SHOW(ioctl(M, _IOW('T', 0x36, int), SIGINT)); SHOW(ioctl(M, _IOW('T', 0x36, int), 99)); SHOW(ioctl(S, _IOW('T', 0x36, int), SIGINT)); printf("  by TIOCSIG %d\n", caught[SIGINT]); waitpid(k, 0, 0);
    struct sigaction a = {0}; a.sa_handler = note; sigaction(SIGINT, &a, 0); k = fork(); if (!k) { ms(50); write(M, "\003", 1); _exit(0); } SHOW(read(S, buf, 9)); waitpid(k, 0, 0); a.sa_flags = SA_RESTART; sigaction(SIGINT, &a, 0); k = fork(); if (!k) { ms(50); write(M, "ab\003", 3); ms(20); write(M, "x\n", 2); _exit(0); } text("restarted", buf, read(S, buf, 9)); waitpid(k, 0, 0);
}
static void signal_keys(void) { open_pair(); session("keys", keys); }
static void poll_of(const char *what, int fd) { struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0}; poll(&p, 1, 0); printf("  %s: %x\n", what, p.revents); }
static void after_hangup(void) {
    poll_of("hung up", S); SHOW(read(S, buf, 9)); SHOW(read(S, buf, 9)); SHOW(write(S, "x", 1)); SHOW(tcgetattr(S, &cooked)); struct winsize w; SHOW(ioctl(S, TIOCGWINSZ, &w)); int n; SHOW(ioctl(S, FIONREAD, &n)); SHOW(tcgetpgrp(S)); SHOW(tcsetpgrp(S, getpid())); SHOW(isatty(S)); SHOW(ioctl(S, TIOCSCTTY, 0)); SHOW(ioctl(S, TIOCNOTTY)); SHOW(open("/dev/tty", O_RDWR)); struct stat st; SHOW(fstat(S, &st)); SHOW(fcntl(S, F_GETFL) & O_ACCMODE);
}
static void hangs(void) { catches(SIGHUP, 0); catches(SIGCONT, 0); int fd = M; pid_t k = fork(); if (!k) { setpgid(0, 0); while (!caught[SIGHUP] && caught[0]++ < 90) ms(5); printf("  background: hup %d cont %d\n", caught[SIGHUP], caught[SIGCONT]); fflush(stdout); _exit(0); } setpgid(k, k); pid_t f = fork(); if (!f) { setpgid(0, 0); while (!caught[SIGHUP] && caught[0]++ < 60) ms(5); printf("  foreground: hup %d cont %d\n", caught[SIGHUP], caught[SIGCONT]); fflush(stdout); _exit(0); } setpgid(f, f); tcsetpgrp(S, f); int p[2]; pipe(p);
    printf("  closing\n"); fflush(stdout); kill(getppid(), SIGUSR1); while (!caught[SIGHUP]) ms(5); ms(20); printf("  leader: hup %d cont %d\n", caught[SIGHUP], caught[SIGCONT]); waitpid(k, 0, 0); waitpid(f, 0, 0); after_hangup(); }
static void hang_up(void) {
    open_pair(); catches(SIGUSR1, 0); fflush(stdout); pid_t p = fork(); if (!p) { close(M); setsid(); ioctl(S, TIOCSCTTY, 0); fcntl(S, F_SETFL, 0); hangs(); fflush(stdout); _exit(0); } close(S); while (!caught[SIGUSR1]) ms(5); ms(20); close(M); int s; waitpid(p, &s, 0); show_status("leader", s);
    /* A reader that sleeps. */ open_pair(); int m2 = M; p = fork(); if (!p) { close(M); fcntl(S, F_SETFL, 0); int n = read(S, buf, 9); text("sleeping reader", buf, n); fflush(stdout); _exit(0); } ms(50); close(M); waitpid(p, 0, 0); SHOW(read(S, buf, 9)); SHOW(write(S, "x", 1)); close(S);
    /* Default action. */ open_pair(); p = fork(); if (!p) { close(M); setsid(); ioctl(S, TIOCSCTTY, 0); kill(getppid(), SIGUSR1); for (;;) pause(); } caught[SIGUSR1] = 0; close(S); ms(50); close(M); waitpid(p, &s, 0); show_status("default", s);
    /* The leader's end tells the group in front. */ open_pair(); int q[2]; pipe(q); p = fork(); if (!p) { setsid(); ioctl(S, TIOCSCTTY, 0); catches(SIGHUP, 0); catches(SIGCONT, 0); pid_t f = fork(); if (!f) { setpgid(0, 0); write(q[1], "r", 1); while (!caught[SIGHUP] && caught[0]++ < 60) ms(5); ms(10); printf("  front: hup %d cont %d\n", caught[SIGHUP], caught[SIGCONT]); SHOW(tcgetpgrp(S)); fcntl(S, F_SETFL, O_NONBLOCK); SHOW(read(S, buf, 9)); SHOW(write(S, "x", 1)); fflush(stdout); write(q[1], "e", 1); _exit(0); } setpgid(f, f); tcsetpgrp(S, f); char c; read(q[0], &c, 1); _exit(3); } waitpid(p, &s, 0); char c; read(q[0], &c, 1); shown("master");
}
static void ends(void) {
    open_pair(); SHOW(write(S, "last", 4)); close(S); ms(20); poll_of("closed", M); char b[9]; text("read", b, read(M, b, 9)); SHOW(read(M, b, 9)); S = open(ptsname(M), O_RDWR | O_NOCTTY | O_NONBLOCK); printf("  again %d\n", S > 0); poll_of("open", M); SHOW(write(S, "new", 3)); shown("new"); got("typed meanwhile");
    char name[99]; strcpy(name, ptsname(M)); fcntl(M, F_SETFL, O_NONBLOCK); SHOW(read(M, b, 9)); poll_of("idle", M); poll_of("idle terminal", S); SHOW(write(S, "x", 1)); ms(10); poll_of("one", M); types("a\n", 2); ms(10); poll_of("typed", S); close(S); close(M); SHOW(open(name, O_RDWR | O_NOCTTY)); int lk = 1; M = posix_openpt(O_RDWR | O_NOCTTY); SHOW(open(ptsname(M), O_RDWR | O_NOCTTY)); SHOW(ioctl(M, TIOCGPTLCK, &lk)); printf("  locked %d\n", lk); lk = 0; SHOW(ioctl(M, TIOCSPTLCK, &lk)); S = open(ptsname(M), O_RDWR | O_NOCTTY); printf("  open %d\n", S > 0); SHOW(ioctl(S, TIOCSPTLCK, &lk)); SHOW(ioctl(S, TIOCGPTN, &lk)); M = posix_openpt(O_RDWR); poll_of("never opened", M);
    /* A writer waits for the master's reader. */ open_pair(); int total = 0; char z[512] = {0}; for (;;) { int n = write(S, z, sizeof z); if (n < 0) { printf("  full: %s\n", strerror(errno)); break; } total += n; if (total > 1 << 20) break; } printf("  held some %d\n", total >= 4096 && total <= 1 << 17); poll_of("full", S); while (total > 0) { int n = read(M, buf, sizeof buf); if (n <= 0) break; total -= n; } ms(20); poll_of("read", S);
}
static void exclusive(void) {
    open_pair(); char *name = ptsname(M); int v = 9; SHOW(ioctl(S, _IOR('T', 0x40, int), &v)); printf("  %d\n", v); SHOW(ioctl(S, TIOCEXCL)); SHOW(ioctl(S, _IOR('T', 0x40, int), &v)); printf("  %d\n", v); int n = open(name, O_RDWR | O_NOCTTY); printf("  root %d\n", n > 0); fflush(stdout);
    chmod(name, 0666); pid_t p = fork(); if (!p) { setuid(1000); SHOW(open(name, O_RDWR | O_NOCTTY)); exit(0); } waitpid(p, 0, 0); SHOW(ioctl(S, TIOCNXCL)); fflush(stdout); p = fork(); if (!p) { setuid(1000); SHOWOK(open(name, O_RDWR | O_NOCTTY)); exit(0); } waitpid(p, 0, 0);
}
static void injected(void) {
    open_pair(); char *s = "hi\177o\n"; for (; *s; s++) if (ioctl(S, TIOCSTI, s)) { printf("  %s\n", strerror(errno)); break; } shown("echo"); got("read"); SHOW(ioctl(S, TIOCSTI, 0)); 
    fflush(stdout); pid_t p = fork(); if (!p) { setuid(1000); SHOW(ioctl(S, TIOCSTI, "x")); exit(0); } waitpid(p, 0, 0);
}
static void packet(void) {
    open_pair(); int on = 1; char b[99]; SHOW(ioctl(M, TIOCPKT, &on)); SHOW(ioctl(S, TIOCPKT, &on)); on = 0; SHOW(ioctl(M, TIOCGPKT, &on)); printf("  %d\n", on); write(S, "data", 4); ms(10); text("data", b, read(M, b, 99)); fcntl(M, F_SETFL, O_NONBLOCK); text("none", b, read(M, b, 99));
    tcflow(S, TCOOFF); ms(10); poll_of("stop", M); text("stop", b, read(M, b, 99)); tcflow(S, TCOON); text("start", b, read(M, b, 99)); tcflush(S, TCIFLUSH); text("flush read", b, read(M, b, 99)); tcflush(S, TCOFLUSH); text("flush write", b, read(M, b, 99)); tcflush(S, TCIOFLUSH); text("flush", b, read(M, b, 99));
    struct termios t = cooked; t.c_iflag &= ~IXON; tcsetattr(S, TCSANOW, &t); text("no ixon", b, read(M, b, 99)); tcsetattr(S, TCSANOW, &cooked); text("ixon", b, read(M, b, 99)); types("\023", 1); ms(20); text("^S", b, read(M, b, 99)); types("\021", 1); ms(20); text("^Q", b, read(M, b, 99)); write(S, "abc", 3); ms(10); text("one byte", b, read(M, b, 1)); text("two", b, read(M, b, 2)); text("rest", b, read(M, b, 99)); types("x\003", 2); ms(20); text("^C", b, read(M, b, 99)); text("then", b, read(M, b, 99));
}
static void leaves(void) { catches(SIGHUP, 0); catches(SIGCONT, 0); SHOW(vhangup()); ms(10); printf("  hup %d cont %d\n", caught[SIGHUP], caught[SIGCONT]); after_hangup(); int n = open(ptsname(M), O_RDWR | O_NOCTTY | O_NONBLOCK); printf("  opened again %d\n", n > 0); SHOW(write(n, "x", 1)); }
static void vhangups(void) { open_pair(); fflush(stdout); pid_t p = fork(); if (!p) { setuid(1000); SHOW(vhangup()); exit(0); } waitpid(p, 0, 0); p = fork(); if (!p) { setsid(); SHOW(vhangup()); exit(0); } waitpid(p, 0, 0); session("vhangup", leaves); ms(10); poll_of("master", M); SHOW(read(M, buf, 9)); }
static void controls(void) {
    open_pair(); int n; char b[256];
    struct { const char *name; unsigned long c; } all[] = {{"TIOCMGET", TIOCMGET}, {"TIOCGSOFTCAR", TIOCGSOFTCAR}, {"TIOCGETD", TIOCGETD}, {"TIOCGSERIAL", TIOCGSERIAL}, {"TIOCGDEV", _IOR('T', 0x32, int)}, {"TIOCINQ", FIONREAD}, {"TIOCOUTQ", TIOCOUTQ}, {"TIOCGEXCL", _IOR('T', 0x40, int)}, {"TIOCGPKT", TIOCGPKT}, {"TIOCGPTLCK", TIOCGPTLCK}, {"TIOCGPTN", TIOCGPTN}, {"TIOCCONS", TIOCCONS}, {"FIONBIO", 0}, {"bogus", 0x54ff}, {"VT_GETSTATE", 0x5603}, {"KDGKBTYPE", 0x4b33}, {"TIOCMIWAIT", TIOCMIWAIT}, {"TIOCSERGETLSR", TIOCSERGETLSR}};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) if (all[i].c && all[i].c != TIOCCONS) for (int m = 0; m < 2; m++) { memset(b, 0, sizeof b); int r = ioctl(m ? M : S, all[i].c, b); printf("  %s %s: %s\n", m ? "master" : "terminal", all[i].name, r < 0 ? strerror(errno) : "ok"); }
    n = 5; SHOW(ioctl(S, TIOCSETD, &n)); SHOW(ioctl(S, FIONBIO, &n)); printf("  nonblock %d\n", !!(fcntl(S, F_GETFL) & O_NONBLOCK)); SHOW(ioctl(S, TCGETS, (void *)8)); SHOW(ioctl(S, TCSETS, (void *)8)); SHOW(ioctl(S, TIOCSWINSZ, (void *)8)); SHOW(lseek(S, 0, SEEK_SET)); SHOW(pread(S, b, 1, 0)); SHOW(ftruncate(S, 0)); SHOW(fsync(S)); SHOWOK(mmap(0, 4096, PROT_READ, MAP_SHARED, S, 0)); struct stat st; fstat(S, &st); printf("  mode %o major %d\n", st.st_mode & S_IFMT, (int)(st.st_rdev >> 8 & 0xfff)); n = ioctl(M, TIOCGPTPEER, O_RDWR | O_NOCTTY); printf("  peer %d\n", n > 0); int pid = open("/dev/null", O_RDWR); SHOW(tcgetattr(pid, &cooked)); SHOW(ioctl(pid, TIOCGWINSZ, b));
}
int main(void) {
    signal(SIGTTOU, SIG_DFL);
    SECTION(fresh); SECTION(lines); SECTION(echoes); SECTION(inputs); SECTION(outputs); SECTION(raw_reads); SECTION(limits); SECTION(modes); SECTION(flow); SECTION(controlling); SECTION(job_control); SECTION(signal_keys); SECTION(hang_up); SECTION(ends); SECTION(exclusive); SECTION(injected); SECTION(packet); SECTION(vhangups); SECTION(controls);
    return 0;
}
