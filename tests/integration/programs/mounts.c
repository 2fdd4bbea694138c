/* Mounts: what a remount changes and keeps, what binds and detached trees allow, and what
 * noexec forbids. As root, in an empty folder of a tmpfs. Expectations are Linux's (man 2 mount,
 * man 5 tmpfs). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define CHECK(x)                                                                  \
    do {                                                                          \
        if (!(x)) {                                                               \
            printf("mounts.c:%d: %s: %s\n", __LINE__, #x, strerror(errno));       \
            exit(1);                                                              \
        }                                                                         \
    } while (0)
#define FAILS(x, e) CHECK((errno = 0, (x) == -1) && errno == (e))

/* Whether the mount at `at` has exactly these options. */
static int has_options(const char *at, const char *want)
{
    FILE *f = fopen("/proc/mounts", "r");
    char line[1000], place[300], options[600];
    int found = 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%*s %299s %*s %599s", place, options) == 2 && !strcmp(place, at)) {
            found = !strcmp(options, want);
            if (!found)
                printf("%s: %s\n", at, options);
        }
    fclose(f);
    return found;
}

static void remounts(void)
{
    static char page[4096];
    CHECK(!mount("t", "a", "tmpfs", MS_NOATIME | MS_NODEV, "size=64k,nr_inodes=9,mode=751,uid=5"));
    CHECK(has_options("/tmp/mounts/a", "rw,nodev,noatime,size=64k,nr_inodes=9,mode=751,uid=5"));
    /* Access times stay as they are unless it says how; the rest is as said. */
    CHECK(!mount(0, "a", 0, MS_REMOUNT | MS_NOSUID, "size=128k"));
    CHECK(has_options("/tmp/mounts/a", "rw,nosuid,noatime,size=128k,nr_inodes=9,mode=751,uid=5"));
    CHECK(!mount(0, "a", 0, MS_REMOUNT | MS_STRICTATIME, 0));
    CHECK(has_options("/tmp/mounts/a", "rw,size=128k,nr_inodes=9,mode=751,uid=5"));
    /* Not less than there is. */
    int f = open("a/f", O_CREAT | O_RDWR, 0600);
    for (int i = 0; i < 20; i++)
        CHECK(write(f, page, sizeof page) == sizeof page);
    FAILS(mount(0, "a", 0, MS_REMOUNT, "size=64k"), EINVAL);
    FAILS(mount(0, "a", 0, MS_REMOUNT, "nr_inodes=1"), EINVAL);
    FAILS(mount(0, "a", 0, MS_REMOUNT, "nonsense=1"), EINVAL);
    FAILS(mount(0, "a", 0, MS_REMOUNT | MS_RDONLY, 0), EBUSY);
    struct statvfs v;
    CHECK(!statvfs("a", &v) && v.f_blocks == 32 && v.f_bfree == 12 && v.f_files == 9);
    for (int i = 0; i < 12; i++)
        CHECK(write(f, page, sizeof page) == sizeof page);
    FAILS(write(f, page, 1), ENOSPC);
    /* None at all. */
    CHECK(!mount(0, "a", 0, MS_REMOUNT, "size=0"));
    CHECK(!statvfs("a", &v) && v.f_blocks == 0);
    CHECK(write(f, page, sizeof page) == sizeof page);
    close(f);
    CHECK(!umount("a"));
    FAILS(mount("p", "a", "proc", 0, "nonsense=1"), EINVAL);
    FAILS(mount(0, "a", "ext2", 0, 0), EINVAL);
    FAILS(mount("/dev/none", "a", "ext2", 0, 0), ENOENT);
    FAILS(mount("/dev/null", "a", "ext2", 0, 0), ENOTBLK);
    FAILS(mount("x", "a", 0, 0, 0), EINVAL);
}

/* Sets the times of `file`, reads it through `a`, and tells whether its access time moved. */
static int read_moves(struct timespec atime)
{
    struct timespec set[2] = {atime, {2000, 0}};
    struct stat s;
    char c;
    CHECK(!utimensat(AT_FDCWD, "file", set, 0));
    int f = open("a/file", O_RDONLY);
    CHECK(read(f, &c, 1) == 1 && !fstat(f, &s));
    close(f);
    return s.st_atime != atime.tv_sec;
}

static void access_times(void)
{
    const unsigned long how[] = {MS_NOATIME, MS_RELATIME, MS_STRICTATIME};
    int f = open("file", O_CREAT | O_RDWR, 0600);
    CHECK(write(f, "abc", 3) == 3);
    close(f);
    for (int i = 0; i < 3; i++) {
        struct timespec old = {1000, 0}, soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_sec += 60;
        CHECK(!mount(".", "a", 0, MS_BIND, 0));
        CHECK(!mount(0, "a", 0, MS_REMOUNT | MS_BIND | how[i], 0));
        /* Before the last change of the content, and after that of the inode. */
        CHECK(read_moves(old) == (how[i] != MS_NOATIME));
        CHECK(read_moves(soon) == (how[i] == MS_STRICTATIME));
        CHECK(!umount("a"));
    }
}

static void noexec(void)
{
    CHECK(!mount(".", "a", 0, MS_BIND, 0) && !mount(0, "a", 0, MS_REMOUNT | MS_BIND | MS_NOEXEC, 0));
    int f = open("a/file", O_RDONLY), g = open("file", O_RDONLY);
    FAILS((long)mmap(0, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, f, 0), EPERM);
    void *m = mmap(0, 1, PROT_READ, MAP_PRIVATE, f, 0);
    CHECK(m != MAP_FAILED);
    FAILS(mprotect(m, 1, PROT_READ | PROT_EXEC), EACCES);
    CHECK(mmap(0, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, g, 0) != MAP_FAILED);
    munmap(m, 1);
    close(f);
    close(g);
    CHECK(!umount("a"));
}

static void detached(void)
{
    CHECK(!mount("t", "a", "tmpfs", 0, 0) && !chdir("a") && !mkdir("x", 0755));
    CHECK(!umount2("/tmp/mounts/a", MNT_DETACH));
    /* Still used, but no place to mount from or at. */
    CHECK(!mkdir("y", 0755));
    FAILS(mount("x", "/tmp/mounts/a", 0, MS_BIND, 0), EINVAL);
    /* EINVAL; of late ENOENT. */
    CHECK(mount("t", "x", "tmpfs", 0, 0) == -1);
    CHECK(mount("/tmp/mounts", "x", 0, MS_BIND, 0) == -1);
    CHECK(!chdir("/tmp/mounts"));
}

int main(void)
{
    CHECK(!mkdir("/tmp/mounts", 0755) && !chdir("/tmp/mounts") && !mkdir("a", 0755));
    remounts();
    access_times();
    noexec();
    detached();
    puts("all as on Linux");
    return 0;
}
