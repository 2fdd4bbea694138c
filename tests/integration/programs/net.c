// Network calls for tests: net COMMAND ARGUMENTS. Prints one line about what happened.
//
//   serve PORT N        accepts N connections one after the other, echoes each until its end
//   stream HOST PORT N  sends N bytes while it reads them back; says how many came back right
//   give HOST PORT N    sends N bytes; says what the other end had to say
//   take HOST PORT N    reads N bytes; says how many are right
//   scatter FILE N      reads N pages of a file in no order
//   refused HOST PORT   what connecting says
//   udp HOST PORT TEXT  sends a datagram and prints the answer
//   bigudp HOST PORT    datagrams of several lengths to a server that echoes them
//   udpserve PORT       answers one datagram with its text reversed
//   ping HOST N         N echo requests through a ping socket
//   dns SERVER NAME     asks for an address record; says how many answers there are
//   many PORT N         N connections to an echo server of its own, all open at once
//   storm PORT N        connects, talks and closes N times; says how many times it went well
//   exhaust PORT        connects until it fails; says how it does, and closes all
//   interfaces          what getifaddrs tells
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what) {
    printf("%s: %s\n", what, strerror(errno));
    exit(1);
}

static struct sockaddr_in address(const char *host, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1) {
        printf("bad address\n");
        exit(2);
    }
    return a;
}

static int listen_on(int port) {
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (s < 0) fail("socket");
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = address("0.0.0.0", port);
    if (bind(s, (void *)&a, sizeof a)) fail("bind");
    if (listen(s, 128)) fail("listen");
    return s;
}

static int connect_to(const char *host, int port) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0) fail("socket");
    struct sockaddr_in a = address(host, port);
    if (connect(s, (void *)&a, sizeof a)) fail("connect");
    return s;
}

static long echo(int s) {
    static char buf[65536];
    long total = 0;
    for (;;) {
        ssize_t n = read(s, buf, sizeof buf);
        if (n < 0) fail("read");
        if (n == 0) return total;
        for (ssize_t at = 0; at < n;) {
            ssize_t m = write(s, buf + at, n - at);
            if (m < 0) fail("write");
            at += m;
        }
        total += n;
    }
}

static int serve(int port, int n) {
    int s = listen_on(port);
    printf("listening\n");
    fflush(stdout);
    for (int i = 0; i < n; i++) {
        int c = accept(s, NULL, NULL);
        if (c < 0) fail("accept");
        printf("echoed %ld\n", echo(c));
        close(c);
    }
    return 0;
}

static char pattern(long i) { return (char)(i * 31 + (i >> 9)); }

static int stream(const char *host, int port, long n) {
    int s = connect_to(host, port);
    static char out[32768], in[32768];
    long sent = 0, got = 0, right = 0;
    while (got < n) {
        struct pollfd p = {s, POLLIN | (sent < n ? POLLOUT : 0), 0};
        if (poll(&p, 1, 60000) <= 0) {
            printf("nothing for a minute after %ld sent, %ld received\n", sent, got);
            return 1;
        }
        if (p.revents & POLLOUT) {
            long m = n - sent < (long)sizeof out ? n - sent : (long)sizeof out;
            for (long i = 0; i < m; i++) out[i] = pattern(sent + i);
            ssize_t w = send(s, out, m, MSG_DONTWAIT);
            if (w < 0 && errno != EAGAIN) fail("send");
            if (w > 0) sent += w;
            if (sent == n) shutdown(s, SHUT_WR);
        }
        if (p.revents & (POLLIN | POLLHUP)) {
            ssize_t r = recv(s, in, sizeof in, MSG_DONTWAIT);
            if (r < 0 && errno != EAGAIN) fail("recv");
            if (r == 0) break;
            for (ssize_t i = 0; i < r; i++) right += in[i] == pattern(got + i);
            if (r > 0) got += r;
        }
    }
    char byte;
    printf("%ld of %ld right, then %zd\n", right, n, read(s, &byte, 1));
    return 0;
}

/* Sends n bytes to somebody who reads them, or reads n bytes of who sends. */
static int one_way(const char *host, int port, long n, int sends) {
    int s = connect_to(host, port);
    static char data[65536];
    long done = 0, right = 0;
    while (done < n) {
        long m = n - done < (long)sizeof data ? n - done : (long)sizeof data;
        if (sends)
            for (long i = 0; i < m; i++) data[i] = pattern(done + i);
        ssize_t r = sends ? write(s, data, m) : read(s, data, m);
        if (r < 0) fail(sends ? "write" : "read");
        if (r == 0) break;
        for (ssize_t i = 0; i < r; i++) right += data[i] == pattern(done + i);
        done += r;
    }
    shutdown(s, SHUT_WR);
    char byte;
    printf("%ld of %ld right, then %zd\n", right, n, read(s, &byte, 1));
    return 0;
}

