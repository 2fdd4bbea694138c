/* Options of internet sockets that show in other sockets' packets: type of service, control messages of a send,
 * groups, reports of errors; how close waits, and how unix sockets are listed. */
#include "conform.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sys/un.h>

static int get(int s, int level, int o) { int v = -7; socklen_t l = sizeof v; return getsockopt(s, level, o, &v, &l) ? -errno : v; }
static int set(int s, int level, int o, int v) { return setsockopt(s, level, o, &v, sizeof v); }

/* A receiver and where it is; `six` over IPv6. */
static int receiver(int six, struct sockaddr_storage *at, socklen_t *len) {
    int s = socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
    memset(at, 0, sizeof *at);
    if (six) {
        struct sockaddr_in6 *a = (void *)at;
        a->sin6_family = AF_INET6;
        a->sin6_addr = in6addr_loopback;
    } else {
        struct sockaddr_in *a = (void *)at;
        a->sin_family = AF_INET;
        a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    *len = six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    bind(s, (void *)at, *len);
    getsockname(s, (void *)at, len);
    struct timeval patience = {1, 0};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return s;
}

/* Takes a datagram and prints its control messages and sender. */
static void take(int s, int flags) {
    char data[200], control[500], text[INET6_ADDRSTRLEN];
    struct sockaddr_storage from = {0};
    struct iovec v = {data, sizeof data};
    struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(s, &m, flags);
    if (n < 0) { printf("  taken: %s\n", strerror(errno)); return; }
    struct sockaddr_in *f4 = (void *)&from;
    struct sockaddr_in6 *f6 = (void *)&from;
    inet_ntop(from.ss_family, from.ss_family == AF_INET6 ? (void *)&f6->sin6_addr : (void *)&f4->sin_addr, text, sizeof text);
    printf("  taken: %zd '%.*s' from %s, flags %x\n", n, (int)n, data, text, m.msg_flags);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        int length = c->cmsg_len - CMSG_LEN(0);
        printf("    level %d type %d:", c->cmsg_level, c->cmsg_type);
        for (int i = 0; i < length; i++) printf(" %02x", CMSG_DATA(c)[i]);
        printf("\n");
    }
}

/* Sends `text` to `at` with one control message. */
static long with(int s, const char *text, struct sockaddr_storage *at, socklen_t len, int level, int type, const void *data, int n) {
    char control[200] = {0};
    struct iovec v = {(void *)text, strlen(text)};
    struct msghdr m = {.msg_name = at, .msg_namelen = len, .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(n)};
    struct cmsghdr *c = (void *)control;
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(n), .cmsg_level = level, .cmsg_type = type};
    memcpy(CMSG_DATA(c), data, n);
    return sendmsg(s, &m, 0);
}
static long with_int(int s, const char *text, struct sockaddr_storage *at, socklen_t len, int level, int type, int value) {
    return with(s, text, at, len, level, type, &value, sizeof value);
}

