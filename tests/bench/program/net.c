// Rows about the network. The peer is a process of this program behind loopback, or the host's
// (tests/bench/src/peer.rs), which speaks the same: the first byte of a connection says what it
// is for, 'e' echo, 's' swallow until the end and answer with a byte, 'g' give without end,
// 'c' close.

#include "bench.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536
static char chunk[CHUNK];

struct peer {
    struct sockaddr_in address;
    int fd;
};

static int bound(struct peer *peer, int kind) {
    int fd = (int)check(socket(AF_INET, kind, 0), "socket");
    socklen_t size = sizeof peer->address;
    peer->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    check(bind(fd, (struct sockaddr *)&peer->address, size), "bind");
    check(getsockname(fd, (struct sockaddr *)&peer->address, &size), "getsockname");
    return fd;
}

static void one_connection(int fd) {
    char mode = 0, byte = 0;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (read(fd, &mode, 1) != 1) return;
    if (mode == 'e')
        while (read(fd, &byte, 1) == 1)
            if (write(fd, &byte, 1) != 1) return;
    if (mode == 's') {
        while (read(fd, chunk, CHUNK) > 0) {}
        if (write(fd, &byte, 1) != 1) return;
    }
    if (mode == 'g')
        while (write(fd, chunk, CHUNK) > 0) {}
}

static void tcp_server(void *context) {
    struct peer *peer = context;
    for (;;) {
        int fd = (int)check(accept(peer->fd, 0, 0), "accept");
        one_connection(fd);
        close(fd);
    }
}

static void udp_server(void *context) {
    struct peer *peer = context;
    struct sockaddr_in from;
    for (;;) {
        socklen_t size = sizeof from;
        ssize_t n = check(recvfrom(peer->fd, chunk, CHUNK, 0, (struct sockaddr *)&from, &size), "recvfrom");
        check(sendto(peer->fd, chunk, (size_t)n, 0, (struct sockaddr *)&from, size), "sendto");
    }
}

// The peer of a row: on the host when its argument says so, else a new process.
static struct peer peer_for(const struct row *row, int kind) {
    struct peer peer = {.fd = -1};
    if (row->argument) {
        errno = ENETUNREACH;
        if (!settings.host) fail("no host to talk to (-H)");
        peer.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)settings.host_port)};
        if (inet_pton(AF_INET, settings.host, &peer.address.sin_addr) != 1) fail(settings.host);
        return peer;
    }
    peer.fd = bound(&peer, kind);
    if (kind == SOCK_STREAM) check(listen(peer.fd, 128), "listen");
    start_child(kind == SOCK_STREAM ? tcp_server : udp_server, &peer);
    close(peer.fd);
    return peer;
}

static int connection(struct peer *peer, char mode) {
    int fd = (int)check(socket(AF_INET, SOCK_STREAM, 0), "socket"), on = 1;
    check(connect(fd, (struct sockaddr *)&peer->address, sizeof peer->address), "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    write_all(fd, &mode, 1);
    return fd;
}

static void round_trips(uint64_t n, void *context) {
    char byte = 0;
    while (n--) {
        write_all(*(int *)context, &byte, 1);
        read_all(*(int *)context, &byte, 1);
    }
}

// One operation is 1 MiB in chunks, so that it is not all about what buffers take. Every
// measurement has a connection of its own: none finds data that was waiting for it.
#define CHUNKS 16

// The answer at the end tells that all of them have arrived.
static void send_chunks(uint64_t n, void *context) {
    int fd = connection(context, 's');
    char byte;
    while (n--)
        for (int i = 0; i < CHUNKS; i++) write_all(fd, chunk, CHUNK);
    check(shutdown(fd, SHUT_WR), "shutdown");
    read_all(fd, &byte, 1);
    close(fd);
}

static void receive_chunks(uint64_t n, void *context) {
    int fd = connection(context, 'g');
    while (n--)
        for (int i = 0; i < CHUNKS; i++) read_all(fd, chunk, CHUNK);
    close(fd);
}

static void connects(uint64_t n, void *context) {
    char byte;
    while (n--) {
        int fd = connection(context, 'c');
        if (check(read(fd, &byte, 1), "read") != 0) fail("bytes from nowhere");
        close(fd);
    }
}

static void datagrams(uint64_t n, void *context) {
    char byte = 0;
    while (n--) {
        check(send(*(int *)context, &byte, 1, 0), "send");
        // One that gets lost shows as a failed row rather than as a hang.
        check(recv(*(int *)context, &byte, 1, 0), "recv");
    }
}

static void run_latency(const struct row *row) {
    struct peer peer = peer_for(row, SOCK_STREAM);
    int fd = connection(&peer, 'e');
    measure(row, round_trips, &fd);
}

static void run_send(const struct row *row) {
    struct peer peer = peer_for(row, SOCK_STREAM);
    measure_bytes(row, send_chunks, &peer, CHUNKS * CHUNK);
}

static void run_receive(const struct row *row) {
    struct peer peer = peer_for(row, SOCK_STREAM);
    measure_bytes(row, receive_chunks, &peer, CHUNKS * CHUNK);
}

static void run_connects(const struct row *row) {
    struct peer peer = peer_for(row, SOCK_STREAM);
    result(row, cost_limited(connects, &peer, 500), 0);
}

static void run_datagrams(const struct row *row) {
    struct peer peer = peer_for(row, SOCK_DGRAM);
    int fd = (int)check(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    struct timeval limit = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    check(connect(fd, (struct sockaddr *)&peer.address, sizeof peer.address), "connect");
    measure(row, datagrams, &fd);
}

const struct row net_rows[] = {
    {"tcp-loop-latency", TIME, 1, run_latency, 0, "a byte there and back over loopback"},
    {"tcp-loop-bandwidth", BANDWIDTH, 1, run_send, 0, "64 KiB writes over loopback"},
    {"tcp-loop-connects", RATE, 0, run_connects, 0, "connect, one byte, the peer closes, over loopback"},
    {"udp-loop-latency", TIME, 1, run_datagrams, 0, "a datagram there and back over loopback"},
    {"tcp-host-latency", TIME, 0, run_latency, 1, "a byte to the host and back"},
    {"tcp-host-send", BANDWIDTH, 0, run_send, 1, "64 KiB writes to the host"},
    {"tcp-host-receive", BANDWIDTH, 0, run_receive, 1, "64 KiB reads from the host"},
    {"tcp-host-connects", RATE, 0, run_connects, 1, "connect to the host, one byte, it closes"},
    {"udp-host-latency", TIME, 0, run_datagrams, 1, "a datagram to the host and back"},
    {0},
};
