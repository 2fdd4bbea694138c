// Unix sockets: prints a line for each thing that holds. The same on Linux and in the guest.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("FAILED line %d: %s (errno %d)\n", __LINE__, #condition, errno); \
            fflush(stdout); \
            exit(1); \
        } \
    } while (0)
#define FAILS(call, error) CHECK((call) == -1 && errno == (error))

static void holds(const char *what) {
    printf("%s\n", what);
    fflush(stdout);
}

static char folder[] = "/tmp/unixsock-XXXXXX";
static struct sockaddr_un at;
static socklen_t at_len;

static void path_name(const char *name) {
    memset(&at, 0, sizeof at);
    at.sun_family = AF_UNIX;
    snprintf(at.sun_path, sizeof at.sun_path, "%s/%s", folder, name);
    at_len = offsetof(struct sockaddr_un, sun_path) + strlen(at.sun_path) + 1;
}

static void abstract_name(const char *name) {
    memset(&at, 0, sizeof at);
    at.sun_family = AF_UNIX;
    int n = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "oxbow-test-%d-%s", getpid(), name);
    at_len = offsetof(struct sockaddr_un, sun_path) + 1 + n;
}

#define AT (struct sockaddr *)&at, at_len

static int make(int kind) {
    int s = socket(AF_UNIX, kind, 0);
    CHECK(s >= 0);
    return s;
}

static int listener(int kind, int backlog) {
    int s = make(kind);
    CHECK(bind(s, AT) == 0);
    CHECK(listen(s, backlog) == 0);
    return s;
}

static int revents(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
    CHECK(poll(&p, 1, 0) >= 0);
    return p.revents;
}

static void expect(int fd, const char *text) {
    char buf[256];
    ssize_t n = recv(fd, buf, sizeof buf, 0);
    CHECK(n == (ssize_t)strlen(text) && memcmp(buf, text, n) == 0);
}

static void nodes(void) {
    struct stat st;
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    path_name("node");
    int l = make(SOCK_STREAM);
    umask(022);
    CHECK(getsockname(l, (void *)&name, &len) == 0 && len == 2);
    CHECK(bind(l, AT) == 0);
    CHECK(stat(at.sun_path, &st) == 0 && st.st_mode == (S_IFSOCK | 0755));
    len = sizeof name;
    CHECK(getsockname(l, (void *)&name, &len) == 0 && len == at_len);
    CHECK(strcmp(name.sun_path, at.sun_path) == 0);
    int c = make(SOCK_STREAM);
    FAILS(bind(c, AT), EADDRINUSE);
    FAILS(connect(c, AT), ECONNREFUSED);
    FAILS(open(at.sun_path, O_RDWR), ENXIO);
    path_name("second");
    FAILS(bind(l, AT), EINVAL);
    path_name("node");
    CHECK(listen(l, 5) == 0);
    int d = make(SOCK_DGRAM);
    FAILS(connect(d, AT), EPROTOTYPE);
    FAILS(listen(d, 1), EOPNOTSUPP);
    // Who may not write to the node may not connect.
    CHECK(chmod(at.sun_path, 0700) == 0);
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0) {
            CHECK(chmod(folder, 0755) == 0 && setgid(1000) == 0 && setuid(1000) == 0);
            FAILS(connect(c, AT), EACCES);
        }
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(connect(c, AT) == 0);
    CHECK(unlink(at.sun_path) == 0);
    int other = make(SOCK_STREAM);
    FAILS(connect(other, AT), ENOENT);
    int again = listener(SOCK_STREAM, 1);
    CHECK(connect(other, AT) == 0);
    FAILS(connect(other, AT), EISCONN);
    close(again);
    FAILS(connect(make(SOCK_STREAM), AT), ECONNREFUSED);
    path_name("missing/node");
    FAILS(bind(d, AT), ENOENT);
    path_name("file");
    close(open(at.sun_path, O_CREAT | O_WRONLY, 0666));
    FAILS(connect(make(SOCK_STREAM), AT), ECONNREFUSED);
    holds("sockets have nodes");
}