static void tos_values(void) {
    int u = socket(AF_INET, SOCK_DGRAM, 0), t = socket(AF_INET, SOCK_STREAM, 0);
    printf("  %d %d\n", get(u, IPPROTO_IP, IP_TOS), get(t, IPPROTO_IP, IP_TOS));
    SHOW(set(u, IPPROTO_IP, IP_TOS, IPTOS_LOWDELAY)); printf("  %d\n", get(u, IPPROTO_IP, IP_TOS));
    SHOW(set(u, IPPROTO_IP, IP_TOS, 0xff)); printf("  %d\n", get(u, IPPROTO_IP, IP_TOS));
    SHOW(set(u, IPPROTO_IP, IP_TOS, 0x1ab)); printf("  %d\n", get(u, IPPROTO_IP, IP_TOS));
    SHOW(set(u, IPPROTO_IP, IP_TOS, -1)); printf("  %d\n", get(u, IPPROTO_IP, IP_TOS));
    char small = 0x20; SHOW(setsockopt(u, IPPROTO_IP, IP_TOS, &small, 1)); printf("  %d\n", get(u, IPPROTO_IP, IP_TOS));
    SHOW(setsockopt(u, IPPROTO_IP, IP_TOS, &small, 0)); printf("  %d\n", get(u, IPPROTO_IP, IP_TOS));
    socklen_t l = 1; SHOW(getsockopt(u, IPPROTO_IP, IP_TOS, &small, &l)); printf("  %d %d\n", small, l);
    /* The marks of congestion are TCP's own. */
    SHOW(set(t, IPPROTO_IP, IP_TOS, 0xff)); printf("  %d\n", get(t, IPPROTO_IP, IP_TOS));
    SHOW(set(u, IPPROTO_IP, IP_RECVTOS, 1)); printf("  %d\n", get(u, IPPROTO_IP, IP_RECVTOS));
    int six = socket(AF_INET6, SOCK_DGRAM, 0), st = socket(AF_INET6, SOCK_STREAM, 0);
    printf("  %d\n", get(six, IPPROTO_IPV6, IPV6_TCLASS));
    SHOW(set(six, IPPROTO_IPV6, IPV6_TCLASS, 0xb9)); printf("  %d\n", get(six, IPPROTO_IPV6, IPV6_TCLASS));
    SHOW(set(six, IPPROTO_IPV6, IPV6_TCLASS, 256)); SHOW(set(six, IPPROTO_IPV6, IPV6_TCLASS, -2));
    SHOW(set(six, IPPROTO_IPV6, IPV6_TCLASS, -1)); printf("  %d\n", get(six, IPPROTO_IPV6, IPV6_TCLASS));
    SHOW(setsockopt(six, IPPROTO_IPV6, IPV6_TCLASS, &small, 1));
    SHOW(set(st, IPPROTO_IPV6, IPV6_TCLASS, 0xff)); printf("  %d\n", get(st, IPPROTO_IPV6, IPV6_TCLASS));
    SHOW(set(six, IPPROTO_IP, IP_TOS, 8)); printf("  %d %d\n", get(six, IPPROTO_IP, IP_TOS), get(six, IPPROTO_IPV6, IPV6_TCLASS));
    SHOW(set(u, IPPROTO_IPV6, IPV6_TCLASS, 8)); SHOW(set(six, IPPROTO_IPV6, IPV6_RECVTCLASS, 1)); printf("  %d\n", get(six, IPPROTO_IPV6, IPV6_RECVTCLASS));
}

