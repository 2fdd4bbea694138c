// Pseudo-terminals, from both ends: prints a line for each thing that holds. The same on
// Linux and in the guest. `pty` runs the calls, `pty shell` drives /bin/sh in a terminal.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#ifndef TIOCGPTLCK
#define TIOCGPTLCK 0x80045439
#endif
#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif
#ifndef TIOCPKT
#define TIOCPKT 0x5420
#endif

static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("FAILED: ");
    vprintf(format, args);
    printf(" (errno %d)\n", errno);
    fflush(stdout);
    exit(1);
}

#define CHECK(condition) \
    do { \
        if (!(condition)) fail("line %d: %s", __LINE__, #condition); \
    } while (0)

static void holds(const char *what) {
    printf("%s\n", what);
    fflush(stdout);
}

static int master(char *name) {
    int m = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    CHECK(m >= 0);
    unsigned n;
    CHECK(ioctl(m, TIOCGPTN, &n) == 0);
    sprintf(name, "/dev/pts/%u", n);
    return m;
}

static void unlock(int m) {
    int zero = 0;
    CHECK(ioctl(m, TIOCSPTLCK, &zero) == 0);
}

static void both(int *m, int *s) {
    char name[32];
    *m = master(name);
    unlock(*m);
    *s = open(name, O_RDWR | O_NOCTTY);
    CHECK(*s >= 0);
}

static void raw(int fd) {
    struct termios t;
    CHECK(tcgetattr(fd, &t) == 0);
    cfmakeraw(&t);
    CHECK(tcsetattr(fd, TCSANOW, &t) == 0);
}

static void nonblocking(int fd, int on) {
    int flags = fcntl(fd, F_GETFL);
    CHECK(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0);
}

static int events_of(int fd, int which, int wait_ms) {
    struct pollfd p = {.fd = fd, .events = which};
    CHECK(poll(&p, 1, wait_ms) >= 0);
    return p.revents;
}
static int events(int fd, int wait_ms) { return events_of(fd, POLLIN | POLLPRI | POLLOUT, wait_ms); }
static int comes(int fd, int event) { return events_of(fd, event, 10000) & event; }

// Reads exactly this text.
static void expect_bytes(int fd, const char *text, size_t len) {
    char buf[256];
    size_t got = 0;
    while (got < len) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 10000) != 1) fail("nothing came; wanted %s", text);
        ssize_t n = read(fd, buf + got, sizeof buf - got);
        if (n <= 0) fail("read gave %zd; wanted %s", n, text);
        got += n;
    }
    if (got != len || memcmp(buf, text, len)) fail("got %.*s, wanted %s", (int)got, buf, text);
}
#define EXPECT(fd, text) expect_bytes(fd, text, sizeof text - 1)
#define PUT(fd, text) CHECK(write(fd, text, sizeof text - 1) == sizeof text - 1)

static void lock_and_name(void) {
    char name[32];
    int m = master(name), locked = 0;
    CHECK(ioctl(m, TIOCGPTLCK, &locked) == 0 && locked == 1);
    CHECK(open(name, O_RDWR | O_NOCTTY) == -1 && errno == EIO);
    unlock(m);
    CHECK(ioctl(m, TIOCGPTLCK, &locked) == 0 && locked == 0);
    int s = open(name, O_RDWR | O_NOCTTY);
    CHECK(s >= 0 && isatty(s) && isatty(m));
    struct stat st, at;
    CHECK(fstat(s, &st) == 0 && stat(name, &at) == 0);
    CHECK(S_ISCHR(st.st_mode) && st.st_ino == at.st_ino && st.st_dev == at.st_dev);
    CHECK(st.st_uid == geteuid());
    CHECK(strcmp(ttyname(s), name) == 0 && strcmp(ptsname(m), name) == 0);
    int peer = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    CHECK(peer >= 0 && ttyname(peer) && strcmp(ttyname(peer), name) == 0);
    unsigned n;
    CHECK(ioctl(s, TIOCGPTN, &n) == -1 && errno == ENOTTY);
    close(peer);
    close(s);
    close(m);
    CHECK(stat(name, &at) == -1 && errno == ENOENT);
    holds("locked at first, named by its number, gone with its master");
}