static void connections(void) {
    abstract_name("connections");
    int l = listener(SOCK_STREAM, 2);
    FAILS(bind(make(SOCK_STREAM), AT), EADDRINUSE);
    CHECK(bind(make(SOCK_DGRAM), AT) == 0);
    CHECK(!(revents(l) & POLLIN));
    int one = 0;
    socklen_t len = sizeof one;
    CHECK(getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &one, &len) == 0 && one == 1);
    int c[4];
    for (int i = 0; i < 3; i++) CHECK(connect(c[i] = make(SOCK_STREAM), AT) == 0);
    c[3] = make(SOCK_STREAM | SOCK_NONBLOCK);
    CHECK(revents(c[3]) == (POLLOUT | POLLHUP));
    FAILS(connect(c[3], AT), EAGAIN);
    CHECK(revents(l) & POLLIN);
    struct sockaddr_un peer;
    len = sizeof peer;
    int s = accept4(l, (void *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    CHECK(s >= 0 && len == 2 && peer.sun_family == AF_UNIX);
    CHECK(fcntl(s, F_GETFD) == FD_CLOEXEC && fcntl(s, F_GETFL) == (O_RDWR | O_NONBLOCK));
    CHECK(connect(c[3], AT) == 0);
    len = sizeof peer;
    CHECK(getpeername(c[0], (void *)&peer, &len) == 0 && len == at_len);
    CHECK(memcmp(&peer, &at, len) == 0);
    CHECK(getsockname(s, (void *)&peer, &len) == 0 && len == at_len);
    struct ucred cred;
    len = sizeof cred;
    CHECK(getsockopt(c[0], SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0);
    CHECK(cred.pid == getpid() && cred.uid == geteuid() && cred.gid == getegid());
    CHECK(write(c[0], "hello", 5) == 5);
    expect(s, "hello");
    char buf[8];
    FAILS(read(s, buf, 1), EAGAIN);
    CHECK(revents(s) == POLLOUT);
    CHECK(shutdown(c[0], SHUT_WR) == 0);
    CHECK(revents(s) == (POLLIN | POLLOUT | POLLRDHUP));
    CHECK(read(s, buf, 1) == 0);
    CHECK(write(s, "back", 4) == 4);
    expect(c[0], "back");
    signal(SIGPIPE, SIG_IGN);
    FAILS(write(c[0], "x", 1), EPIPE);
    CHECK(write(s, "unread", 6) == 6);
    close(c[0]);
    CHECK(revents(s) & POLLHUP);
    FAILS(read(s, buf, 1), ECONNRESET);
    CHECK(read(s, buf, 1) == 0);
    // The second was accepted by nobody.
    close(l);
    FAILS(read(c[1], buf, 1), ECONNRESET);
    CHECK(read(c[1], buf, 1) == 0);
    FAILS(connect(make(SOCK_STREAM), AT), ECONNREFUSED);
    l = listener(SOCK_STREAM, 0);
    pid_t child = fork();
    if (child == 0) {
        // Waits: one is in the queue.
        int a = make(SOCK_STREAM), b = make(SOCK_STREAM);
        CHECK(connect(a, AT) == 0);
        CHECK(connect(b, AT) == 0);
        CHECK(write(b, "b", 1) == 1);
        _exit(0);
    }
    usleep(100 * 1000);
    int first = accept(l, NULL, NULL), second = accept(l, NULL, NULL);
    CHECK(first >= 0 && second >= 0);
    expect(second, "b");
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    holds("connections are made, queued and ended");
}

static void messages(void) {
    char buf[64];
    struct sockaddr_un from;
    socklen_t len = sizeof from;
    abstract_name("seq");
    int l = listener(SOCK_SEQPACKET, 1), c = make(SOCK_SEQPACKET);
    FAILS(send(c, "x", 1, 0), ENOTCONN);
    CHECK(connect(c, AT) == 0);
    int s = accept(l, NULL, NULL);
    CHECK(send(c, "first", 5, 0) == 5 && send(c, "second", 6, 0) == 6);
    CHECK(recv(s, buf, 3, MSG_PEEK) == 3);
    CHECK(recv(s, buf, 3, MSG_TRUNC) == 5);
    struct iovec part = {.iov_base = buf, .iov_len = 2};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    CHECK(recvmsg(s, &m, 0) == 2 && m.msg_flags & MSG_TRUNC);
    FAILS(recv(s, buf, 1, MSG_DONTWAIT), EAGAIN);
    close(c);
    CHECK(recv(s, buf, 1, 0) == 0);
    abstract_name("dgram");
    int d = make(SOCK_DGRAM), e = make(SOCK_DGRAM);
    CHECK(bind(d, AT) == 0);
    FAILS(send(e, "x", 1, 0), ENOTCONN);
    CHECK(sendto(e, "nameless", 8, 0, AT) == 8);
    CHECK(recvfrom(d, buf, sizeof buf, 0, (void *)&from, &len) == 8 && len == 0);
    struct sockaddr_un automatic = {.sun_family = AF_UNIX};
    CHECK(bind(e, (void *)&automatic, 2) == 0);
    len = sizeof from;
    CHECK(getsockname(e, (void *)&from, &len) == 0 && len == 8 && from.sun_path[0] == 0);
    CHECK(connect(e, AT) == 0);
    CHECK(send(e, "", 0, 0) == 0 && send(e, "named", 5, 0) == 5);
    len = sizeof automatic;
    CHECK(recvfrom(d, buf, sizeof buf, 0, (void *)&automatic, &len) == 0 && len == 8);
    CHECK(memcmp(&automatic, &from, 8) == 0);
    expect(d, "named");
    // Who is connected hears from its peer alone.
    int stranger = make(SOCK_DGRAM);
    FAILS(sendto(stranger, "x", 1, 0, (void *)&from, 8), EPERM);
    close(d);
    FAILS(send(e, "x", 1, 0), ECONNREFUSED);
    FAILS(send(e, "x", 1, 0), ENOTCONN);
    holds("messages keep their bounds and senders");
}

static ssize_t send_files(int s, const char *text, const int *files, int n) {
    struct iovec part = {.iov_base = (void *)text, .iov_len = strlen(text)};
    union {
        char room[CMSG_SPACE(sizeof(int) * 253)];
        struct cmsghdr align;
    } control;
    memset(&control, 0, sizeof control);
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};
    m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
    struct cmsghdr *head = CMSG_FIRSTHDR(&m);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int) * n);
    memcpy(CMSG_DATA(head), files, sizeof(int) * n);
    return sendmsg(s, &m, MSG_NOSIGNAL);
}