static void tos_received(void) {
    struct sockaddr_storage at; socklen_t len;
    int b = receiver(0, &at, &len), a = socket(AF_INET, SOCK_DGRAM, 0);
    set(b, IPPROTO_IP, IP_RECVTOS, 1);
    SHOW(sendto(a, "plain", 5, 0, (void *)&at, len)); take(b, 0);
    set(a, IPPROTO_IP, IP_TOS, 0x10); SHOW(sendto(a, "marked", 6, 0, (void *)&at, len)); take(b, 0);
    SHOW(with_int(a, "once", &at, len, IPPROTO_IP, IP_TOS, 0x88)); take(b, 0);
    SHOW(sendto(a, "again", 5, 0, (void *)&at, len)); take(b, 0);
    int b6 = receiver(1, &at, &len), a6 = socket(AF_INET6, SOCK_DGRAM, 0);
    set(b6, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    SHOW(sendto(a6, "plain", 5, 0, (void *)&at, len)); take(b6, 0);
    set(a6, IPPROTO_IPV6, IPV6_TCLASS, 0xb8); SHOW(sendto(a6, "marked", 6, 0, (void *)&at, len)); take(b6, 0);
    SHOW(with_int(a6, "once", &at, len, IPPROTO_IPV6, IPV6_TCLASS, 0x21)); take(b6, 0);
}

static void hops_once(void) {
    struct sockaddr_storage at; socklen_t len;
    int b = receiver(0, &at, &len), a = socket(AF_INET, SOCK_DGRAM, 0);
    set(b, IPPROTO_IP, IP_RECVTTL, 1);
    SHOW(with_int(a, "nine", &at, len, IPPROTO_IP, IP_TTL, 9)); take(b, 0);
    SHOW(with_int(a, "x", &at, len, IPPROTO_IP, IP_TTL, 0)); SHOW(with_int(a, "x", &at, len, IPPROTO_IP, IP_TTL, 256));
    SHOW(with_int(a, "x", &at, len, IPPROTO_IP, IP_TOS, 256)); SHOW(with(a, "x", &at, len, IPPROTO_IP, IP_TOS, "ab", 2));
    SHOW(with_int(a, "x", &at, len, IPPROTO_IP, 99, 1)); SHOW(with_int(a, "other level", &at, len, 99, 1, 1)); take(b, 0);
    int b6 = receiver(1, &at, &len), a6 = socket(AF_INET6, SOCK_DGRAM, 0);
    set(b6, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    SHOW(with_int(a6, "nine", &at, len, IPPROTO_IPV6, IPV6_HOPLIMIT, 9)); take(b6, 0);
    SHOW(with_int(a6, "own", &at, len, IPPROTO_IPV6, IPV6_HOPLIMIT, -1)); take(b6, 0);
    SHOW(with_int(a6, "x", &at, len, IPPROTO_IPV6, IPV6_HOPLIMIT, 256)); SHOW(with_int(a6, "x", &at, len, IPPROTO_IPV6, 99, 1));
    SHOW(with_int(a6, "x", &at, len, IPPROTO_IPV6, IPV6_TCLASS, 256));
}

static void sources(void) {
    struct sockaddr_storage at; socklen_t len;
    int b = receiver(0, &at, &len), a = socket(AF_INET, SOCK_DGRAM, 0);
    set(b, IPPROTO_IP, IP_PKTINFO, 1);
    struct in_pktinfo i = {0};
    SHOW(with(a, "any", &at, len, IPPROTO_IP, IP_PKTINFO, &i, sizeof i)); take(b, 0);
    inet_pton(AF_INET, "127.0.0.9", &i.ipi_spec_dst);
    SHOW(with(a, "nine", &at, len, IPPROTO_IP, IP_PKTINFO, &i, sizeof i)); take(b, 0);
    i.ipi_ifindex = if_nametoindex("lo");
    SHOW(with(a, "lo", &at, len, IPPROTO_IP, IP_PKTINFO, &i, sizeof i)); take(b, 0);
    inet_pton(AF_INET, "203.0.113.1", &i.ipi_spec_dst);
    SHOW(with(a, "x", &at, len, IPPROTO_IP, IP_PKTINFO, &i, sizeof i));
    i.ipi_ifindex = 0;
    SHOW(with(a, "x", &at, len, IPPROTO_IP, IP_PKTINFO, &i, sizeof i));
    i.ipi_spec_dst.s_addr = 0; i.ipi_ifindex = 4711;
    SHOW(with(a, "x", &at, len, IPPROTO_IP, IP_PKTINFO, &i, sizeof i));
    SHOW(with(a, "x", &at, len, IPPROTO_IP, IP_PKTINFO, &i, 8));
    int b6 = receiver(1, &at, &len), a6 = socket(AF_INET6, SOCK_DGRAM, 0);
    set(b6, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    struct in6_pktinfo j = {0};
    SHOW(with(a6, "any", &at, len, IPPROTO_IPV6, IPV6_PKTINFO, &j, sizeof j)); take(b6, 0);
    j.ipi6_addr = in6addr_loopback; j.ipi6_ifindex = if_nametoindex("lo");
    SHOW(with(a6, "lo", &at, len, IPPROTO_IPV6, IPV6_PKTINFO, &j, sizeof j)); take(b6, 0);
    inet_pton(AF_INET6, "2001:db8::9", &j.ipi6_addr);
    SHOW(with(a6, "x", &at, len, IPPROTO_IPV6, IPV6_PKTINFO, &j, sizeof j));
    j = (struct in6_pktinfo){.ipi6_ifindex = 4711};
    SHOW(with(a6, "x", &at, len, IPPROTO_IPV6, IPV6_PKTINFO, &j, sizeof j)); SHOW(with(a6, "x", &at, len, IPPROTO_IPV6, IPV6_PKTINFO, &j, 8));
}

/* Streams take control messages of other kinds and do nothing about them. */
static void streams(void) {
    int s = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_storage at = {.ss_family = AF_INET}; socklen_t len = sizeof(struct sockaddr_in);
    ((struct sockaddr_in *)&at)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SHOW(set(s, IPPROTO_IP, IP_TOS, 0x48)); bind(s, (void *)&at, len); listen(s, 1); getsockname(s, (void *)&at, &len);
    SHOW(connect(c, (void *)&at, len)); int p = accept(s, 0, 0); printf("  inherited %d\n", get(p, IPPROTO_IP, IP_TOS));
    SHOW(with_int(c, "hello", &at, len, IPPROTO_IP, IP_TTL, 0)); char b[9]; SHOW(read(p, b, 9));
    int pair[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, pair); SHOW(with_int(pair[0], "unix", 0, 0, IPPROTO_IP, IP_TTL, 0)); SHOW(read(pair[1], b, 9));
}

/* The row of a socket in /proc/net/unix. */
static void row(const char *what, int s) {
    struct stat st; fstat(s, &st);
    FILE *f = fopen("/proc/net/unix", "r"); char line[300];
    while (f && fgets(line, sizeof line, f)) {
        unsigned flags, type, state; unsigned long inode; char path[200] = "";
        if (sscanf(line, "%*[^:]: %*x %*x %x %x %x %lu %199s", &flags, &type, &state, &inode, path) >= 4 && inode == st.st_ino)
            printf("  %s: %08x %04x %02x '%s'\n", what, flags, type, state, path);
    }
    if (f) fclose(f);
}
static void unix_rows(void) {
    struct sockaddr_un at = {AF_UNIX, "row.sock"}, name = {AF_UNIX, "\0oxbow row"};
    socklen_t named = sizeof(sa_family_t) + 10;
    int s = socket(AF_UNIX, SOCK_STREAM, 0), d = socket(AF_UNIX, SOCK_DGRAM, 0), q = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    row("fresh stream", s); row("fresh datagram", d); row("fresh seqpacket", q);
    SHOW(bind(s, (void *)&at, sizeof at)); row("bound", s); SHOW(listen(s, 2)); row("listens", s);
    SHOW(bind(d, (void *)&name, named)); row("abstract", d);
    int c = socket(AF_UNIX, SOCK_STREAM, 0); SHOW(connect(c, (void *)&at, sizeof at)); row("client", c);
    int p = accept(s, 0, 0); row("accepted", p); close(p); row("left alone", c);
    int e = socket(AF_UNIX, SOCK_DGRAM, 0); SHOW(connect(e, (void *)&name, named)); row("has a destination", e);
    int pair[2]; socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair); row("pair", pair[0]); int was = dup(pair[1]); close(pair[1]); row("other", was);
    unlink("row.sock");
}

/* A connection that its server does not read from, filled; closing the client waits for at most `seconds`. */
static int full(int seconds, int *peer) {
    int s = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), room = 4096;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; socklen_t len = sizeof at;
    setsockopt(s, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    bind(s, (void *)&at, len); listen(s, 1); getsockname(s, (void *)&at, &len);
    connect(c, (void *)&at, len); *peer = accept(s, 0, 0); close(s);
    static char data[65536]; fcntl(c, F_SETFL, O_NONBLOCK);
    while (write(c, data, sizeof data) > 0);
    struct linger l = {seconds >= 0, seconds}; if (seconds >= 0) setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    return c;
}
static void waited(const char *what, long since, long least, long most) {
    long n = now_ms() - since; printf("  %s: %s\n", what, n < least ? "too short" : n > most ? "too long" : "as told");
}
static void on_alarm(int s) {}
static void lingers(void) {
    int p, c = full(-1, &p); long t = now_ms(); SHOW(close(c)); waited("without", t, 0, 900); close(p);
    c = full(1, &p); t = now_ms(); SHOW(close(c)); waited("a second", t, 950, 7000); close(p);
    c = full(8, &p); t = now_ms();
    if (fork() == 0) { static char data[65536]; close(c); ms(300); while (read(p, data, sizeof data) > 0); _exit(0); }
    close(p); ms(100); SHOW(close(c)); waited("until it is read", t, 280, 7000); while (wait(0) > 0);
    struct sigaction sa = {.sa_handler = on_alarm}; sigaction(SIGALRM, &sa, 0); struct itimerval in = {{0, 0}, {0, 200000}};
    c = full(8, &p); t = now_ms(); setitimer(ITIMER_REAL, &in, 0); SHOW(close(c)); waited("until a signal", t, 150, 7000); close(p);
    t = now_ms(); if (fork() == 0) { full(8, &p); _exit(0); } while (wait(0) > 0); waited("an end does not wait", t, 0, 7000);
    c = full(0, &p); t = now_ms(); SHOW(close(c)); waited("a reset", t, 0, 900); char b[8]; while (read(p, b, 8) > 0); printf("  %s\n", strerror(errno));
}

static struct sockaddr_in four(const char *host, int port) { struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)}; inet_pton(AF_INET, host, &a.sin_addr); return a; }
static int bound_to(const char *host, int *port) {
    int s = socket(AF_INET, SOCK_DGRAM, 0), on = 1; struct sockaddr_in a = four(host, *port); socklen_t l = sizeof a;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); if (bind(s, (void *)&a, sizeof a)) printf("  bind: %s\n", strerror(errno));
    getsockname(s, (void *)&a, &l); *port = ntohs(a.sin_port);
    struct timeval patience = {0, 100000}; setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience); return s;
}
static int member(int s, int option, const char *group, const char *through) { struct ip_mreq m; inet_pton(AF_INET, group, &m.imr_multiaddr); inet_pton(AF_INET, through, &m.imr_interface); return setsockopt(s, IPPROTO_IP, option, &m, sizeof m); }
static int member_by_index(int s, int option, const char *group, int index) { struct ip_mreqn m = {.imr_ifindex = index}; inet_pton(AF_INET, group, &m.imr_multiaddr); return setsockopt(s, IPPROTO_IP, option, &m, sizeof m); }
static int asked(int s, int level, int option, int index, const char *group) {
    struct group_req r = {.gr_interface = index}; struct sockaddr_in *a = (void *)&r.gr_group; struct sockaddr_in6 *a6 = (void *)&r.gr_group;
    if (strchr(group, ':')) { a6->sin6_family = AF_INET6; inet_pton(AF_INET6, group, &a6->sin6_addr); } else { a->sin_family = AF_INET; inet_pton(AF_INET, group, &a->sin_addr); }
    return setsockopt(s, level, option, &r, sizeof r);
}
#define G "239.77.1.1"
static void group_calls(void) {
    int port = 0, s = bound_to("0.0.0.0", &port), t = socket(AF_INET, SOCK_STREAM, 0), lo = if_nametoindex("lo"), v; socklen_t l;
    SHOW(member(s, IP_ADD_MEMBERSHIP, "10.0.0.1", "127.0.0.1")); SHOW(member(s, IP_ADD_MEMBERSHIP, G, "127.0.0.1")); SHOW(member(s, IP_ADD_MEMBERSHIP, G, "127.0.0.1"));
    SHOW(member_by_index(s, IP_ADD_MEMBERSHIP, G, lo)); SHOW(member_by_index(s, IP_ADD_MEMBERSHIP, G, 4711)); SHOW(member(s, IP_ADD_MEMBERSHIP, G, "203.0.113.5"));
    SHOW(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &port, 4)); SHOW(member(s, IP_DROP_MEMBERSHIP, "239.77.1.2", "127.0.0.1")); SHOW(member_by_index(s, IP_DROP_MEMBERSHIP, G, 4711));
    SHOW(member_by_index(s, IP_DROP_MEMBERSHIP, G, lo)); SHOW(member_by_index(s, IP_DROP_MEMBERSHIP, G, lo)); SHOW(member(s, IP_DROP_MEMBERSHIP, "10.0.0.1", "127.0.0.1"));
    SHOW(member(t, IP_ADD_MEMBERSHIP, G, "127.0.0.1")); int most = 0; for (int i = 1; i < 40; i++) { char name[20]; sprintf(name, "239.77.2.%d", i); if (member(s, IP_ADD_MEMBERSHIP, name, "127.0.0.1")) break; most++; } printf("  %d, then %s\n", most, strerror(errno)); close(s);
    s = bound_to("0.0.0.0", &port); SHOW(asked(s, IPPROTO_IP, MCAST_JOIN_GROUP, lo, G)); SHOW(asked(s, IPPROTO_IP, MCAST_JOIN_GROUP, lo, G)); SHOW(asked(s, IPPROTO_IP, MCAST_LEAVE_GROUP, lo, G)); SHOW(asked(s, IPPROTO_IP, MCAST_LEAVE_GROUP, lo, G)); SHOW(asked(s, IPPROTO_IP, MCAST_JOIN_GROUP, lo, "ff02::77")); SHOW(asked(s, IPPROTO_IP, MCAST_JOIN_GROUP, 4711, G)); SHOW(setsockopt(s, IPPROTO_IP, MCAST_JOIN_GROUP, &v, 4));
    printf("  %d %d %d\n", get(s, IPPROTO_IP, IP_MULTICAST_LOOP), get(s, IPPROTO_IP, IP_MULTICAST_TTL), get(s, IPPROTO_IP, IP_MULTICAST_ALL));
    SHOW(set(s, IPPROTO_IP, IP_MULTICAST_LOOP, 0)); SHOW(set(s, IPPROTO_IP, IP_MULTICAST_ALL, 2)); SHOW(set(s, IPPROTO_IP, IP_MULTICAST_ALL, 0)); SHOW(set(s, IPPROTO_IP, IP_MULTICAST_TTL, 256)); SHOW(set(s, IPPROTO_IP, IP_MULTICAST_TTL, 7)); char small = 1; SHOW(setsockopt(s, IPPROTO_IP, IP_MULTICAST_LOOP, &small, 1)); SHOW(setsockopt(s, IPPROTO_IP, IP_MULTICAST_LOOP, &small, 0)); SHOW(setsockopt(s, IPPROTO_IP, IP_MULTICAST_TTL, &small, 0));
    printf("  %d %d %d\n", get(s, IPPROTO_IP, IP_MULTICAST_LOOP), get(s, IPPROTO_IP, IP_MULTICAST_TTL), get(s, IPPROTO_IP, IP_MULTICAST_ALL));
    struct in_addr a; inet_pton(AF_INET, "127.0.0.1", &a); SHOW(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &a, sizeof a)); v = -7; l = sizeof v; SHOW(getsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &v, &l)); printf("  %08x %d\n", ntohl(v), l); SHOW(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &a, 3)); inet_pton(AF_INET, "203.0.113.5", &a); SHOW(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &a, sizeof a)); a.s_addr = 0; SHOW(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &a, sizeof a)); SHOW(getsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &v, &l)); printf("  %08x\n", ntohl(v)); struct ip_mreqn by = {.imr_ifindex = lo}; SHOW(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by)); by.imr_ifindex = 4711; SHOW(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by)); SHOW(setsockopt(t, IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by)); SHOW(set(t, IPPROTO_IP, IP_MULTICAST_TTL, 3));
}
static void group_traffic(void) {
    int port = 0, b = bound_to("0.0.0.0", &port), c = bound_to("0.0.0.0", &port), g = bound_to(G, &port), a = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = four(G, port); struct ip_mreqn lo = {.imr_ifindex = if_nametoindex("lo"), .imr_address.s_addr = htonl(INADDR_LOOPBACK)}; SHOW(setsockopt(a, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof lo)); set(b, IPPROTO_IP, IP_PKTINFO, 1); set(b, IPPROTO_IP, IP_RECVTTL, 1);
    SHOW(sendto(a, "nobody", 6, 0, (void *)&to, sizeof to)); take(b, 0); SHOW(member(b, IP_ADD_MEMBERSHIP, G, "127.0.0.1")); SHOW(sendto(a, "one", 3, 0, (void *)&to, sizeof to)); take(b, 0); take(c, 0); take(g, 0); take(b, 0);
    SHOW(set(c, IPPROTO_IP, IP_MULTICAST_ALL, 0)); set(a, IPPROTO_IP, IP_MULTICAST_TTL, 5); SHOW(sendto(a, "two", 3, 0, (void *)&to, sizeof to)); take(b, 0); take(c, 0); take(g, 0); SHOW(member(c, IP_ADD_MEMBERSHIP, G, "127.0.0.1")); SHOW(member(b, IP_DROP_MEMBERSHIP, G, "127.0.0.1")); SHOW(sendto(a, "three", 5, 0, (void *)&to, sizeof to)); take(b, 0); take(c, 0); close(c); SHOW(sendto(a, "four", 4, 0, (void *)&to, sizeof to)); take(b, 0); take(g, 0); take(g, 0);
    struct in_addr own; inet_pton(AF_INET, "127.0.0.7", &own); member(b, IP_ADD_MEMBERSHIP, G, "127.0.0.1"); int d = bound_to("127.0.0.7", &(int){0}); setsockopt(d, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof lo); SHOW(sendto(d, "from seven", 10, 0, (void *)&to, sizeof to)); take(b, 0); struct in_pktinfo i = {.ipi_ifindex = lo.imr_ifindex, .ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK)}; int e = socket(AF_INET, SOCK_DGRAM, 0); SHOW(with(e, "by message", (void *)&to, sizeof to, IPPROTO_IP, IP_PKTINFO, &i, sizeof i)); take(b, 0);
}
static void groups_of_six(void) {
    int s = socket(AF_INET6, SOCK_DGRAM, 0), a = socket(AF_INET6, SOCK_DGRAM, 0), lo = if_nametoindex("lo"), t = socket(AF_INET6, SOCK_STREAM, 0); struct sockaddr_in6 any = {.sin6_family = AF_INET6}; socklen_t l = sizeof any; bind(s, (void *)&any, l); getsockname(s, (void *)&any, &l);
    struct timeval patience = {0, 100000}; setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience); struct ipv6_mreq m = {.ipv6mr_interface = lo}; inet_pton(AF_INET6, "ff05::77", &m.ipv6mr_multiaddr);
    SHOW(setsockopt(s, IPPROTO_IPV6, IPV6_JOIN_GROUP, &m, sizeof m)); SHOW(setsockopt(s, IPPROTO_IPV6, IPV6_JOIN_GROUP, &m, sizeof m)); SHOW(setsockopt(s, IPPROTO_IPV6, IPV6_JOIN_GROUP, &m, 16)); SHOW(setsockopt(t, IPPROTO_IPV6, IPV6_JOIN_GROUP, &m, sizeof m)); struct ipv6_mreq w = m; w.ipv6mr_interface = 4711; SHOW(setsockopt(s, IPPROTO_IPV6, IPV6_JOIN_GROUP, &w, sizeof w)); SHOW(setsockopt(s, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &w, sizeof w)); w = m; w.ipv6mr_multiaddr = in6addr_loopback; SHOW(setsockopt(s, IPPROTO_IPV6, IPV6_JOIN_GROUP, &w, sizeof w));
    printf("  %d %d %d %d\n", get(s, IPPROTO_IPV6, IPV6_MULTICAST_IF), get(s, IPPROTO_IPV6, IPV6_MULTICAST_LOOP), get(s, IPPROTO_IPV6, IPV6_MULTICAST_HOPS), get(s, IPPROTO_IPV6, 29)); SHOW(set(s, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 2)); SHOW(set(s, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1)); SHOW(set(a, IPPROTO_IPV6, IPV6_MULTICAST_IF, 4711)); SHOW(set(a, IPPROTO_IPV6, IPV6_MULTICAST_IF, lo)); SHOW(set(t, IPPROTO_IPV6, IPV6_MULTICAST_IF, lo)); SHOW(set(t, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 3)); printf("  %d\n", get(a, IPPROTO_IPV6, IPV6_MULTICAST_IF) == lo);
    m.ipv6mr_interface = 0; SHOW(setsockopt(s, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &m, sizeof m)); SHOW(setsockopt(s, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &m, sizeof m)); SHOW(asked(s, IPPROTO_IPV6, MCAST_JOIN_GROUP, lo, "ff05::77")); SHOW(asked(s, IPPROTO_IPV6, MCAST_JOIN_GROUP, lo, G)); SHOW(asked(s, IPPROTO_IPV6, MCAST_LEAVE_GROUP, lo, "ff05::77"));
}

