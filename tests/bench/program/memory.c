// Rows about address spaces. Faults are per page of 4 KiB.

#include "bench.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ul
#define NR_PAGES 1024ul

static void maps(uint64_t n, void *context) {
    (void)context;
    while (n--) {
        void *at = mmap(0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) fail("mmap");
        check(munmap(at, 16 * PAGE), "munmap");
    }
}

// Maps `NR_PAGES` and touches each, until `n` pages were touched; unmapping is part of it.
static void touch(uint64_t n, int fd, int protection, int flags) {
    for (uint64_t done = 0; done < n; done += NR_PAGES) {
        uint64_t now_pages = n - done < NR_PAGES ? n - done : NR_PAGES;
        volatile char *at = mmap(0, now_pages * PAGE, protection, flags, fd, 0);
        if (at == MAP_FAILED) fail("mmap");
        // Pages of a size of their own would be another row.
        madvise((void *)at, now_pages * PAGE, MADV_NOHUGEPAGE);
        for (uint64_t page = 0; page < now_pages; page++)
            if (protection & PROT_WRITE) at[page * PAGE] = 1;
            else (void)at[page * PAGE];
        check(munmap((void *)at, now_pages * PAGE), "munmap");
    }
}

static void anonymous(uint64_t n, void *context) {
    (void)context;
    touch(n, -1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
}

static void file_backed(uint64_t n, void *context) { touch(n, *(int *)context, PROT_READ, MAP_SHARED); }

static void copy_on_write(uint64_t n, void *context) {
    touch(n, *(int *)context, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

static void protect(uint64_t n, void *context) {
    while (n--) {
        check(mprotect(context, PAGE, PROT_READ), "mprotect");
        check(mprotect(context, PAGE, PROT_READ | PROT_WRITE), "mprotect");
    }
}

static void run_maps(const struct row *row) { measure(row, maps, 0); }
static void run_anonymous(const struct row *row) { measure(row, anonymous, 0); }

static int cached_file(void) {
    int fd = (int)check(open(file_of("file.4m", NR_PAGES * PAGE), O_RDWR), "file.4m");
    static char buffer[65536];
    while (check(read(fd, buffer, sizeof buffer), "read") > 0) {}
    return fd;
}

static void run_file(const struct row *row) {
    int fd = cached_file();
    measure(row, file_backed, &fd);
}

static void run_cow(const struct row *row) {
    int fd = cached_file();
    measure(row, copy_on_write, &fd);
}

static void run_protect(const struct row *row) {
    char *at = mmap(0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) fail("mmap");
    for (unsigned i = 0; i < 16; i++) at[i * PAGE] = 1;
    measure(row, protect, at + 4 * PAGE);
}

const struct row memory_rows[] = {
    {"mmap-munmap", TIME, 1, run_maps, 0, "mmap and munmap of 64 KiB that nobody touches"},
    {"fault-anonymous", TIME, 1, run_anonymous, 0, "first write to an anonymous page"},
    {"fault-file", TIME, 1, run_file, 0, "first read of a mapped page that is in the page cache"},
    {"fault-cow", TIME, 1, run_cow, 0, "first write to a private mapping of such a page: a copy"},
    {"mprotect", TIME, 1, run_protect, 0, "mprotect of one touched page to read-only and back"},
    {0},
};