/* Reads n pages of a file at places all over it. */
static int scatter(const char *path, long n) {
    int f = open(path, O_RDONLY);
    if (f < 0) fail(path);
    off_t pages = lseek(f, 0, SEEK_END) / 4096;
    static char page[4096];
    uint64_t x = 88172645463325252u;
    for (long i = 0; i < n; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        if (pread(f, page, sizeof page, (off_t)(x % pages) * 4096) != sizeof page) fail("pread");
    }
    return 0;
}

static int refused(const char *host, int port) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = address(host, port);
    int r = connect(s, (void *)&a, sizeof a);
    printf("%s\n", r ? strerror(errno) : "connected");
    return 0;
}

static int udp(const char *host, int port, const char *text) {
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval limit = {10, 0};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    struct sockaddr_in a = address(host, port), from;
    socklen_t len = sizeof from;
    if (sendto(s, text, strlen(text), 0, (void *)&a, sizeof a) < 0) fail("sendto");
    char buf[2048];
    ssize_t n = recvfrom(s, buf, sizeof buf, 0, (void *)&from, &len);
    if (n < 0) fail("recvfrom");
    printf("%.*s from %s:%d\n", (int)n, buf, inet_ntoa(from.sin_addr), ntohs(from.sin_port));
    return 0;
}

static int bigudp(const char *host, int port) {
    static char out[70000], in[70000];
    int lens[] = {1000, 1472, 1473, 8000, 40000}, s = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval limit = {10, 0};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    struct sockaddr_in a = address(host, port);
    for (int i = 0; i < 5; i++) {
        for (int j = 0; j < lens[i]; j++) out[j] = pattern(j + i);
        if (sendto(s, out, lens[i], 0, (void *)&a, sizeof a) != lens[i]) fail("sendto");
        ssize_t n = recv(s, in, sizeof in, 0);
        if (n < 0) fail("recv");
        if (n == lens[i] && !memcmp(in, out, n)) printf("%d ", lens[i]);
    }
    printf("right\n");
    return 0;
}

static int udpserve(int port) {
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in a = address("0.0.0.0", port), from;
    if (bind(s, (void *)&a, sizeof a)) fail("bind");
    printf("bound\n");
    fflush(stdout);
    char in[2048], out[2048];
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(s, in, sizeof in, 0, (void *)&from, &len);
    if (n < 0) fail("recvfrom");
    for (ssize_t i = 0; i < n; i++) out[i] = in[n - 1 - i];
    if (sendto(s, out, n, 0, (void *)&from, len) != n) fail("sendto");
    printf("answered %zd\n", n);
    return 0;
}

static int ping(const char *host, int n) {
    int s = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), answered = 0;
    if (s < 0) fail("socket");
    struct timeval limit = {3, 0};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    struct sockaddr_in a = address(host, 0);
    for (int i = 1; i <= n; i++) {
        struct {
            struct icmphdr h;
            char data[56];
        } m = {.h = {.type = ICMP_ECHO, .un.echo.sequence = htons(i)}}, r;
        memset(m.data, i, sizeof m.data);
        if (sendto(s, &m, sizeof m, 0, (void *)&a, sizeof a) < 0) fail("sendto");
        ssize_t got = recv(s, &r, sizeof r, 0);
        answered += got == sizeof r && r.h.type == ICMP_ECHOREPLY &&
                    r.h.un.echo.sequence == htons(i) && !memcmp(r.data, m.data, sizeof m.data);
    }
    printf("%d of %d\n", answered, n);
    return 0;
}

static int dns(const char *server, const char *name) {
    unsigned char q[512] = {0x12, 0x34, 1, 0, 0, 1}, r[2048];
    int at = 12;
    for (const char *p = name; *p;) {
        int n = strcspn(p, ".");
        q[at++] = n;
        memcpy(q + at, p, n);
        at += n;
        p += n + (p[n] == '.');
    }
    unsigned char tail[] = {0, 0, 1, 0, 1};
    memcpy(q + at, tail, sizeof tail);
    at += sizeof tail;
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval limit = {10, 0};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    struct sockaddr_in a = address(server, 53);
    if (connect(s, (void *)&a, sizeof a)) fail("connect");
    if (send(s, q, at, 0) != at) fail("send");
    ssize_t n = recv(s, r, sizeof r, 0);
    if (n < 0) fail("recv");
    printf("code %d, %d answers\n", r[3] & 15, r[6] << 8 | r[7]);
    return 0;
}

// The server side of `many`: one process, epoll.
static void many_server(int s) {
    int e = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = s};
    epoll_ctl(e, EPOLL_CTL_ADD, s, &ev);
    for (;;) {
        struct epoll_event got[64];
        int n = epoll_wait(e, got, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = got[i].data.fd;
            if (fd == s) {
                int c = accept4(s, NULL, NULL, SOCK_NONBLOCK);
                if (c < 0) continue;
                struct epoll_event add = {.events = EPOLLIN, .data.fd = c};
                epoll_ctl(e, EPOLL_CTL_ADD, c, &add);
                continue;
            }
            char buf[256];
            ssize_t r = read(fd, buf, sizeof buf);
            if (r > 0) {
                if (write(fd, buf, r) != r) _exit(3);
            } else {
                close(fd);
            }
        }
    }
}

