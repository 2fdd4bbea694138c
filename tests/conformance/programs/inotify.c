/* What watches hear of (man 7 inotify). */
#include "conform.h"
#include <sys/inotify.h>
#include <sys/mount.h>
static int q, base;
static const char *const bits[] = {"ACCESS", "MODIFY", "ATTRIB", "CLOSE_WRITE", "CLOSE_NOWRITE", "OPEN", "MOVED_FROM", "MOVED_TO", "CREATE", "DELETE", "DELETE_SELF", "MOVE_SELF", 0, "UNMOUNT", "Q_OVERFLOW", "IGNORED"};
static void events(const char *what) {
    static char b[65536] __attribute__((aligned(8)));
    static uint32_t seen[64]; static int ns;
    printf("  %s:", what);
    ssize_t n;
    while ((n = read(q, b, sizeof b)) > 0)
        for (char *p = b; p < b + n;) {
            struct inotify_event *e = (void *)p;
            printf(" %d", e->wd);
            for (int i = 0; i < 16; i++) if (e->mask >> i & 1) printf(" %s", bits[i] ? bits[i] : "?");
            if (e->mask & IN_ISDIR) printf(" dir");
            if (e->cookie) { int k = 0; while (k < ns && seen[k] != e->cookie) k++; if (k == ns && ns < 64) seen[ns++] = e->cookie; printf(" #%d", k); }
            if (e->len) printf(" \"%s\"(%u)", e->name, e->len);
            printf(";"); p += sizeof *e + e->len;
        }
    printf("\n");
}
#define E(c) do { errno = 0; long r_ = (long)(c); if (r_ == -1) printf("  %s: errno %d\n", #c, errno); events(#c); } while (0)
static void start(void) { q = inotify_init1(IN_NONBLOCK | IN_CLOEXEC); mkdir("d", 0755); mkdir("d/sub", 0755); int f = open("d/f", O_CREAT | O_RDWR, 0644); write(f, "text", 4); close(f); }
static void files(void) {
    start(); char b[10]; SHOW(inotify_add_watch(q, "d", IN_ALL_EVENTS)); SHOW(inotify_add_watch(q, "d/f", IN_ALL_EVENTS)); int f, g;
    E(f = open("d/f", O_RDWR)); E(read(f, b, 2)); E(read(f, b, 9)); E(read(f, b, 9)); E(write(f, "x", 1)); E(write(f, "", 0)); E(pwrite(f, "y", 1, 9)); E(ftruncate(f, 2)); E(truncate("d/f", 1)); E(fchmod(f, 0600)); E(chmod("d/f", 0644)); E(chown("d/f", 0, 0)); E(futimens(f, 0)); struct timespec a[2] = {{1, 1}, {0, UTIME_OMIT}}, m[2] = {{0, UTIME_OMIT}, {1, 1}}; E(futimens(f, a)); E(futimens(f, m)); E(fsync(f)); E(lseek(f, 0, 0)); E(stat("d/f", (struct stat[1]){})); E(g = dup(f)); E(close(g)); E(close(f)); E(f = open("d/f", O_RDONLY)); E(close(f)); E(f = open("d/f", O_WRONLY | O_TRUNC)); E(close(f)); E(open("d/none", O_RDONLY)); E(f = open("d/new", O_CREAT | O_WRONLY, 0600)); E(write(f, "abc", 3)); E(close(f)); E(f = open("d/f", O_PATH)); E(close(f)); E(fallocate(f = open("d/f", O_RDWR), 0, 0, 100)); E(close(f));
    int pp[2]; pipe(pp); f = open("d/f", O_RDONLY); events("open"); E(sendfile(pp[1], f, 0, 2)); E(copy_file_range(f, 0, g = open("d/new", O_WRONLY), 0, 5, 0)); close(f); close(g); events("both");
}
static void names(void) {
    start(); inotify_add_watch(q, "d", IN_ALL_EVENTS); inotify_add_watch(q, "d/f", IN_ALL_EVENTS); inotify_add_watch(q, "d/sub", IN_ALL_EVENTS); int f;
    E(mkdir("d/m", 0755)); E(rmdir("d/m")); E(symlink("x", "d/l")); E(unlink("d/l")); E(link("d/f", "d/k")); E(unlink("d/k")); E(rename("d/f", "d/g")); E(rename("d/g", "d/sub/f")); E(rename("d/sub/f", "d/f")); E(rename("d/sub", "d/sub2")); E(rename("d/sub2", "d/sub")); E(rename("d/f", "out")); E(rename("out", "d/f")); f = open("over", O_CREAT | O_RDWR, 0600); E(rename("over", "d/over")); E(rename("d/over", "d/f")); close(f); events("closed"); E(mkfifo("d/p", 0600)); E(unlink("d/p")); E(syscall(SYS_renameat2, AT_FDCWD, "d/f", AT_FDCWD, "d/sub", 2)); E(syscall(SYS_renameat2, AT_FDCWD, "d/f", AT_FDCWD, "d/sub", 2)); E(rmdir("d/sub")); E(unlink("d/f")); E(rmdir("d"));
}
static void ends(void) {
    start(); inotify_add_watch(q, "d/f", IN_DELETE_SELF | IN_ATTRIB | IN_CLOSE); int f = open("d/f", O_RDWR); E(unlink("d/f")); E(write(f, "x", 1)); E(close(f)); E(inotify_rm_watch(q, 1)); SHOW(inotify_add_watch(q, "d/sub", IN_ALL_EVENTS | IN_ONLYDIR)); E(rmdir("d/sub"));
    f = open("d/g", O_CREAT | O_RDWR, 0600); SHOW(inotify_add_watch(q, "d/g", IN_MODIFY | IN_ONESHOT)); E(write(f, "a", 1)); E(write(f, "b", 1)); SHOW(inotify_add_watch(q, "d/g", IN_MODIFY)); SHOW(inotify_add_watch(q, "d/g", IN_ATTRIB)); E(write(f, "a", 1)); SHOW(inotify_add_watch(q, "d/g", IN_MODIFY | IN_MASK_ADD)); E(fchmod(f, 0644)); E(write(f, "a", 1)); SHOW(inotify_add_watch(q, "d/g", IN_MODIFY | 0x10000000)); SHOW(inotify_add_watch(q, "d/g", 0)); SHOW(inotify_add_watch(q, "d/g", IN_MODIFY | IN_ONLYDIR)); SHOW(inotify_add_watch(q, "none", IN_MODIFY)); SHOW(inotify_add_watch(f, "d", IN_MODIFY)); SHOW(inotify_add_watch(999, "d", IN_MODIFY)); SHOW(inotify_rm_watch(q, 999)); SHOW(inotify_rm_watch(f, 1)); SHOW(inotify_init1(77)); E(inotify_rm_watch(q, 4)); E(write(f, "a", 1));
    SHOW(inotify_add_watch(q, "d", IN_MODIFY | IN_EXCL_UNLINK)); unlink("d/g"); E(write(f, "a", 1)); SHOW(inotify_add_watch(q, "d", IN_MODIFY)); E(write(f, "a", 1)); struct stat s; fstat(q, &s); printf("  %o %ld\n", s.st_mode & 07777, (long)s.st_size); SHOW(write(q, "x", 1)); char b[40]; SHOW(read(q, b, 40));
}
static void waiting(void) {
    start(); int k, n; char b[100]; inotify_add_watch(q, "d", IN_CREATE); struct pollfd p = {q, POLLIN}; SHOW(poll(&p, 1, 0)); if (!fork()) { ms(50); mkdir("d/late", 0755); exit(0); } SHOW(poll(&p, 1, 3000)); SHOW(p.revents); ioctl(q, FIONREAD, &n); printf("  %d\n", n); SHOW(read(q, b, 16)); SHOW(read(q, b, 31)); SHOW(read(q, b, 32)); SHOW(read(q, b, 32)); fcntl(q, F_SETFL, 0); if (!fork()) { ms(50); mkdir("d/a-name-of-sixteen", 0755); exit(0); } SHOW(read(q, b, 100)); int ep = epoll_create1(0); struct epoll_event e = {EPOLLIN}; SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, q, &e)); mkdir("d/x", 0755); SHOW(epoll_wait(ep, &e, 1, 1000)); wait(0); wait(0);
    fcntl(q, F_SETFL, O_NONBLOCK); read(q, b, 100); for (k = 0; k < 5; k++) { mkdir("d/same", 0755); rmdir("d/same"); } events("merged");
}
static void unmounting(void) {
    start(); mkdir("m", 0755); SHOW(mount("none", "m", "tmpfs", 0, 0)); int f = open("m/f", O_CREAT | O_RDWR, 0600); close(f); SHOW(inotify_add_watch(q, "m/f", IN_ALL_EVENTS)); E(umount("m"));
}
int main(void) { SECTION(files); SECTION(names); SECTION(ends); SECTION(waiting); SECTION(unmounting); return 0; }