// Receives; returns the number of files, which go to `files`.
static int receive_files(int s, const char *text, int *files, int room, int flags, int *out) {
    char buf[64];
    struct iovec part = {.iov_base = buf, .iov_len = sizeof buf};
    union {
        char room[CMSG_SPACE(sizeof(int) * 253)];
        struct cmsghdr align;
    } control;
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};
    m.msg_controllen = room ? CMSG_LEN(sizeof(int) * room) : 0;
    ssize_t n = recvmsg(s, &m, flags);
    CHECK(n == (ssize_t)strlen(text) && memcmp(buf, text, n) == 0);
    *out = m.msg_flags;
    struct cmsghdr *head = CMSG_FIRSTHDR(&m);
    if (!head) return 0;
    CHECK(head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS);
    int count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(files, CMSG_DATA(head), count * sizeof(int));
    return count;
}

static void passing(void) {
    int s[2], p[2], files[8], out;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && pipe(p) == 0);
    CHECK(write(s[0], "plain", 5) == 5);
    CHECK(send_files(s[0], "one", p, 1) == 3);
    CHECK(write(s[0], "after", 5) == 5);
    CHECK(receive_files(s[1], "plainone", files, 4, MSG_PEEK, &out) == 1);
    close(files[0]);
    CHECK(receive_files(s[1], "plainone", files, 4, MSG_CMSG_CLOEXEC, &out) == 1);
    CHECK(!(out & MSG_CTRUNC) && fcntl(files[0], F_GETFD) == FD_CLOEXEC);
    CHECK(write(p[1], "through", 7) == 7);
    char buf[16];
    CHECK(read(files[0], buf, sizeof buf) == 7);
    close(files[0]);
    expect(s[1], "after");
    CHECK(send_files(s[0], "two", p, 2) == 3);
    CHECK(receive_files(s[1], "two", files, 1, 0, &out) == 1 && out & MSG_CTRUNC);
    close(files[0]);
    // A file that nobody receives is closed with the socket.
    int q[2];
    CHECK(pipe(q) == 0);
    CHECK(send_files(s[0], "lost", q + 1, 1) == 4);
    close(q[1]);
    close(s[0]);
    close(s[1]);
    CHECK(read(q[0], buf, 1) == 0);
    // To a child, which writes into what it gets.
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(p[0]);
        close(p[1]);
        CHECK(receive_files(s[1], "go", files, 4, 0, &out) == 1);
        CHECK(write(files[0], "child", 5) == 5);
        _exit(0);
    }
    CHECK(send_files(s[0], "go", p + 1, 1) == 2);
    CHECK(read(p[0], buf, sizeof buf) == 5);
    int status, bad = 999;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    FAILS(send_files(s[0], "x", &bad, 1), EBADF);
    // A long chain of sockets in flight, each holding the one before.
    int held[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, held) == 0);
    for (int i = 0; i < 500; i++) {
        int next[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, next) == 0);
        CHECK(send_files(next[0], "x", held, 2) == 1);
        close(held[0]);
        close(held[1]);
        held[0] = next[0];
        held[1] = next[1];
    }
    close(held[0]);
    close(held[1]);
    holds("open files are passed");
}