static int many(int port, int n) {
    struct rlimit l = {n + 64, n + 64};
    if (setrlimit(RLIMIT_NOFILE, &l)) fail("setrlimit");
    int s = listen_on(port);
    pid_t child = fork();
    if (child == 0) many_server(s);
    close(s);
    int *fds = calloc(n, sizeof *fds), right = 0;
    for (int i = 0; i < n; i++) fds[i] = connect_to("127.0.0.1", port);
    for (int i = 0; i < n; i++)
        if (write(fds[i], &i, sizeof i) != sizeof i) fail("write");
    for (int i = 0; i < n; i++) {
        int back = -1;
        right += recv(fds[i], &back, sizeof back, MSG_WAITALL) == sizeof back && back == i;
    }
    for (int i = 0; i < n; i++) close(fds[i]);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    printf("%d of %d\n", right, n);
    return 0;
}

static int storm(int port, int n) {
    int s = listen_on(port), right = 0;
    for (int i = 0; i < n; i++) {
        int c = connect_to("127.0.0.1", port), p = accept(s, NULL, NULL);
        char byte = 0;
        if (p < 0) fail("accept");
        right += write(c, "x", 1) == 1 && read(p, &byte, 1) == 1 && byte == 'x';
        close(c);
        close(p);
    }
    printf("%d of %d\n", right, n);
    return 0;
}

// One address has 28232 ports; sockets that are only bound take one each and little memory.
static int exhaust(int port) {
    struct rlimit l = {40000, 40000};
    if (setrlimit(RLIMIT_NOFILE, &l)) fail("setrlimit");
    int s = listen_on(port), n = 0;
    struct sockaddr_in a = address("127.0.0.1", 0);
    for (;; n++) {
        int c = socket(AF_INET, SOCK_STREAM, 0);
        if (c < 0) fail("socket");
        if (bind(c, (void *)&a, sizeof a)) break;
    }
    printf("%d bound, then %s", n, strerror(errno));
    int c = socket(AF_INET, SOCK_STREAM, 0);
    a = address("127.0.0.1", port);
    printf(" and %s\n", connect(c, (void *)&a, sizeof a) ? strerror(errno) : "connected");
    close(s);
    return 0;
}

static int interfaces(void) {
    struct ifaddrs *list;
    if (getifaddrs(&list)) fail("getifaddrs");
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        char text[64] = "";
        if (!i->ifa_addr) continue;
        if (i->ifa_addr->sa_family == AF_INET)
            inet_ntop(AF_INET, &((struct sockaddr_in *)i->ifa_addr)->sin_addr, text, sizeof text);
        else if (i->ifa_addr->sa_family == AF_INET6)
            inet_ntop(AF_INET6, &((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr, text, sizeof text);
        else
            continue;
        printf("%s %s\n", i->ifa_name, text);
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *c = argc > 1 ? argv[1] : "";
    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(c, "serve") && argc == 4) return serve(atoi(argv[2]), atoi(argv[3]));
    if (!strcmp(c, "stream") && argc == 5) return stream(argv[2], atoi(argv[3]), atol(argv[4]));
    if (!strcmp(c, "give") && argc == 5) return one_way(argv[2], atoi(argv[3]), atol(argv[4]), 1);
    if (!strcmp(c, "take") && argc == 5) return one_way(argv[2], atoi(argv[3]), atol(argv[4]), 0);
    if (!strcmp(c, "scatter") && argc == 4) return scatter(argv[2], atol(argv[3]));
    if (!strcmp(c, "refused") && argc == 4) return refused(argv[2], atoi(argv[3]));
    if (!strcmp(c, "udp") && argc == 5) return udp(argv[2], atoi(argv[3]), argv[4]);
    if (!strcmp(c, "bigudp") && argc == 4) return bigudp(argv[2], atoi(argv[3]));
    if (!strcmp(c, "udpserve") && argc == 3) return udpserve(atoi(argv[2]));
    if (!strcmp(c, "ping") && argc == 4) return ping(argv[2], atoi(argv[3]));
    if (!strcmp(c, "dns") && argc == 4) return dns(argv[2], argv[3]);
    if (!strcmp(c, "many") && argc == 4) return many(atoi(argv[2]), atoi(argv[3]));
    if (!strcmp(c, "storm") && argc == 4) return storm(atoi(argv[2]), atoi(argv[3]));
    if (!strcmp(c, "exhaust") && argc == 3) return exhaust(atoi(argv[2]));
    if (!strcmp(c, "interfaces")) return interfaces();
    printf("net: what?\n");
    return 2;
}