static void lines(void) {
    int m, s, n;
    both(&m, &s);
    PUT(m, "helo\177lo\r");
    EXPECT(m, "helo\b \blo\r\n");
    EXPECT(s, "hello\n");
    PUT(s, "one\ntwo\n");
    EXPECT(m, "one\r\ntwo\r\n");
    PUT(m, "part");
    EXPECT(m, "part");
    CHECK(ioctl(s, FIONREAD, &n) == 0);
    nonblocking(s, 1);
    char c;
    CHECK(read(s, &c, 1) == -1 && errno == EAGAIN);
    PUT(m, "\4");
    EXPECT(s, "part");
    PUT(m, "\4");
    CHECK(comes(s, POLLIN));
    CHECK(read(s, &c, 1) == 0);
    PUT(m, "x\ny\n");
    EXPECT(m, "x\r\ny\r\n");
    CHECK(read(s, &c, 1) == 1 && c == 'x');
    CHECK(tcflush(s, TCIFLUSH) == 0);
    CHECK(read(s, &c, 1) == -1 && errno == EAGAIN);
    close(s);
    close(m);
    holds("lines are edited, echoed and ended");
}

static void settings(void) {
    int m, s;
    both(&m, &s);
    struct termios t, u;
    CHECK(tcgetattr(s, &t) == 0);
    printf("iflag %o oflag %o cflag %o lflag %o\n", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag);
    t.c_lflag &= ~ECHO;
    CHECK(tcsetattr(m, TCSANOW, &t) == 0);
    CHECK(tcgetattr(s, &u) == 0 && u.c_lflag == t.c_lflag);
    struct winsize w = {.ws_row = 33, .ws_col = 101};
    CHECK(ioctl(m, TIOCSWINSZ, &w) == 0);
    memset(&w, 0, sizeof w);
    CHECK(ioctl(s, TIOCGWINSZ, &w) == 0 && w.ws_row == 33 && w.ws_col == 101);
    close(s);
    close(m);
    holds("both ends share settings and size");
}

static void closing(void) {
    char name[32], c;
    int m = master(name);
    unlock(m);
    nonblocking(m, 1);
    CHECK(read(m, &c, 1) == -1 && errno == EAGAIN);
    CHECK(!(events(m, 0) & POLLHUP));
    int s = open(name, O_RDWR | O_NOCTTY), s2 = open(name, O_RDWR | O_NOCTTY);
    PUT(s, "last");
    close(s);
    CHECK(!(events(m, 0) & POLLHUP));
    close(s2);
    CHECK((events(m, 0) & (POLLHUP | POLLIN)) == (POLLHUP | POLLIN));
    EXPECT(m, "last");
    CHECK(read(m, &c, 1) == -1 && errno == EIO);
    CHECK((events(m, 0) & (POLLHUP | POLLIN)) == POLLHUP);
    s = open(name, O_RDWR | O_NOCTTY);
    CHECK(s >= 0 && !(events(m, 0) & POLLHUP));
    close(m);
    CHECK(read(s, &c, 1) == 0);
    CHECK(write(s, "x", 1) == -1 && errno == EIO);
    struct termios t;
    CHECK(tcgetattr(s, &t) == -1 && errno == EIO);
    CHECK((events(s, 0) & (POLLHUP | POLLIN | POLLERR)) == (POLLHUP | POLLIN | POLLERR));
    CHECK(open(name, O_RDWR | O_NOCTTY) == -1);
    close(s);
    holds("each end learns that the other is closed");
}

static size_t fill(int fd, char mark) {
    char block[512];
    memset(block, mark, sizeof block);
    size_t total = 0;
    for (;;) {
        ssize_t n = write(fd, block, sizeof block);
        if (n < 0) {
            CHECK(errno == EAGAIN);
            return total;
        }
        total += n;
        CHECK(total < 10 << 20);
    }
}

static void drain(int fd, char mark, size_t total) {
    char block[4096];
    while (total > 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        CHECK(poll(&p, 1, 10000) == 1);
        ssize_t n = read(fd, block, sizeof block);
        CHECK(n > 0 && (size_t)n <= total);
        for (ssize_t i = 0; i < n; i++) CHECK(block[i] == mark);
        total -= n;
    }
}