/* Poll's events, once one of them is an error or 100 ms went by. */
static void errors_polled(int s) { struct pollfd p = {s, POLLIN, 0}; int r = poll(&p, 1, 100); printf("  polled: %d %x\n", r, p.revents); }
/* A port where nobody is. */
static int free_port(void) { int port = 0; close(bound_to("127.0.0.1", &port)); return port; }
/* Prints a report of the queue of errors; ports and what Linux does not promise are left out. */
static void report(int s, int flags) {
    char data[200], control[500], text[INET6_ADDRSTRLEN]; struct sockaddr_storage to = {0}; struct iovec v = {data, sizeof data};
    struct msghdr m = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(s, &m, MSG_ERRQUEUE | flags);
    if (n < 0) { printf("  report: %s\n", strerror(errno)); return; }
    inet_ntop(to.ss_family, to.ss_family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)&to)->sin6_addr : (void *)&((struct sockaddr_in *)&to)->sin_addr, text, sizeof text);
    printf("  report: %zd '%.*s' to %s, flags %x, name %d\n", n, (int)n, data, text, m.msg_flags, m.msg_namelen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        int length = c->cmsg_len - CMSG_LEN(0); unsigned char *d = CMSG_DATA(c); printf("    level %d type %d, %d bytes", c->cmsg_level, c->cmsg_type, length);
        if (length < 32) { printf(": %d\n", d[0]); continue; }
        int family = *(sa_family_t *)(d + 16); printf(": %s, origin %d type %d code %d info %d data %d, offender %d", strerror(*(int *)d), d[4], d[5], d[6], *(int *)(d + 8), *(int *)(d + 12), family);
        if (family) printf(" %s", inet_ntop(family, d + 16 + (family == AF_INET6 ? 8 : 4), text, sizeof text));
        printf("\n");
    }
}
static void error_options(void) {
    int u = socket(AF_INET, SOCK_DGRAM, 0), six = socket(AF_INET6, SOCK_DGRAM, 0), t = socket(AF_INET, SOCK_STREAM, 0); printf("  %d %d\n", get(u, IPPROTO_IP, IP_RECVERR), get(six, IPPROTO_IPV6, IPV6_RECVERR));
    SHOW(set(u, IPPROTO_IP, IP_RECVERR, 5)); char small = 1; SHOW(setsockopt(six, IPPROTO_IPV6, IPV6_RECVERR, &small, 1)); SHOW(set(six, IPPROTO_IPV6, IPV6_RECVERR, 1)); printf("  %d %d\n", get(u, IPPROTO_IP, IP_RECVERR), get(six, IPPROTO_IPV6, IPV6_RECVERR));
    SHOW(setsockopt(u, IPPROTO_IP, IP_RECVERR, &small, 1)); report(u, 0); report(six, 0); char b; SHOW(recv(t, &b, 1, MSG_ERRQUEUE));
}
static void error_reports(void) {
    struct sockaddr_in to = four("127.0.0.1", free_port()); char b[8]; int on = 1;
    int a = socket(AF_INET, SOCK_DGRAM, 0); SHOW(sendto(a, "silent", 6, 0, (void *)&to, sizeof to)); errors_polled(a); SHOW(recv(a, b, 8, MSG_DONTWAIT)); report(a, 0);
    set(a, IPPROTO_IP, IP_RECVERR, on); set(a, IPPROTO_IP, IP_RECVTTL, on); SHOW(sendto(a, "told", 4, 0, (void *)&to, sizeof to)); errors_polled(a); SHOW(recv(a, b, 8, MSG_DONTWAIT)); errors_polled(a); SHOW(recv(a, b, 8, MSG_DONTWAIT)); report(a, 0); errors_polled(a); report(a, 0);
    SHOW(sendto(a, "one", 3, 0, (void *)&to, sizeof to)); SHOW(sendto(a, "two", 3, 0, (void *)&to, sizeof to)); SHOW(sendto(a, "two", 3, 0, (void *)&to, sizeof to)); ms(5); report(a, 0); printf("  pending %d\n", get(a, SOL_SOCKET, SO_ERROR)); report(a, MSG_PEEK); report(a, 0); printf("  pending %d\n", get(a, SOL_SOCKET, SO_ERROR));
    SHOW(sendto(a, "gone", 4, 0, (void *)&to, sizeof to)); ms(5); SHOW(set(a, IPPROTO_IP, IP_RECVERR, 0)); report(a, 0);
    int c = socket(AF_INET, SOCK_DGRAM, 0); set(c, IPPROTO_IP, IP_RECVERR, on); connect(c, (void *)&to, sizeof to); SHOW(send(c, "connected", 9, 0)); ms(5); SHOW(send(c, "x", 1, 0)); report(c, 0); report(c, 0);
    struct iovec v = {b, 2}; struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1}; SHOW(send(c, "short", 5, 0)); ms(5); SHOW(recvmsg(c, &m, MSG_ERRQUEUE)); printf("  flags %x\n", m.msg_flags);
    int s6 = socket(AF_INET6, SOCK_DGRAM, 0); struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback, .sin6_port = to.sin_port}; set(s6, IPPROTO_IPV6, IPV6_RECVERR, on); SHOW(sendto(s6, "six", 3, 0, (void *)&to6, sizeof to6)); ms(5); report(s6, 0); SHOW(recv(s6, b, 8, MSG_DONTWAIT));
    int m6 = socket(AF_INET6, SOCK_DGRAM, 0); inet_pton(AF_INET6, "::ffff:127.0.0.1", &to6.sin6_addr); set(m6, IPPROTO_IP, IP_RECVERR, on); SHOW(sendto(m6, "mapped", 6, 0, (void *)&to6, sizeof to6)); ms(5); report(m6, 0);
}

int main(void) {
    SECTION(tos_values); SECTION(tos_received); SECTION(hops_once); SECTION(sources); SECTION(streams); SECTION(unix_rows); SECTION(lingers); SECTION(group_calls); SECTION(group_traffic); SECTION(groups_of_six);
    SECTION(error_options); SECTION(error_reports);
    return 0;
}
