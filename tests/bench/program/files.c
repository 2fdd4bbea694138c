// Rows about files in the page cache, and about folders.

#include "bench.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 65536
#define FILE_SIZE (4ul << 20)
#define NR_FOLDERS 10
#define NR_FILES 1000

static char chunk[CHUNK];

static void create_delete(uint64_t n, void *context) {
    while (n--) {
        check(close((int)check(open(context, O_WRONLY | O_CREAT | O_EXCL, 0644), "create")), "close");
        check(unlink(context), "unlink");
    }
}

static void read_cached(uint64_t n, void *context) {
    int fd = *(int *)context;
    while (n--)
        if (check(read(fd, chunk, CHUNK), "read") < CHUNK) check(lseek(fd, 0, SEEK_SET), "lseek");
}

static void write_cached(uint64_t n, void *context) {
    int fd = *(int *)context;
    for (uint64_t i = 0; i < n; i++)
        check(pwrite(fd, chunk, CHUNK, (off_t)(i * CHUNK % FILE_SIZE)), "pwrite");
}

// Looks at every entry below `path`; returns how many files there are.
static uint64_t look(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) fail(path);
    uint64_t nr = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        char name[512];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        struct stat what;
        check(lstat(name, &what), name);
        nr += S_ISDIR(what.st_mode) ? look(name) : 1;
    }
    closedir(folder);
    return nr;
}

static void walk(uint64_t n, void *context) {
    while (n--)
        if (look(context) != NR_FOLDERS * NR_FILES) {
            errno = ENOENT;
            fail("the walk missed files");
        }
}

static void run_create(const struct row *row) { measure(row, create_delete, (void *)in_folder("new")); }

static void run_walk(const struct row *row) {
    char tree[128], folder[160], file[192];
    snprintf(tree, sizeof tree, "%s", in_folder("tree"));
    snprintf(file, sizeof file, "%s/complete", settings.folder);
    if (access(file, F_OK) != 0) {
        mkdir(tree, 0755);
        for (int i = 0; i < NR_FOLDERS; i++) {
            snprintf(folder, sizeof folder, "%s/%d", tree, i);
            mkdir(folder, 0755);
            for (int j = 0; j < NR_FILES; j++) {
                snprintf(file, sizeof file, "%s/%d", folder, j);
                close((int)check(open(file, O_WRONLY | O_CREAT, 0644), file));
            }
        }
        snprintf(file, sizeof file, "%s/complete", settings.folder);
        close((int)check(open(file, O_WRONLY | O_CREAT, 0644), file));
    }
    measure(row, walk, tree);
}

static void run_read(const struct row *row) {
    int fd = (int)check(open(file_of("file.4m", FILE_SIZE), O_RDONLY), "file.4m");
    measure_bytes(row, read_cached, &fd, CHUNK);
}

static void run_write(const struct row *row) {
    int fd = (int)check(open(file_of("file.written", FILE_SIZE), O_RDWR), "file.written");
    measure_bytes(row, write_cached, &fd, CHUNK);
}

const struct row file_rows[] = {
    {"create-delete", TIME, 1, run_create, 0, "a file made, closed and removed"},
    {"walk-10000", TIME, 1, run_walk, 0, "readdir and lstat of 10,000 files in 10 folders"},
    {"read-cached", BANDWIDTH, 1, run_read, 0, "64 KiB reads of a 4 MiB file in the page cache"},
    {"write-cached", BANDWIDTH, 1, run_write, 0, "64 KiB writes over such a file"},
    {0},
};