static void flow(void) {
    int m, s;
    both(&m, &s);
    raw(s);
    nonblocking(m, 1);
    nonblocking(s, 1);
    for (int round = 0; round < 3; round++) {
        size_t out = fill(s, 'o');
        CHECK(out >= 1024 && !(events(s, 0) & POLLOUT));
        drain(m, 'o', out);
        CHECK(events(s, 0) & POLLOUT);
        size_t in = fill(m, 'i');
        CHECK(in >= 4096 && !(events(m, 0) & POLLOUT));
        drain(s, 'i', in);
        CHECK(comes(m, POLLOUT));
    }
    // A blocked writer goes on as its reader reads: a megabyte each way.
    nonblocking(s, 0);
    nonblocking(m, 0);
    for (int way = 0; way < 2; way++) {
        int from = way ? m : s, to = way ? s : m;
        pid_t child = fork();
        if (child == 0) {
            char block[1000];
            memset(block, 'b', sizeof block);
            for (int i = 0; i < 1000; i++)
                if (write(from, block, sizeof block) != sizeof block) _exit(1);
            _exit(0);
        }
        drain(to, 'b', 1000 * 1000);
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    close(s);
    close(m);
    holds("writers wait for room, both ways, and nothing is lost");
}

static void stopping(void) {
    int m, s;
    both(&m, &s);
    nonblocking(s, 1);
    PUT(m, "\23");
    while (write(s, "x", 1) == 1) drain(m, 'x', 1);
    CHECK(errno == EAGAIN);
    PUT(m, "\21");
    CHECK(comes(s, POLLOUT));
    PUT(s, "go");
    EXPECT(m, "go");
    int on = 1;
    CHECK(ioctl(m, TIOCPKT, &on) == 0);
    PUT(s, "data");
    EXPECT(m, "\0data");
    CHECK(tcflush(s, TCIFLUSH) == 0);
    CHECK(comes(m, POLLPRI));
    char c;
    CHECK(read(m, &c, 1) == 1 && c == 1);
    PUT(m, "\23");
    CHECK(comes(m, POLLPRI));
    CHECK(read(m, &c, 1) == 1 && c == 4);
    close(s);
    close(m);
    holds("output stops and starts; packets tell of it");
}

static volatile sig_atomic_t got;
static void note(int sig) { got |= 1 << sig; }

// Runs `body` in a child that leads a session on the terminal; it says 'r' once it is ready.
static pid_t on_terminal(int m, const char *name, void (*body)(int)) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(m);
        CHECK(setsid() > 0);
        int s = open(name, O_RDWR);
        CHECK(s >= 0 && tcgetpgrp(s) == getpid() && tcgetsid(s) == getpid());
        int other = open("/dev/tty", O_RDWR);
        CHECK(other >= 0);
        close(other);
        body(s);
        _exit(0);
    }
    return child;
}

static void wait_signals(int wanted) {
    sigset_t none;
    sigemptyset(&none);
    while ((got & wanted) != wanted) sigsuspend(&none);
}

static void catch_all(void) {
    struct sigaction a = {.sa_handler = note};
    int all[] = {SIGHUP, SIGCONT, SIGINT, SIGQUIT, SIGTSTP, SIGWINCH};
    sigset_t block;
    sigemptyset(&block);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK(sigaction(all[i], &a, NULL) == 0);
        sigaddset(&block, all[i]);
    }
    CHECK(sigprocmask(SIG_BLOCK, &block, NULL) == 0);
}

static void signalled(int s) {
    catch_all();
    PUT(s, "r");
    wait_signals(1 << SIGINT);
    PUT(s, "i");
    wait_signals(1 << SIGQUIT | 1 << SIGTSTP);
    PUT(s, "q");
    wait_signals(1 << SIGWINCH);
    struct winsize w;
    CHECK(ioctl(s, TIOCGWINSZ, &w) == 0 && w.ws_row == 50);
    PUT(s, "w");
    wait_signals(1 << SIGHUP | 1 << SIGCONT);
    char c;
    if (read(s, &c, 1) != 0 || write(s, &c, 1) != -1 || errno != EIO) _exit(1);
    if (open("/dev/tty", O_RDWR) != -1 || errno != ENXIO) _exit(2);
    _exit(7);
}

static void signals(void) {
    char name[32];
    int m = master(name), status;
    unlock(m);
    pid_t child = on_terminal(m, name, signalled);
    EXPECT(m, "r");
    pid_t group = 0;
    CHECK(ioctl(m, TIOCGPGRP, &group) == 0 && group == child);
    PUT(m, "\3");
    EXPECT(m, "^Ci");
    PUT(m, "\34\32");
    char seen[64];
    size_t n = 0;
    while (n == 0 || seen[n - 1] != 'q') {
        ssize_t k = read(m, seen + n, sizeof seen - n);
        CHECK(k > 0);
        n += k;
    }
    struct winsize w = {.ws_row = 50, .ws_col = 90};
    CHECK(ioctl(m, TIOCSWINSZ, &w) == 0);
    EXPECT(m, "w");
    close(m);
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) fail("status %x", status);
    holds("keys, size and hang-up send their signals");
}

static void leave(int s) { PUT(s, "bye"); }

static void leader_ends(void) {
    char name[32], c;
    int m = master(name), status;
    unlock(m);
    for (int i = 0; i < 3; i++) {
        pid_t child = on_terminal(m, name, leave);
        // Closed until the child opens it.
        while ((events(m, 0) & (POLLHUP | POLLIN)) == POLLHUP) usleep(1000);
        EXPECT(m, "bye");
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK(read(m, &c, 1) == -1 && errno == EIO);
    }
    close(m);
    holds("one session after another has the terminal");
}

