// Rows about single system calls.

#include "bench.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void null_call(uint64_t n, void *context) {
    (void)context;
    while (n--) syscall(SYS_getppid);
}

static void getpids(uint64_t n, void *context) {
    (void)context;
    while (n--) syscall(SYS_getpid);
}

static void read_byte(uint64_t n, void *context) {
    char byte;
    while (n--) check(read(*(int *)context, &byte, 1), "read");
}

static void write_byte(uint64_t n, void *context) {
    while (n--) check(write(*(int *)context, "x", 1), "write");
}

static void open_close(uint64_t n, void *context) {
    while (n--) check(close((int)check(open(context, O_RDONLY), "open")), "close");
}

static void stats(uint64_t n, void *context) {
    struct stat out;
    while (n--) check(stat(context, &out), "stat");
}

static void clocks(uint64_t n, void *context) {
    (void)context;
    struct timespec t;
    while (n--) clock_gettime(CLOCK_MONOTONIC, &t);
}

static volatile uint64_t delivered;
static void on_signal(int number) {
    (void)number;
    delivered++;
}

static void install(uint64_t n, void *context) {
    (void)context;
    struct sigaction action = {.sa_handler = on_signal};
    while (n--) check(sigaction(SIGUSR1, &action, 0), "sigaction");
}

static void deliver(uint64_t n, void *context) {
    int self = getpid();
    install(1, context);
    delivered = 0;
    for (uint64_t i = 0; i < n; i++) kill(self, SIGUSR1);
    if (delivered != n) fail("signals were lost");
}

static void run_null(const struct row *row) { measure(row, null_call, 0); }
static void run_getpid(const struct row *row) { measure(row, getpids, 0); }
static void run_clock(const struct row *row) { measure(row, clocks, 0); }
static void run_install(const struct row *row) { measure(row, install, 0); }
static void run_deliver(const struct row *row) { measure(row, deliver, 0); }

static void run_read(const struct row *row) {
    int fd = (int)check(open("/dev/zero", O_RDONLY), "/dev/zero");
    measure(row, read_byte, &fd);
}

static void run_write(const struct row *row) {
    int fd = (int)check(open("/dev/null", O_WRONLY), "/dev/null");
    measure(row, write_byte, &fd);
}

static void run_open(const struct row *row) { measure(row, open_close, (void *)file_of("file.4k", 4096)); }
static void run_stat(const struct row *row) { measure(row, stats, (void *)file_of("file.4k", 4096)); }

const struct row calls_rows[] = {
    {"null-call", TIME, 1, run_null, 0, "getppid, which musl does not keep"},
    {"getpid", TIME, 1, run_getpid, 0, "getpid"},
    {"read-byte", TIME, 1, run_read, 0, "read 1 byte of /dev/zero"},
    {"write-byte", TIME, 1, run_write, 0, "write 1 byte to /dev/null"},
    {"open-close", TIME, 1, run_open, 0, "open and close a file three folders deep"},
    {"stat", TIME, 1, run_stat, 0, "stat of that file"},
    {"clock-gettime", TIME, 1, run_clock, 0, "clock_gettime(CLOCK_MONOTONIC), through the vDSO where there is one"},
    {"signal-install", TIME, 1, run_install, 0, "sigaction"},
    {"signal-deliver", TIME, 1, run_deliver, 0, "kill of oneself, handler and return"},
    {0},
};
