// Rows about processes that talk to each other.

#include "bench.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// linux/futex.h, which musl leaves to the kernel's headers.
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129

#define CHUNK 65536
static char chunk[CHUNK];

struct ends {
    int here[2];  // read, write
    int there[2]; // read, write
};

static void echo(void *context) {
    struct ends *ends = context;
    char byte;
    close(ends->here[1]);
    if (ends->here[0] != ends->here[1]) close(ends->here[0]);
    while (read(ends->there[0], &byte, 1) == 1) write_all(ends->there[1], &byte, 1);
}

static void round_trips(uint64_t n, void *context) {
    struct ends *ends = context;
    char byte = 0;
    while (n--) {
        write_all(ends->here[1], &byte, 1);
        read_all(ends->here[0], &byte, 1);
    }
}

static void swallow(void *context) {
    struct ends *ends = context;
    close(ends->here[1]);
    while (read(ends->there[0], chunk, CHUNK) > 0) {}
}

static void pour(uint64_t n, void *context) {
    struct ends *ends = context;
    while (n--) write_all(ends->here[1], chunk, CHUNK);
}

static struct ends pipes(void) {
    int to[2], from[2];
    check(pipe(to), "pipe");
    check(pipe(from), "pipe");
    return (struct ends){{from[0], to[1]}, {to[0], from[1]}};
}

static struct ends sockets(void) {
    int pair[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    return (struct ends){{pair[0], pair[0]}, {pair[1], pair[1]}};
}

static struct ends ends_of(const struct row *row) { return row->argument ? sockets() : pipes(); }

static void run_latency(const struct row *row) {
    struct ends ends = ends_of(row);
    start_child(echo, &ends);
    measure(row, round_trips, &ends);
}

static void run_bandwidth(const struct row *row) {
    struct ends ends = ends_of(row);
    start_child(swallow, &ends);
    measure_bytes(row, pour, &ends, CHUNK);
}

// Two threads that wake each other through one word each.
static atomic_uint words[2];
static atomic_int over;

static void wait_while(atomic_uint *word, unsigned value) {
    while (atomic_load(word) == value) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, 0);
}

static void set_and_wake(atomic_uint *word, unsigned value) {
    atomic_store(word, value);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1);
}

static void *partner(void *context) {
    for (unsigned turn = 0; !atomic_load(&over); turn++) {
        wait_while(&words[0], turn);
        set_and_wake(&words[1], turn + 1);
    }
    return context;
}

static void futexes(uint64_t n, void *context) {
    unsigned *turn = context;
    while (n--) {
        unsigned before = (*turn)++;
        set_and_wake(&words[0], *turn);
        wait_while(&words[1], before);
    }
}

static void run_futex(const struct row *row) {
    pthread_t thread;
    unsigned turn = 0;
    if (pthread_create(&thread, 0, partner, 0)) fail("pthread_create");
    measure(row, futexes, &turn);
    atomic_store(&over, 1);
}

struct waiting {
    int epoll;
    int nr;
    int *fds;
};

static void epolls(uint64_t n, void *context) {
    struct waiting *waiting = context;
    uint64_t one = 1, value;
    for (uint64_t i = 0; i < n; i++) {
        int fd = waiting->fds[i * 7 % (uint64_t)waiting->nr];
        write_all(fd, &one, sizeof one);
        struct epoll_event event;
        if (epoll_wait(waiting->epoll, &event, 1, -1) != 1 || event.data.fd != fd) fail("epoll_wait");
        read_all(fd, &value, sizeof value);
    }
}

static void run_epoll(const struct row *row) {
    static int fds[1000];
    struct waiting waiting = {.nr = (int)row->argument, .fds = fds};
    struct rlimit limit = {2048, 4096};
    check(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
    waiting.epoll = (int)check(epoll_create1(0), "epoll_create1");
    for (int i = 0; i < waiting.nr; i++) {
        fds[i] = (int)check(eventfd(0, 0), "eventfd");
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fds[i]};
        check(epoll_ctl(waiting.epoll, EPOLL_CTL_ADD, fds[i], &event), "epoll_ctl");
    }
    measure(row, epolls, &waiting);
}

const struct row ipc_rows[] = {
    {"pipe-latency", TIME, 1, run_latency, 0, "a byte to another process and back through two pipes"},
    {"pipe-bandwidth", BANDWIDTH, 1, run_bandwidth, 0, "64 KiB writes into a pipe that another process reads"},
    {"unix-latency", TIME, 1, run_latency, 1, "a byte to another process and back through a unix socket"},
    {"unix-bandwidth", BANDWIDTH, 1, run_bandwidth, 1, "64 KiB writes into a unix stream socket"},
    {"futex-wake", TIME, 1, run_futex, 0, "two threads wake each other: there and back"},
    {"epoll-10", TIME, 1, run_epoll, 10, "one of 10 eventfds gets ready, is found by epoll_wait and read"},
    {"epoll-1000", TIME, 1, run_epoll, 1000, "the same with 1,000"},
    {0},
};