static void many(void) {
    enum { COUNT = 300 };
    static int masters[COUNT], slaves[COUNT];
    for (int i = 0; i < COUNT; i++) both(&masters[i], &slaves[i]);
    for (int i = 0; i < COUNT; i++) {
        char text[16];
        int n = sprintf(text, "t%d\n", i);
        CHECK(write(masters[i], text, n) == n);
        expect_bytes(slaves[i], text, n);
    }
    for (int i = 0; i < COUNT; i++) {
        close(masters[i]);
        close(slaves[i]);
    }
    holds("three hundred at once");
}

// The shell: what it said since the last look, with cursor position queries answered.
static char said[65536];
static size_t nr_said;

static void wait_for(int m, const char *text) {
    time_t until = time(NULL) + 60;
    for (;;) {
        char *at = memmem(said, nr_said, text, strlen(text));
        if (at) {
            size_t end = at - said + strlen(text);
            memmove(said, said + end, nr_said - end);
            nr_said -= end;
            return;
        }
        struct pollfd p = {.fd = m, .events = POLLIN};
        if (time(NULL) >= until || nr_said == sizeof said)
            fail("no \"%s\" in \"%.*s\"", text, (int)nr_said, said);
        if (poll(&p, 1, 1000) != 1) continue;
        ssize_t n = read(m, said + nr_said, sizeof said - nr_said);
        if (n <= 0) fail("read gave %zd before \"%s\", after \"%.*s\"", n, text, (int)nr_said, said);
        if (memmem(said + nr_said, n, "\033[6n", 4)) PUT(m, "\033[1;1R");
        nr_said += n;
    }
}

static void type(int m, const char *keys) {
    usleep(300 * 1000);
    CHECK(write(m, keys, strlen(keys)) == (ssize_t)strlen(keys));
}

static void shell(void) {
    char name[32];
    int m = master(name), status;
    unlock(m);
    struct winsize w = {.ws_row = 24, .ws_col = 80};
    CHECK(ioctl(m, TIOCSWINSZ, &w) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(m);
        setsid();
        int s = open(name, O_RDWR);
        for (int i = 0; i < 3; i++) dup2(s, i);
        if (s > 2) close(s);
        setenv("TERM", "vt100", 1);
        execl("/bin/sh", "sh", "-i", NULL);
        _exit(99);
    }
    type(m, "echo A$((6*7))Z\r");
    wait_for(m, "A42Z");
    holds("the shell answers");
    type(m, "sleep 100\r");
    type(m, "\3");
    type(m, "echo B$?Z\r");
    wait_for(m, "B130Z");
    holds("Ctrl-C ends a program");
    type(m, "sleep 100\r");
    type(m, "\32");
    type(m, "echo C$((1+1))Z\r");
    wait_for(m, "C2Z");
    type(m, "fg\r");
    type(m, "\3");
    type(m, "echo D$?Z\r");
    wait_for(m, "D130Z");
    holds("Ctrl-Z stops one, fg goes on");
    w.ws_row = 40;
    w.ws_col = 132;
    CHECK(ioctl(m, TIOCSWINSZ, &w) == 0);
    type(m, "echo E$(stty size | tr ' ' x)Z\r");
    wait_for(m, "E40x132Z");
    holds("programs see the new size");
    type(m, "cat; echo F$?Z\r");
    type(m, "typed\r");
    wait_for(m, "typed\r\ntyped\r\n");
    type(m, "\4");
    wait_for(m, "F0Z");
    holds("Ctrl-D ends input");
    type(m, "exit 3\r");
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 3) fail("status %x", status);
    char buf[256];
    ssize_t n;
    while ((n = read(m, buf, sizeof buf)) > 0) {
    }
    CHECK(n == -1 && errno == EIO);
    close(m);
    holds("exit 3 gives 3 and ends the terminal");
    m = master(name);
    unlock(m);
    child = fork();
    if (child == 0) {
        close(m);
        setsid();
        int s = open(name, O_RDWR);
        for (int i = 0; i < 3; i++) dup2(s, i);
        execl("/bin/sh", "sh", "-c", "sleep 100 & echo G$((1+1))Z; sleep 100", NULL);
        _exit(99);
    }
    nr_said = 0;
    wait_for(m, "G2Z");
    close(m);
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGHUP) fail("status %x", status);
    holds("a hang-up ends what runs");
}

int main(int argc, char **argv) {
    alarm(240);
    if (argc > 1) {
        shell();
        return 0;
    }
    lock_and_name();
    lines();
    settings();
    closing();
    flow();
    stopping();
    signals();
    leader_ends();
    many();
    return 0;
}
