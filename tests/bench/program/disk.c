// Rows that reach the disk. The disk to read from is large and sparse: what costs is the way to
// it, and every run reads a place that no cache has.

#include "bench.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK 65536

static char chunk[CHUNK];

struct place {
    int fd;
    uint64_t at;
    uint64_t size;
    uint64_t state;
};

static uint64_t random_number(struct place *place) {
    place->state ^= place->state << 13;
    place->state ^= place->state >> 7;
    place->state ^= place->state << 17;
    return place->state;
}

static void sequential(uint64_t n, void *context) {
    struct place *place = context;
    while (n--) {
        if (place->at + CHUNK > place->size) place->at = 0;
        if (check(pread(place->fd, chunk, CHUNK, (off_t)place->at), "pread") != CHUNK) fail("a short read");
        place->at += CHUNK;
    }
}

static void scattered(uint64_t n, void *context) {
    struct place *place = context;
    while (n--) {
        uint64_t page = random_number(place) % (place->size / 4096);
        if (check(pread(place->fd, chunk, 4096, (off_t)(page * 4096)), "pread") != 4096) fail("a short read");
    }
}

static void append(uint64_t n, void *context) {
    int fd = *(int *)context;
    while (n--) {
        write_all(fd, chunk, 4096);
        check(fsync(fd), "fsync");
    }
}

static struct place disk(void) {
    struct place place;
    errno = ENODEV;
    if (!settings.disk) fail("no disk to read (-D)");
    place.fd = (int)check(open(settings.disk, O_RDONLY), settings.disk);
    place.size = (uint64_t)check(lseek(place.fd, 0, SEEK_END), "lseek");
    check(syscall(SYS_getrandom, &place.state, sizeof place.state, 0), "getrandom");
    place.state |= 1;
    place.at = random_number(&place) % place.size / CHUNK * CHUNK;
    return place;
}

static void run_sequential(const struct row *row) {
    struct place place = disk();
    result(row, cost_limited(sequential, &place, 1024), CHUNK);
}

static void run_scattered(const struct row *row) {
    struct place place = disk();
    result(row, cost_limited(scattered, &place, 4096), 0);
}

static void run_append(const struct row *row) {
    int fd = (int)check(open(in_folder("log"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644), "log");
    result(row, cost_limited(append, &fd, 512), 0);
}

const struct row disk_rows[] = {
    {"disk-sequential", BANDWIDTH, 0, run_sequential, 0, "64 KiB reads of a disk, one after another"},
    {"disk-random", TIME, 0, run_scattered, 0, "4 KiB reads all over a disk"},
    {"fsync-append", TIME, 0, run_append, 0, "4 KiB appended to a file, and fsync"},
    {0},
};
