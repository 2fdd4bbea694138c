/* `readahead FILE`: FILE is 24 MiB of words that tell their own place. Threads read it in order, at random and through
   mappings, while advice throws its pages out and brings them back, and another thread cuts the file short and grows it again
   from 16 MiB on. A word below that is always right; above it is right or zero. Then: what advice and mincore say of a
   file that nobody reads. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (24UL << 20)
#define KEPT (16UL << 20)
#define PAGES (KEPT / 4096)

static const char *name;
static atomic_int stop, failed;

static uint64_t word(uint64_t at) { return at * 0x9e3779b97f4a7c15u ^ 0x5bd1e995; }

static void fail(const char *what, uint64_t at) {
    printf("%s: wrong at %llu, errno %d\n", what, (unsigned long long)at, errno);
    failed = 1;
}

static int is_right(uint64_t got, uint64_t at) { return got == word(at) || (at >= KEPT && got == 0); }

static int check(const char *what, const uint64_t *words, size_t bytes, uint64_t at) {
    for (size_t i = 0; i < bytes / 8; i++)
        if (!is_right(words[i], at + i * 8)) {
            fail(what, at + i * 8);
            return 0;
        }
    return 1;
}

static int open_file(int flags) {
    int fd = open(name, flags);
    if (fd < 0) {
        fail("open", 0);
        exit(1);
    }
    return fd;
}

static unsigned next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (unsigned)(*state >> 11);
}

static void *in_order(void *step) {
    size_t size = (size_t)step;
    uint64_t *words = malloc(size);
    for (int turn = 0; turn < 3 && !failed; turn++) {
        int fd = open_file(O_RDONLY);
        if (turn == 1) posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        if (turn == 2) posix_fadvise(fd, 0, 0, POSIX_FADV_NOREUSE);
        uint64_t at = 0;
        for (ssize_t n; (n = read(fd, words, size)) > 0; at += (uint64_t)n)
            // A file that was cut in the middle of a word goes on in the next read.
            if (at % 8 == 0 && !check("in order", words, (size_t)n, at)) break;
        if (at < KEPT) fail("in order: too short", at);
        close(fd);
    }
    free(words);
    return 0;
}

static void *at_random(void *seed) {
    static _Thread_local uint64_t words[8192];
    uint64_t state = (uint64_t)seed;
    int fd = open_file(O_RDONLY);
    if (state % 2) posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    for (int i = 0; i < 2000 && !failed; i++) {
        uint64_t at = next(&state) % (SIZE / 4096) * 4096;
        size_t size = next(&state) % 8 == 0 ? sizeof words : 4096;
        ssize_t n = pread(fd, words, size, (off_t)at);
        if (n < 0 || (at + size <= KEPT && n != (ssize_t)size)) fail("at random: count", at);
        if (n > 0) check("at random", words, (size_t)n, at);
    }
    close(fd);
    return 0;
}

static void *through_mappings(void *advice) {
    uint64_t state = 77 + (uint64_t)advice;
    int fd = open_file(O_RDONLY);
    for (int turn = 0; turn < 6 && !failed; turn++) {
        char *map = mmap(0, KEPT, PROT_READ, turn % 2 ? MAP_SHARED : MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED || madvise(map, KEPT, (int)(long)advice) != 0) {
            fail("mmap", 0);
            break;
        }
        for (uint64_t i = 0; i < PAGES && !failed; i++) {
            uint64_t at = (advice == (void *)MADV_RANDOM ? next(&state) % PAGES : i) * 4096 + 8 * (i % 512);
            if (*(volatile uint64_t *)(map + at) != word(at)) fail("through a mapping", at);
        }
        munmap(map, KEPT);
    }
    close(fd);
    return 0;
}

static void *cut_and_grow(void *unused) {
    int fd = open_file(O_RDWR);
    uint64_t state = 4711;
    while (!stop && !failed) {
        uint64_t to = KEPT + next(&state) % ((SIZE - KEPT) / 8) * 8;
        if (ftruncate(fd, (off_t)to) != 0) fail("ftruncate", to);
        uint64_t at = to + next(&state) % 100 * 4096;
        at -= at % 8;
        uint64_t right = word(at);
        if (at < SIZE && pwrite(fd, &right, 8, (off_t)at) != 8) fail("pwrite", at);
        if (ftruncate(fd, SIZE) != 0) fail("ftruncate", SIZE);
        // Between the cut and what was written there is nothing.
        uint64_t got = 1, middle = to + (at - to) / 16 * 8;
        if (at < SIZE && middle > to && middle < at && (pread(fd, &got, 8, (off_t)middle) != 8 || got != 0))
            fail("what was cut off came back", middle);
    }
    close(fd);
    return unused;
}

static void *throw_out(void *unused) {
    int fd = open_file(O_RDONLY);
    while (!stop && !failed) {
        if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) fail("DONTNEED", 0);
        usleep(20000);
        if (posix_fadvise(fd, 4 << 20, 2 << 20, POSIX_FADV_WILLNEED)) fail("WILLNEED", 0);
        if (readahead(fd, 12 << 20, 1 << 20) != 0) fail("readahead", 0);
        usleep(5000);
    }
    close(fd);
    return unused;
}

// How many of the pages [from, from + n) are in memory.
static int resident(int fd, unsigned from, unsigned n) {
    static unsigned char there[PAGES];
    char *map = mmap(0, n * 4096, PROT_READ, MAP_SHARED, fd, from * 4096);
    int sum = 0;
    if (map == MAP_FAILED || mincore(map, n * 4096, there) != 0) fail("mincore", from);
    for (unsigned i = 0; i < n; i++) sum += there[i] & 1;
    munmap(map, n * 4096);
    return sum;
}

// The same, once it is `want` or a second is over.
static int settled(int fd, unsigned from, unsigned n, int want) {
    for (int i = 0; i < 100 && resident(fd, from, n) != want; i++) usleep(10000);
    return resident(fd, from, n);
}

static void advice(void) {
    static char page[8192];
    int fd = open_file(O_RDWR);
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    printf("dropped: %d\n", resident(fd, 0, PAGES));
    pread(fd, page, 4096, 1000 * 4096);
    pread(fd, page, 4096, 50 * 4096);
    printf("at random: %d\n", settled(fd, 0, PAGES, 2));
    posix_fadvise(fd, 2000 * 4096, 300 * 4096, POSIX_FADV_WILLNEED);
    printf("will need: %d\n", settled(fd, 2000, 300, 300));
    printf("readahead: %ld", (long)readahead(fd, 3000 * 4096, 100 * 4096));
    printf(" %d\n", settled(fd, 3000, 100, 100));
    posix_fadvise(fd, 2000 * 4096 + 1, 99 * 4096, POSIX_FADV_DONTNEED);
    printf("whole pages: %d\n", resident(fd, 2000, 300));
    pwrite(fd, page, 4096, 60 * 4096);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    usleep(100000);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    printf("dirty ones go once they are written: %d\n", resident(fd, 0, PAGES));
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    pread(fd, page, 4096, 0);
    pread(fd, page, 4096, 4096);
    printf("random, in order: %d\n", settled(fd, 0, 64, 2));
    posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL);
    pread(fd, page, 4096, 8192);
    printf("normal again: %d\n", settled(fd, 0, 64, 64) > 2);
    close(fd);
}

int main(int argc, char **argv) {
    name = argc > 1 ? argv[1] : "words";
    static uint64_t words[8192];
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (uint64_t at = 0; at < SIZE; at += sizeof words) {
        for (size_t i = 0; i < 8192; i++) words[i] = word(at + i * 8);
        if (write(fd, words, sizeof words) != sizeof words) fail("write", at);
    }
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    struct {
        void *(*run)(void *);
        void *argument;
    } jobs[] = {{cut_and_grow, 0}, {throw_out, 0}, {in_order, (void *)4096}, {in_order, (void *)65536}, {in_order, (void *)(1 << 20)},
                {at_random, (void *)1}, {at_random, (void *)2}, {through_mappings, (void *)MADV_NORMAL},
                {through_mappings, (void *)MADV_SEQUENTIAL}, {through_mappings, (void *)MADV_RANDOM}};
    enum { JOBS = sizeof jobs / sizeof *jobs };
    pthread_t threads[JOBS];
    for (int i = 0; i < JOBS; i++) pthread_create(&threads[i], 0, jobs[i].run, jobs[i].argument);
    for (int i = 2; i < JOBS; i++) pthread_join(threads[i], 0);
    stop = 1;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], 0);
    puts(failed ? "failed" : "all as it should be");
    if (!failed) advice();
    unlink(name);
    return failed;
}