static void credentials(void) {
    int s[2], on = 1;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    CHECK(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(write(s[0], "child", 5) == 5);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(write(s[0], "parent", 6) == 6);
    for (int i = 0; i < 2; i++) {
        char buf[64], control[256];
        struct iovec part = {.iov_base = buf, .iov_len = sizeof buf};
        struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
        m.msg_controllen = sizeof control;
        CHECK(recvmsg(s[1], &m, 0) == (i ? 6 : 5));
        struct cmsghdr *head = CMSG_FIRSTHDR(&m);
        CHECK(head && head->cmsg_type == SCM_CREDENTIALS);
        struct ucred cred;
        memcpy(&cred, CMSG_DATA(head), sizeof cred);
        CHECK(cred.pid == (i ? getpid() : child) && cred.uid == getuid() && cred.gid == getgid());
    }
    for (int more = -4; more <= 4; more += 8) {
        char control[64] = {0};
        struct iovec part = {.iov_base = "x", .iov_len = 1};
        struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
        m.msg_controllen = sizeof control;
        struct cmsghdr *head = CMSG_FIRSTHDR(&m);
        struct ucred cred = {getpid(), getuid(), getgid()};
        memcpy(CMSG_DATA(head), &cred, sizeof cred);
        head->cmsg_len = CMSG_LEN(sizeof cred) + more;
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_CREDENTIALS;
        m.msg_controllen = head->cmsg_len;
        CHECK(sendmsg(s[0], &m, 0) == -1 && errno == EINVAL);
    }
    holds("senders are told apart");
}

static void waiting(void) {
    int s[2], size = 20000;
    socklen_t len = sizeof size;
    char block[1000] = {0};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) == 0);
    CHECK(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    CHECK(getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &size, &len) == 0 && size == 40000);
    size_t sent = 0;
    ssize_t n;
    while ((n = write(s[0], block, sizeof block)) > 0) sent += n;
    CHECK(errno == EAGAIN && sent > 5000 && !(revents(s[0]) & POLLOUT));
    int ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLOUT | EPOLLET};
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &e) == 0);
    CHECK(epoll_wait(ep, &e, 1, 0) == 0);
    while ((n = read(s[1], block, sizeof block)) > 0) sent -= n;
    CHECK(sent == 0);
    CHECK(epoll_wait(ep, &e, 1, 1000) == 1 && e.events == EPOLLOUT);
    struct timeval time = {.tv_usec = 50000};
    int d = make(SOCK_DGRAM);
    CHECK(setsockopt(d, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    FAILS(recv(d, block, 1, 0), EAGAIN);
    // Megabytes through, with a reader that is slower or faster.
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    pid_t child = fork();
    if (child == 0) {
        static char big[1 << 20];
        for (int i = 0; i < 8; i++) {
            memset(big, 'a' + i, sizeof big);
            CHECK(write(s[0], big, sizeof big) == sizeof big);
        }
        _exit(0);
    }
    close(s[0]);
    size_t total = 0;
    static char in[70001];
    while ((n = read(s[1], in, sizeof in)) > 0) {
        for (ssize_t i = 0; i < n; i++) CHECK(in[i] == (char)('a' + ((total + i) >> 20)));
        total += n;
    }
    int status;
    CHECK(n == 0 && total == 8 << 20 && waitpid(child, &status, 0) == child && status == 0);
    holds("senders wait for room");
}

int main(void) {
    alarm(120);
    CHECK(mkdtemp(folder));
    nodes();
    connections();
    messages();
    passing();
    credentials();
    waiting();
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) != 0;
}
