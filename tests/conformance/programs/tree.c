/* The tree: every call on names against every kind of name, what open says, who may what, which times move. Cells are
 * error numbers ("ok" for none), so that one line holds a whole row. */
#include "conform.h"
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#ifndef STATX_BASIC_STATS
#define STATX_BASIC_STATS 0x7ff
#define STATX_BTIME 0x800
struct statx { uint32_t stx_mask, stx_blksize; uint64_t stx_attributes; uint32_t stx_nlink, stx_uid, stx_gid; uint16_t stx_mode, pad; uint64_t stx_ino, stx_size, stx_blocks, stx_attributes_mask; char rest[192]; };
#endif
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const char *why(long r) {
    static char b[4][40]; static int n;
    char *p = b[n++ & 3];
    if (r >= 0) return "ok";
    switch (errno) {
    case EPERM: return "EPERM"; case ENOENT: return "ENOENT"; case EEXIST: return "EEXIST"; case ENOTDIR: return "ENOTDIR"; case EISDIR: return "EISDIR";
    case EINVAL: return "EINVAL"; case ELOOP: return "ELOOP"; case EBUSY: return "EBUSY"; case ENOTEMPTY: return "ENOTEMPTY"; case EACCES: return "EACCES";
    case ENAMETOOLONG: return "ENAMETOOLONG"; case EXDEV: return "EXDEV"; case EBADF: return "EBADF"; case EFBIG: return "EFBIG"; case EROFS: return "EROFS"; case ENXIO: return "ENXIO"; case EOPNOTSUPP: return "EOPNOTSUPP";
    }
    sprintf(p, "%d", errno); return p;
}
static char n255[256], n256[257], deep[5000];
static void put(const char *n, int mode) { int f = open(n, O_CREAT | O_WRONLY | O_TRUNC, mode); write(f, "text", 4); close(f); }
static void fresh(void) {
    static int made;
    if (made) { chdir(".."); system("rm -rf w"); }
    made = 1;
    mkdir("w", 0755); chdir("w");
    put("f", 0644); put("g", 0644); link("f", "h"); mkdir("d", 0755); mkdir("e", 0755); mkdir("n", 0755); put("n/x", 0644); mkdir("d/sub", 0755); rmdir("d/sub");
    symlink("f", "l"); symlink("d", "ld"); symlink("nowhere", "dang"); symlink("loop", "loop"); mkfifo("p", 0644); symlink("e/", "le"); symlink("none2/", "lns");
}
/* As rm -rf, without a process for each cell. A call that failed changed nothing. */
static int spoiled = 1;
static void clean(void) {
    static const char *const all[] = {"f", "g", "h", "l", "ld", "le", "lns", "dang", "loop", "p", "nowhere", "none", "none2", "new", "n/x", "n/y", "d/y", "e/y", "d/d", "d/f", "d/g", "d/n/x", "d/e", "e/x"};
    for (int i = 0; i < COUNT(all); i++) if (unlink(all[i]) && errno == EISDIR) rmdir(all[i]);
    unlink(n255); rmdir(n255);
    static const char *const dirs[] = {"d/n", "d/e", "d/d", "n/d", "e", "n", "d", "none", "new", "f", "g", "none2", "nowhere", "l"};
    for (int i = 0; i < COUNT(dirs); i++) rmdir(dirs[i]);
    chdir("..");
    if (rmdir("w")) system("rm -rf w");
    mkdir("w", 0755); chdir("w");
    put("f", 0644); put("g", 0644); link("f", "h"); mkdir("d", 0755); mkdir("e", 0755); mkdir("n", 0755); put("n/x", 0644);
    symlink("f", "l"); symlink("d", "ld"); symlink("nowhere", "dang"); symlink("loop", "loop"); mkfifo("p", 0644); symlink("e/", "le"); symlink("none2/", "lns");
}
static void names(void) {
    memset(n255, 'a', 255); memset(n256, 'b', 256); memset(deep, '/', 4999);
    for (int i = 0; i < 4096; i += 2) deep[i] = '.', deep[i + 1] = '/';
}

/* ---- every call on every kind of path ---- */
static const char *paths[] = {"f", "f/", "d", "d/", "d/.", "d/..", "n", "n/", "l", "l/", "ld", "ld/", "ld/.", "dang", "dang/", "none", "none/", "none/.", "none/x", "f/x", "f/.", "f/..", "loop", "loop/", "loop/x", "", ".", "..", "./d/", "d//", "le", "le/", "lns", "p", "p/", n255, n256};
static long c_unlink(const char *p) { return unlink(p); }
static long c_rmdir(const char *p) { return rmdir(p); }
static long c_mkdir(const char *p) { return mkdir(p, 0755); }
static long c_rename_from(const char *p) { return rename(p, "new"); }
static long c_rename_dir_to(const char *p) { return rename("e", p); }
static long c_rename_file_to(const char *p) { return rename("g", p); }
static long c_rename_slash_to(const char *p) { return rename("e/", p); }
static long c_noreplace(const char *p) { return syscall(SYS_renameat2, AT_FDCWD, "g", AT_FDCWD, p, 1); }
static long c_exchange(const char *p) { return syscall(SYS_renameat2, AT_FDCWD, "g", AT_FDCWD, p, 2); }
static long c_exchange_dir(const char *p) { return syscall(SYS_renameat2, AT_FDCWD, "e", AT_FDCWD, p, 2); }
static long c_link_from(const char *p) { return link(p, "new"); }
static long c_link_to(const char *p) { return link("g", p); }
static long c_link_follow(const char *p) { return linkat(AT_FDCWD, p, AT_FDCWD, "new", AT_SYMLINK_FOLLOW); }
static long c_symlink(const char *p) { return symlink("g", p); }
static long c_mknod(const char *p) { return mknod(p, S_IFREG | 0600, 0); }
static long c_mkfifo(const char *p) { return mkfifo(p, 0600); }
static long c_mknod_dir(const char *p) { return mknod(p, S_IFDIR | 0600, 0); }
static long c_truncate(const char *p) { return truncate(p, 2); }
static long c_chmod(const char *p) { return chmod(p, 0755); }
static long c_lchown(const char *p) { return lchown(p, 0, 0); }
static long c_readlink(const char *p) { char b[10]; return readlink(p, b, 10); }
static long c_stat(const char *p) { struct stat s; return stat(p, &s); }
static long c_lstat(const char *p) { struct stat s; return lstat(p, &s); }
static long c_access(const char *p) { return access(p, X_OK); }
static long c_chdir(const char *p) { int d = open(".", O_DIRECTORY), r = chdir(p), e = errno; fchdir(d); close(d); errno = e; return r; }
static long c_utimes(const char *p) { return utimensat(AT_FDCWD, p, 0, AT_SYMLINK_NOFOLLOW); }
static long c_statfs(const char *p) { struct statfs s; return statfs(p, &s); }
static long c_umount(const char *p) { return syscall(SYS_umount2, p, 0); }
static const struct { const char *name; long (*call)(const char *); } calls[] = {
#define C(n) {#n, c_##n}
    C(unlink), C(rmdir), C(mkdir), C(rename_from), C(rename_dir_to), C(rename_file_to), C(rename_slash_to), C(noreplace), C(exchange), C(exchange_dir), C(link_from), C(link_to), C(link_follow),
    C(symlink), C(mknod), C(mkfifo), C(mknod_dir), C(truncate), C(chmod), C(lchown), C(readlink), C(stat), C(lstat), C(access), C(chdir), C(utimes), C(statfs)};
static void matrix(int from, int to) {
    fresh();
    for (int i = 0; i < COUNT(paths); i++) {
        if (strlen(paths[i]) > 20) printf("  <%d>:", (int)strlen(paths[i])); else printf("  \"%s\":", paths[i]);
        for (int c = from; c < to; c++) {
            if (spoiled) clean();
            long r = calls[c].call(paths[i]);
            spoiled = r >= 0;
            printf(" %s=%s", calls[c].name, why(r));
        }
        printf("\n");
    }
}
static void names_changed(void) { matrix(0, 10); }
static void names_made(void) { matrix(10, 17); }
static void names_used(void) { matrix(17, COUNT(calls)); }

/* ---- rename of every kind onto every kind ---- */
static void rename_all(int fl) {
    static const char *from[] = {"f", "h", "d", "n", "l", "ld", "dang", "p", "n/x", "."}, *to[] = {"none", "f", "h", "g", "d", "d/", "n", "l", "ld", "ld/", "dang", "p", "d/y", "n/x", "d/none/", "n/.", "n/..", "d/d", "n/d", ".", "d/n"};
    fresh();
    for (int i = 0; i < COUNT(from); i++) {
        printf("  %s:", from[i]);
        for (int j = 0; j < COUNT(to); j++) { if (spoiled) clean(); long r = syscall(SYS_renameat2, AT_FDCWD, from[i], AT_FDCWD, to[j], fl); spoiled = r >= 0; printf(" %s=%s", to[j], why(r)); }
        printf("\n");
    }
}
static void renames(void) { rename_all(0); }
static void renames_keep(void) { rename_all(1); }
static void renames_swap(void) { rename_all(2); SHOW(syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "g", 3)); }

/* ---- open ---- */
static void opens(void) {
    static const struct { const char *n; int f; } fl[] = {
        {"r", O_RDONLY}, {"w", O_WRONLY}, {"c", O_CREAT | O_WRONLY}, {"cx", O_CREAT | O_EXCL | O_RDWR}, {"cr", O_CREAT}, {"t", O_TRUNC | O_WRONLY}, {"rt", O_TRUNC}, {"dir", O_DIRECTORY}, {"dirw", O_DIRECTORY | O_RDWR}, {"nf", O_NOFOLLOW}, {"nfc", O_NOFOLLOW | O_CREAT | O_WRONLY},
        {"p", O_PATH}, {"pnf", O_PATH | O_NOFOLLOW}, {"pdir", O_PATH | O_DIRECTORY}, {"pc", O_PATH | O_CREAT}, {"cdir", O_CREAT | O_DIRECTORY}, {"nd", O_DIRECTORY | O_NOFOLLOW}, {"x", O_EXCL | O_WRONLY}, {"3", O_ACCMODE}, {"tmp", O_TMPFILE | O_RDWR}, {"tmpr", O_TMPFILE}, {"app", O_WRONLY | O_APPEND | O_TRUNC}};
    fresh();
    for (int i = 0; i < COUNT(paths); i++) {
        if (strlen(paths[i]) > 20) printf("  <%d>:", (int)strlen(paths[i])); else printf("  \"%s\":", paths[i]);
        for (int j = 0; j < COUNT(fl); j++) {
            if (spoiled) clean();
            int f = open(paths[i], fl[j].f | O_NONBLOCK, 0644), e = errno, got = f >= 0 ? fcntl(f, F_GETFL) : 0;
            spoiled = f >= 0 && fl[j].f & (O_CREAT | O_TRUNC);
            errno = e;
            printf(" %s=%s", fl[j].n, why(f));
            if (f >= 0) { printf("(%o)", got); close(f); }
        }
        printf("\n");
    }
}
static void limits(void) {
    fresh(); clean();
    char l[100], t[100]; symlink("f", "L0");
    for (int i = 1; i < 45; i++) { sprintf(l, "L%d", i); sprintf(t, "L%d", i - 1); symlink(t, l); }
    struct stat s; SHOW(stat("L38", &s)); SHOW(stat("L39", &s)); SHOW(stat("L40", &s)); SHOW(stat("L41", &s)); SHOW(open("L39", O_CREAT | O_WRONLY, 0644) >= 0 ? 0 : -1); SHOW(open("L40", O_CREAT | O_WRONLY, 0644));
    for (int i = 4090; i < 4099; i++) { char c = deep[i]; deep[i] = 0; errno = 0; int r = stat(deep, &s); printf("  %d: %s\n", i, why(r)); deep[i] = c; }
    SHOW(mkdir(n255, 0755)); SHOW(mkdir(n256, 0755)); SHOW(symlink(n256, "s256"));
    char *big = malloc(6000); memset(big, 'x', 6000); big[4096] = 0; SHOW(symlink(big, "s4096")); big[4095] = 0; SHOW(symlink(big, "s4095")); big[4094] = 0; SHOW(symlink(big, "s4094")); char *o = malloc(6000); SHOW(readlink("s4095", o, 6000)); SHOW(readlink("s4095", o, 7)); SHOW(readlink("s4095", o, 0)); SHOW(stat("s4095", &s));
    SHOW(symlink("", "empty")); SHOW(readlink("", o, 10)); int p = open("l", O_PATH | O_NOFOLLOW); SHOW(readlinkat(p, "", o, 10)); SHOW(readlinkat(AT_FDCWD, "", o, 10));
    /* A deep tree, walked by relative steps. */
    int d = open(".", O_DIRECTORY); int i; for (i = 0; i < 30; i++) { if (mkdir(n255, 0755) && errno != EEXIST) break; if (chdir(n255)) break; } printf("  depth %d\n", i); errno = 0; SHOW(syscall(SYS_getcwd, o, 6000) > 0 ? 0 : -1); SHOW(stat(".", &s)); SHOW(stat("..", &s));
    while (i-- > 0) { chdir(".."); rmdir(n255); } fchdir(d);
}

/* ---- who may what ---- */
static void as(int uid, int gid) { setgroups(0, 0); setresgid(gid, gid, gid); setresuid(uid, uid, uid); }
static void allowed(void) {
    fresh();
    for (int mode = 0; mode < 8; mode++) {
        clean();
        chmod(".", 0777); chmod("d", 0700 | mode); put("d/f", 0600); chmod("d/f", 0600 | mode); mkdir("d/e", 0700); chmod("d/e", 0700 | mode); symlink("f", "d/g"); put("own", 0600); chown("own", 1000, 1000);
        fflush(stdout);
        pid_t k = fork();
        if (!k) {
            as(1000, 1000);
            struct stat s; char b[20]; printf("  %d:", mode);
#define P(c) do { errno = 0; long r_ = (long)(c); printf(" %s=%s", #c, why(r_)); } while (0)
            P(stat("d/f", &s)); P(stat("d/none", &s)); P(lstat("d/g", &s)); P(readlink("d/g", b, 20)); P(open("d", O_RDONLY)); P(open("d/f", O_RDONLY)); P(open("d/f", O_WRONLY)); P(open("d/f", O_RDWR)); P(open("d/f", O_TRUNC)); P(open("d/f", O_PATH)); P(open("d/new", O_CREAT | O_WRONLY, 0600)); P(open("d/f", O_CREAT | O_WRONLY, 0600));
            P(open("d/f", O_CREAT | O_EXCL, 0600)); P(mkdir("d/m", 0700)); P(mkdir("d/e", 0700)); P(symlink("x", "d/s")); P(link("own", "d/k")); P(mknod("d/q", S_IFIFO | 0600, 0)); P(mknod("d/cdev", S_IFCHR | 0600, 0x103)); P(chdir("d")); P(access("d/f", R_OK)); P(access("d/f", W_OK)); P(access("d/f", X_OK)); P(access("d/f", F_OK)); P(access("d/none", F_OK)); P(access("d", W_OK));
            P(chmod("d/f", 0777)); P(chown("d/f", 1000, -1)); P(chown("d/f", -1, -1)); P(lchown("d/g", -1, 1000)); P(truncate("d/f", 1)); P(utimensat(AT_FDCWD, "d/f", 0, 0));
            struct timespec t[2] = {{1, 1}, {2, 2}}, om[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}}, now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}}, half[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
            P(utimensat(AT_FDCWD, "d/f", t, 0)); P(utimensat(AT_FDCWD, "d/f", om, 0)); P(utimensat(AT_FDCWD, "d/f", now, 0)); P(utimensat(AT_FDCWD, "d/f", half, 0)); P(utimensat(AT_FDCWD, "d/none", om, 0));
            P(rename("d/f", "d/f2")); P(rename("d/f2", "d/f")); P(rename("g", "d/g2")); P(rename("d/f", "moved")); P(rename("moved", "d/f")); P(rename("d/e", "e2")); P(rename("e2", "d/e")); P(unlink("d/g")); P(unlink("d/none")); P(rmdir("d/e")); P(rmdir("d/none")); P(unlink("d/f")); P(chroot("d")); P(execl("d/f", "x", (char *)0)); P(execl("d", "x", (char *)0));
            printf("\n"); fflush(stdout); _exit(0);
        }
        waitpid(k, 0, 0);
    }
}
static void sticky(void) {
    fresh(); clean();
    mkdir("t", 01777); chmod("t", 01777); put("t/root", 0666); chmod("t/root", 0666); put("t/mine", 0644); chown("t/mine", 1000, 1000); mkdir("t/rd", 0777); chmod("t/rd", 0777); mkdir("t/md", 0755); chown("t/md", 1000, 1000); mkdir("o", 01777); chmod("o", 01777); chown("o", 1000, 1000); put("o/root", 0644);
    fflush(stdout);
    pid_t k = fork();
    if (!k) {
        as(1000, 1000);
        SHOW(unlink("t/root")); SHOW(rename("t/root", "t/r2")); SHOW(rename("t/mine", "t/root")); SHOW(rmdir("t/rd")); SHOW(rename("t/rd", "t/rd2")); SHOW(syscall(SYS_renameat2, AT_FDCWD, "t/mine", AT_FDCWD, "t/root", 2)); SHOW(rename("t/md", "t/rd")); SHOW(rename("t/md", "t/md2")); SHOW(rename("t/mine", "t/m2")); SHOW(unlink("t/m2")); SHOW(unlink("o/root")); SHOW(rename("t/md2", "o/md")); SHOW(rmdir("o/md"));
        exit(0);
    }
    waitpid(k, 0, 0);
}
static void owners(void) {
    fresh(); clean(); umask(0);
    struct stat s;
#define MODE(p) do { lstat(p, &s); printf("  %s: %o %d:%d\n", p, s.st_mode, s.st_uid, s.st_gid); } while (0)
    mkdir("sg", 02775); chmod("sg", 02775); chown("sg", 0, 500); mkdir("sg/d", 0755); put("sg/f", 0644); symlink("x", "sg/l"); mkfifo("sg/p", 0644); MODE("sg/d"); MODE("sg/f"); MODE("sg/l"); MODE("sg/p"); mkdir("sg/d/deep", 07777); MODE("sg/d/deep"); close(open("sg/x", O_CREAT, 02770)); MODE("sg/x"); chmod("sg", 02777);
    fflush(stdout);
    pid_t k = fork();
    if (!k) {
        as(1000, 1000);
        close(open("sg/u", O_CREAT | O_RDWR, 02770)); MODE("sg/u"); close(open("sg/u2", O_CREAT | O_RDWR, 02660)); MODE("sg/u2"); mkdir("sg/ud", 06755); MODE("sg/ud"); SHOW(chmod("sg/u", 02777)); MODE("sg/u"); SHOW(chmod("sg/u", 04777)); MODE("sg/u"); SHOW(chown("sg/u", -1, 1000)); MODE("sg/u"); SHOW(chmod("sg/u", 06777)); MODE("sg/u"); SHOW(chown("sg/u", 1000, 1000)); MODE("sg/u"); SHOW(chown("sg/u", -1, -1)); MODE("sg/u"); SHOW(chown("sg/u", -1, 500)); SHOW(chown("sg/u", 1001, -1));
        chmod("sg/u", 06777); int f = open("sg/u", O_RDWR); write(f, "x", 1); MODE("sg/u"); chmod("sg/u", 06767); write(f, "x", 1); MODE("sg/u"); chmod("sg/u", 06777); ftruncate(f, 0); MODE("sg/u"); chmod("sg/u", 06777); write(f, "", 0); MODE("sg/u");
        exit(0);
    }
    waitpid(k, 0, 0);
    put("r", 0755); chmod("r", 06755); chown("r", -1, -1); MODE("r"); chmod("r", 06755); chown("r", 0, 0); MODE("r"); chmod("r", 06745); chown("r", 5, 5); MODE("r"); chmod("r", 06755); int f = open("r", O_RDWR | O_TRUNC); MODE("r"); chmod("r", 06755); ftruncate(f, 5); MODE("r"); chmod("r", 06755); truncate("r", 3); MODE("r"); mkdir("rd", 0755); chmod("rd", 06755); chown("rd", 7, 7); MODE("rd");
    umask(077); put("um", 0666); MODE("um"); mkdir("umd", 0777); MODE("umd"); mkfifo("ump", 0666); MODE("ump"); SHOW(umask(01777)); SHOW(umask(022)); close(open("st", O_CREAT, 07777)); MODE("st"); mkdir("std", 07777); MODE("std"); SHOW(chmod("std", 0177777)); MODE("std");
}

/* ---- times ---- */
static struct stat before[8];
static const char *watched[] = {"f", "g", "d", "d/f", "e", "."};
static void look(void) { for (int i = 0; i < COUNT(watched); i++) if (lstat(watched[i], before + i)) memset(before + i, 0, sizeof *before); ms(12); }
static void moved(const char *what) {
    printf("  %s:", what);
    for (int i = 0; i < COUNT(watched); i++) {
        struct stat s;
        if (lstat(watched[i], &s)) memset(&s, 0, sizeof s);
#define CH(m) (s.m.tv_sec != before[i].m.tv_sec || s.m.tv_nsec != before[i].m.tv_nsec)
        if (s.st_ino != before[i].st_ino) { printf(" %s(other)", watched[i]); continue; }
        if (CH(st_atim) || CH(st_mtim) || CH(st_ctim)) printf(" %s(%s%s%s)", watched[i], CH(st_atim) ? "a" : "", CH(st_mtim) ? "m" : "", CH(st_ctim) ? "c" : "");
    }
    printf("\n");
}
#define T(c) do { look(); (void)(c); moved(#c); } while (0)
static void times(void) {
    fresh(); clean(); put("d/f", 0644); int f = open("f", O_RDWR), g = open("g", O_RDWR), d = open("d", O_DIRECTORY); char b[100]; ms(12);
    T(read(f, b, 1)); T(read(f, b, 1)); T(pread(f, b, 1, 100)); T(read(f, b, 0)); T(write(f, "x", 1)); T(read(f, b, 1)); T(write(f, "", 0)); T(pwrite(f, "y", 1, 100)); T(ftruncate(f, 100)); T(ftruncate(f, 101)); T(ftruncate(f, 10)); T(truncate("f", 10)); T(truncate("f", 11)); T(open("f", O_TRUNC | O_WRONLY)); T(open("f", O_TRUNC | O_WRONLY)); T(open("f", O_WRONLY)); T(open("f", O_CREAT | O_WRONLY, 0644)); T(chmod("f", 0644)); T(chown("f", -1, -1)); T(chown("f", 0, 0));
    T(link("f", "d/k")); T(unlink("d/k")); T(rename("d/f", "d/f2")); T(rename("d/f2", "d/f")); T(rename("d/f", "e/f")); T(rename("e/f", "d/f")); T(rename("f", "f")); T(rename("f", "h")); T(mkdir("d/m", 0755)); T(rmdir("d/m")); T(symlink("x", "d/s")); T(readlink("d/s", b, 10)); T(unlink("d/s")); T(open("d/none", O_RDONLY)); T(stat("d/f", before + 7)); T(access("f", R_OK)); T(open("d/c", O_CREAT | O_WRONLY, 0644)); T(unlink("d/c"));
    DIR *o = fdopendir(d); T(readdir(o)); while (readdir(o)); rewinddir(o); T(readdir(o)); T(mkdir("d/again", 0755)); rewinddir(o); T(readdir(o));
    T(mmap(0, 100, PROT_READ, MAP_SHARED, g, 0)); char *m = mmap(0, 100, PROT_READ | PROT_WRITE, MAP_SHARED, g, 0); T(b[0] = m[0]); T(m[0] = 'q'); T(msync(m, 100, MS_SYNC)); T(m[1] = 'q'); T(fsync(g)); T(lseek(g, 0, SEEK_DATA)); T(fchmod(g, 0600)); T(copy_file_range(f, 0, g, 0, 5, 0)); T(posix_fallocate(g, 0, 100)); T(posix_fallocate(g, 0, 10)); T(syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "g", 2));
    int na = open("g", O_RDONLY | O_NOATIME); T(read(na, b, 1)); T(flock(f, LOCK_EX)); T(chmod("d", 0755)); T(rename("d", "e/d")); T(rename("e/d", "d")); T(utimensat(AT_FDCWD, "f", 0, 0));
}
static void set_times(void) {
    fresh(); clean(); struct stat s; struct timespec t[2];
#define SET(a, an, m, mn) do { t[0].tv_sec = a; t[0].tv_nsec = an; t[1].tv_sec = m; t[1].tv_nsec = mn; errno = 0; int r_ = utimensat(AT_FDCWD, "f", t, 0); printf("  %s %s %s %s: %s", #a, #an, #m, #mn, why(r_)); stat("f", &s); if (s.st_mtim.tv_sec < 1500000000L || s.st_mtim.tv_sec > 2000000000L) printf(" m %ld.%ld", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec); if (s.st_atim.tv_sec < 1500000000L || s.st_atim.tv_sec > 2000000000L) printf(" a %ld.%ld", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec); printf("\n"); } while (0)
    SET(1, 2, 3, 4); SET(0, UTIME_OMIT, 9, 999999999); SET(7, 7, 0, UTIME_OMIT); SET(0, UTIME_NOW, 0, UTIME_OMIT); SET(1, 1000000000, 1, 1); SET(1, -1, 1, 1); SET(-5, 0, -6, 500); SET(0, UTIME_OMIT, 0, UTIME_OMIT); SET(5, UTIME_OMIT, 5, 1000000000);
    int f = open("f", O_RDONLY); t[0] = (struct timespec){10, 10}; t[1] = (struct timespec){20, 20}; SHOW(futimens(f, t)); SHOW(utimensat(f, "", t, AT_EMPTY_PATH)); SHOW(syscall(SYS_utimensat, f, 0, t, AT_SYMLINK_NOFOLLOW)); SHOW(syscall(SYS_utimensat, AT_FDCWD, 0, t, 0)); SHOW(syscall(SYS_utimensat, 999, 0, t, 0)); SHOW(utimensat(AT_FDCWD, "f", t, 0x8000)); SHOW(utimensat(AT_FDCWD, "", t, 0)); int p = open("f", O_PATH); SHOW(futimens(p, t)); SHOW(utimensat(p, "", t, AT_EMPTY_PATH)); SHOW(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW)); lstat("l", &s); printf("  %ld\n", (long)s.st_mtim.tv_sec); SHOW(utimensat(AT_FDCWD, "dang", t, 0));
    struct timeval v[2] = {{1, 5}, {2, 1000000}}; SHOW(utimes("f", v)); v[1].tv_usec = 999999; SHOW(utimes("f", v)); stat("f", &s); printf("  %ld\n", s.st_mtim.tv_nsec);
}

/* ---- sizes ---- */
static int xfsz; static void on_xfsz(int s) { xfsz++; }
static void sizes(void) {
    fresh(); clean(); signal(SIGXFSZ, on_xfsz); struct rlimit r = {10000, 20000}; setrlimit(RLIMIT_FSIZE, &r); int f = open("f", O_RDWR | O_TRUNC); char b[16384]; memset(b, 'z', sizeof b);
#define X(c) do { errno = 0; long r_ = (c); printf("  %s: %ld %s xfsz %d\n", #c, r_, why(r_), xfsz); } while (0)
    X(write(f, b, 9000)); X(write(f, b, 5000)); X(write(f, b, 1)); X(pwrite(f, b, 10, 9995)); X(pwrite(f, b, 10, 10000)); X(pwrite(f, b, 0, 20000)); X(ftruncate(f, 10001)); X(ftruncate(f, 10000)); X(truncate("f", 20000)); X(truncate("f", 5)); X(fallocate(f, 0, 0, 10000)); X(fallocate(f, 0, 0, 10001)); struct iovec v[2] = {{b, 6000}, {b, 6000}}; X(pwritev(f, v, 2, 0)); X(lseek(f, 0, SEEK_END)); int g = open("g", O_RDWR); X(sendfile(f, g, 0, 100)); X(copy_file_range(g, 0, f, 0, 4, 0)); f = open("f", O_RDWR | O_APPEND); X(write(f, b, 1));
    r.rlim_cur = RLIM_INFINITY; setrlimit(RLIMIT_FSIZE, &r); r.rlim_cur = 0; setrlimit(RLIMIT_FSIZE, &r); f = open("g", O_RDWR); X(write(f, "a", 1)); int p[2]; pipe(p); X(write(p[1], "a", 1)); r.rlim_cur = r.rlim_max; setrlimit(RLIMIT_FSIZE, &r);
    X(lseek(f, -1, SEEK_SET)); X(lseek(f, 5, SEEK_SET)); X(lseek(f, -6, SEEK_CUR)); X(lseek(f, 0, 77)); X(lseek(f, 0, SEEK_HOLE)); X(lseek(f, 4, SEEK_HOLE)); X(lseek(f, 3, SEEK_DATA)); X(lseek(f, -1, SEEK_DATA)); X(lseek(f, 0, SEEK_CUR)); X(pread(f, b, 1, -1)); X(pwrite(f, b, 1, -1)); X(ftruncate(f, -1)); X(truncate("g", -1)); X(ftruncate(open("g", O_RDONLY), 0)); X(truncate("d", 0)); X(ftruncate(open("d", O_RDONLY), 0)); X(truncate("p", 0)); X(read(open("d", O_RDONLY), b, 1)); X(write(open("g", O_RDONLY), b, 1)); X(read(open("g", O_WRONLY), b, 1)); X(read(open("g", O_PATH), b, 1)); X(fsync(open("g", O_PATH))); X(fsync(open("d", O_RDONLY))); X(fsync(p[0])); X(fdatasync(p[0])); X(lseek(p[0], 0, SEEK_CUR)); X(pread(p[0], b, 1, 0)); X(syncfs(f)); X(readahead(p[0], 0, 1)); X(posix_fadvise(p[0], 0, 0, 0)); X(sync_file_range(f, 0, 10, 7)); X(sync_file_range(f, 0, -1, 0)); X(sync_file_range(p[0], 0, 10, 0)); X(sync_file_range(f, 0, 10, 8));
}

/* ---- directories while they change ---- */
static void listing(void) {
    fresh(); clean(); mkdir("big", 0755); char n[64]; for (int i = 0; i < 200; i++) { sprintf(n, "big/%03d-%.*s", i, i % 40, n255); put(n, 0644); }
    DIR *d = opendir("big"); struct dirent *e; int seen[200] = {0}, twice = 0, k = 0; long at[300]; char nm[300][64];
    while ((e = readdir(d))) { int i = atoi(e->d_name); if (*e->d_name == '.') continue; twice += seen[i]; seen[i] = 1; if (k % 7 == 3) { sprintf(n, "big/%s", e->d_name); unlink(n); } if (k % 11 == 2) { sprintf(n, "big/zz%d", k); put(n, 0644); unlink(n); } k++; }
    int missed = 0; for (int i = 0; i < 200; i++) missed += !seen[i]; printf("  missed %d twice %d\n", missed, twice);
    rewinddir(d); k = 0; for (;;) { at[k] = telldir(d); if (!(e = readdir(d))) break; strcpy(nm[k++], e->d_name); } int bad = 0; for (int i = k - 1; i >= 0; i--) { seekdir(d, at[i]); e = readdir(d); bad += !e || strcmp(e->d_name, nm[i]); } printf("  entries %d seek bad %d\n", k, bad);
    for (int i = 0; i < k; i++) if (i % 3 == 0 && *nm[i] != '.') { sprintf(n, "big/%s", nm[i]); unlink(n); } bad = 0; for (int i = k - 1; i >= 0; i--) if (i % 3) { seekdir(d, at[i]); e = readdir(d); bad += !e || strcmp(e->d_name, nm[i]); } printf("  after deletion bad %d\n", bad);
    char b[300]; int f = open("big", O_RDONLY); SHOW(syscall(SYS_getdents64, f, b, 10)); SHOW(syscall(SYS_getdents64, f, b, 23)); SHOW(syscall(SYS_getdents64, f, b, 24)); SHOW(syscall(SYS_getdents64, f, 8, 300)); SHOW(syscall(SYS_getdents64, open("f", O_RDONLY), b, 300)); SHOW(syscall(SYS_getdents64, open("big", O_PATH), b, 300)); mkdir("gone", 0755); f = open("gone", O_RDONLY); rmdir("gone"); SHOW(syscall(SYS_getdents64, f, b, 300)); SHOW(openat(f, "x", O_CREAT | O_WRONLY, 0600)); struct stat s; SHOW(fstatat(f, "..", &s, 0)); SHOW(fstatat(f, ".", &s, 0)); SHOW(fstat(f, &s)); printf("  links %d\n", (int)s.st_nlink); SHOW(mkdirat(f, "y", 0755)); SHOW(linkat(AT_FDCWD, "g", f, "y", 0)); SHOW(renameat(AT_FDCWD, "g", f, "y")); SHOW(fchdir(f)); SHOW(syscall(SYS_getcwd, b, 300)); SHOW(open("x", O_CREAT, 0600)); SHOW(chdir(".."));
}

/* ---- open files without names, and /proc/self/fd ---- */
static void nameless(void) {
    fresh(); clean(); char b[200], p[64]; struct stat s; int f = open("f", O_RDWR); unlink("f"); unlink("h"); fstat(f, &s); printf("  links %d\n", (int)s.st_nlink); SHOW(write(f, "new text", 8)); SHOW(pread(f, b, 8, 0)); sprintf(p, "/proc/self/fd/%d", f); int n = readlink(p, b, 199); b[n] = 0; printf("  %s\n", strrchr(b, '/')); int g = open(p, O_RDONLY); SHOW(read(g, b, 8)); SHOWOK(open(p, O_WRONLY | O_TRUNC)); fstat(f, &s); printf("  size %ld\n", (long)s.st_size); SHOW(linkat(AT_FDCWD, p, AT_FDCWD, "back", AT_SYMLINK_FOLLOW)); SHOW(linkat(f, "", AT_FDCWD, "back", AT_EMPTY_PATH)); SHOW(fchmod(f, 0600)); SHOW(stat(p, &s)); SHOW(ftruncate(f, 9)); SHOW(access(p, R_OK));
    g = open("g", O_RDONLY); sprintf(p, "/proc/self/fd/%d", g); SHOWOK(open(p, O_RDWR)); SHOW(linkat(AT_FDCWD, p, AT_FDCWD, "glink", AT_SYMLINK_FOLLOW)); int t = open(".", O_TMPFILE | O_RDWR, 0640); SHOW(t < 0 ? -1 : 0); fstat(t, &s); printf("  %o links %d\n", s.st_mode, (int)s.st_nlink); SHOW(write(t, "temp", 4)); for (int at = 1; at < 10; at += 8) { SHOW(lseek(t, at, SEEK_SET)); SHOW(ioctl(t, FIONREAD, &n)); printf("  %d\n", n); } SHOW(ioctl(t, FIONREAD, 8)); SHOW(ioctl(open("d", O_RDONLY), FIONREAD, &n)); sprintf(p, "/proc/self/fd/%d", t); SHOW(linkat(AT_FDCWD, p, AT_FDCWD, "named", AT_SYMLINK_FOLLOW)); SHOW(stat("named", &s)); printf("  size %ld links %d\n", (long)s.st_size, (int)s.st_nlink); t = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0640); sprintf(p, "/proc/self/fd/%d", t); SHOW(linkat(AT_FDCWD, p, AT_FDCWD, "named2", AT_SYMLINK_FOLLOW)); SHOW(linkat(t, "", AT_FDCWD, "named3", AT_EMPTY_PATH)); SHOWOK(open("d", O_TMPFILE | O_WRONLY, 0600)); SHOW(open("f0", O_TMPFILE | O_WRONLY, 0600)); SHOW(open("g", O_TMPFILE | O_WRONLY, 0600));
    g = open("g", O_PATH); sprintf(p, "/proc/self/fd/%d", g); SHOWOK(open(p, O_RDONLY)); SHOW(fchmod(g, 0600)); SHOW(fchown(g, 0, 0)); SHOW(fstat(g, &s)); SHOW(fchownat(g, "", 0, 0, AT_EMPTY_PATH)); SHOW(ioctl(g, FIONREAD, &n)); SHOWOK(dup(g)); SHOW(fcntl(g, F_GETFL)); SHOW(fcntl(g, F_SETFL, 0)); SHOW(flock(g, LOCK_EX)); SHOWOK(mmap(0, 10, 1, MAP_SHARED, g, 0)); SHOW(fstatfs(g, (void *)b) ? -1 : 0); n = open("d", O_PATH); SHOW(fchdir(n)); chdir(".."); SHOWOK(openat(n, "x", O_CREAT | O_WRONLY, 0600)); SHOW(faccessat(n, "x", R_OK, 0));
    SHOW(faccessat(AT_FDCWD, "dang", F_OK, AT_SYMLINK_NOFOLLOW)); SHOW(syscall(439, AT_FDCWD, "dang", F_OK, AT_SYMLINK_NOFOLLOW)); SHOW(syscall(439, n, "", X_OK, AT_EMPTY_PATH)); SHOW(syscall(439, AT_FDCWD, "g", 8, 0)); SHOW(syscall(439, AT_FDCWD, "g", 0, 1)); SHOW(openat(g, "x", O_RDONLY)); SHOW(openat(999, "x", O_RDONLY)); SHOWOK(openat(999, "/", O_RDONLY)); SHOW(unlinkat(AT_FDCWD, "d", 0)); SHOW(unlinkat(AT_FDCWD, "d", 77)); SHOW(linkat(AT_FDCWD, "g", AT_FDCWD, "z", 1)); SHOW(fstatat(AT_FDCWD, "", &s, 0)); SHOW(fstatat(AT_FDCWD, "", &s, AT_EMPTY_PATH)); SHOW(fstatat(AT_FDCWD, "g", &s, 1)); SHOW(renameat(g, "x", AT_FDCWD, "y")); SHOW(syscall(SYS_renameat2, AT_FDCWD, "g", AT_FDCWD, "y", 8)); SHOW(mkdirat(g, "x", 0755)); SHOW(symlinkat("x", g, "y"));
}
static void figures(void) {
    fresh(); clean(); struct statx x; memset(&x, 0xee, sizeof x); SHOW(syscall(332, AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &x)); printf("  mask %x blksize %u nlink %u size %llu blocks %llu mode %o\n", x.stx_mask & 0xfff, x.stx_blksize, x.stx_nlink, (long long)x.stx_size, (long long)x.stx_blocks, x.stx_mode); SHOW(syscall(332, AT_FDCWD, "f", 0x6000, 0, &x)); SHOW(syscall(332, AT_FDCWD, "f", 0, 0x80000000u, &x)); SHOW(syscall(332, AT_FDCWD, "", 0x1000, 0x7ff, &x)); SHOW(syscall(332, AT_FDCWD, "", 0, 0x7ff, &x)); SHOW(syscall(332, AT_FDCWD, "none", 0, 0x7ff, &x)); SHOW(syscall(332, AT_FDCWD, "dang", 0x100, 0x7ff, &x)); SHOW(syscall(332, AT_FDCWD, "f", 0x8, 0, &x));
    struct stat s; stat("d", &s); printf("  d links %d size %ld\n", (int)s.st_nlink, (long)s.st_size); mkdir("d/1", 0755); mkdir("d/2", 0755); stat("d", &s); printf("  d links %d\n", (int)s.st_nlink); rename("d/1", "e/y"); stat("d", &s); printf("  d links %d\n", (int)s.st_nlink); rmdir("e/y"); rmdir("d/2"); lstat("l", &s); printf("  l size %ld mode %o blocks %ld\n", (long)s.st_size, s.st_mode, (long)s.st_blocks); int f = open("f", O_RDWR | O_TRUNC); fstat(f, &s); printf("  blocks %ld\n", (long)s.st_blocks); write(f, "x", 1); fsync(f); fstat(f, &s); printf("  blocks %ld blksize %ld\n", (long)s.st_blocks, (long)s.st_blksize); struct statfs v; statfs(".", &v); printf("  type %lx namelen %ld bsize %ld frsize %ld\n", (long)v.f_type, (long)v.f_namelen, (long)v.f_bsize, (long)v.f_frsize); SHOW(fstatfs(f, &v)); int p[2]; pipe(p); SHOW(fstatfs(p[0], &v)); printf("  type %lx\n", (long)v.f_type); fstat(p[0], &s); printf("  pipe %o %d\n", s.st_mode, (int)s.st_nlink); stat("/dev/null", &s); printf("  null %o rdev %lx\n", s.st_mode, (long)s.st_rdev);
    SHOW(fcntl(f, F_GETFL)); SHOW(fcntl(open("f", O_RDONLY), F_GETFL)); SHOW(fcntl(open("f", O_WRONLY | O_APPEND | O_SYNC | O_NONBLOCK), F_GETFL)); SHOW(fcntl(open("d", O_RDONLY | O_DIRECTORY), F_GETFL)); SHOW(fcntl(open("f", O_PATH | O_NOFOLLOW), F_GETFL)); SHOW(fcntl(f, F_SETFL, O_APPEND | O_WRONLY | O_CREAT)); SHOW(fcntl(f, F_GETFL)); SHOW(fcntl(f, F_GETFD)); SHOW(fcntl(f, F_SETFD, 3)); SHOW(fcntl(f, F_GETFD)); SHOW(fcntl(f, F_DUPFD, -1)); SHOW(fcntl(f, F_DUPFD, 100000000)); SHOW(fcntl(f, 999, 0)); SHOW(fcntl(999, F_GETFD)); SHOW(dup2(f, -1)); SHOW(dup2(f, 100000000)); SHOW(dup3(f, f, 0)); SHOW(dup3(f, 50, 77)); SHOW(dup2(f, f) == f); SHOW(dup2(999, 999)); SHOW(close(999)); SHOW(close(-1));
}
static void pieces(void) {
    fresh(); clean(); int f = open("f", O_RDWR | O_TRUNC), g = open("g", O_RDWR | O_TRUNC), p[2]; char b[5000]; pipe(p); write(f, "0123456789", 10); off_t o = 3, q = 0; X(sendfile(g, f, &o, 4)); printf("  %ld\n", (long)o); X(lseek(g, 0, SEEK_CUR)); X(lseek(f, 0, SEEK_CUR)); X(sendfile(p[1], f, &o, 100)); X(read(p[0], b, 100)); X(sendfile(g, p[0], 0, 1)); o = -1; X(sendfile(g, f, &o, 1)); X(sendfile(open("g", O_RDONLY), f, 0, 1)); X(sendfile(g, open("f", O_WRONLY), 0, 1)); X(sendfile(open("g", O_WRONLY | O_APPEND), f, 0, 1));
    o = 0; q = 5; X(copy_file_range(f, &o, f, &q, 5, 0)); o = 0; q = 2; X(copy_file_range(f, &o, f, &q, 5, 0)); o = 8; q = 0; X(copy_file_range(f, &o, g, &q, 50, 0)); X(copy_file_range(f, 0, g, 0, 5, 1)); X(copy_file_range(f, 0, open("g", O_WRONLY | O_APPEND), 0, 5, 0)); X(copy_file_range(f, 0, p[1], 0, 5, 0)); X(copy_file_range(open("d", O_RDONLY), 0, g, 0, 5, 0)); o = 100; X(copy_file_range(f, &o, g, 0, 5, 0));
    struct iovec v[3] = {{b, 3}, {0, 0}, {b + 3, 4}}; X(preadv(f, v, 3, 1)); X(pwritev(f, v, 3, 20)); X(preadv(f, v, 1025, 0)); X(preadv(f, v, 0, 0)); X(preadv(f, v, -1, 0)); v[1].iov_len = -1; X(readv(f, v, 3)); v[1] = (struct iovec){(void *)8, 5}; X(preadv(f, v, 3, 0)); X(syscall(SYS_preadv2, f, v, 1, 0, 0, 0)); X(syscall(SYS_preadv2, f, v, 1, 0, 0, 2)); X(syscall(SYS_pwritev2, f, v, 1, 0, 0, 2)); X(syscall(SYS_pwritev2, f, v, 1, 0, 0, 0x10)); X(lseek(f, 0, SEEK_END)); X(syscall(SYS_preadv2, f, v, 1, 0, 0, 0x80000000)); X(read(f, (void *)8, 5)); X(write(f, (void *)8, 5)); X(read(f, (void *)8, 0)); X(pread(999, b, 0, 0));
    int a = open("f", O_RDWR | O_APPEND); X(pwrite(a, "Q", 1, 0)); X(lseek(a, 0, SEEK_CUR)); X(write(a, "R", 1)); X(lseek(a, 0, SEEK_CUR)); char *m = mmap(0, 8192, 3, MAP_SHARED, f, 0); X(write(f, m + 4090, 20)); X(ftruncate(f, 4096)); munmap(m, 8192); m = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(m + 4096, 4096); X(pwrite(f, m + 4000, 200, 0)); X(pread(f, m + 4000, 200, 0)); X(write(f, m + 4000, 200)); X(write(f, b, -1) < 0 ? -1 : 0);
}
/* ---- storage ---- */
static void space(int mode) {
    char a[20000], b[20000]; struct stat s; int f = open("s", O_CREAT | O_RDWR | O_TRUNC, 0600);
    for (int i = 0; i < 20000; i++) a[i] = 'a' + i % 26;
    static const long at[][2] = {{0, 1}, {100, 50}, {0, 4096}, {4096, 4096}, {4000, 200}, {1, 12287}, {5000, 100000}, {19999, 1}, {16384, 5000}, {20000, 10}, {8192, 11808}};
    for (int i = 0; i < COUNT(at); i++) {
        ftruncate(f, 0); pwrite(f, a, 20000, 0); memset(b, 0, sizeof b);
        /* The formats differ in what they keep past the end, and in whether storage without content is a hole. */
        if (mode == 0x11 && at[i][0] + at[i][1] > 20000) continue;
        int r = fallocate(f, mode, at[i][0], at[i][1]); printf("  %ld+%ld: %s", at[i][0], at[i][1], why(r)); fstat(f, &s); pread(f, b, 20000, 0);
        long zero = 0, first = -1; for (int j = 0; j < 20000; j++) if (!b[j]) { if (first < 0) first = j; zero++; } else if (b[j] != a[j]) printf(" bad %d", j);
        printf(" size %ld zeros %ld from %ld", (long)s.st_size, zero, first); if (mode == 3) printf(" hole %ld data %ld", (long)lseek(f, 0, SEEK_HOLE), (long)lseek(f, 4096, SEEK_DATA)); ftruncate(f, 22000); memset(b, 1, 2000); pread(f, b, 2000, 20000); for (int j = 0; j < 2000; j++) if (b[j]) { printf(" tail %d", j); break; } printf("\n");
    }
    char *m = mmap(0, 16384, 3, MAP_SHARED, f, 0); pwrite(f, a, 16384, 0); m[5000] = 'Z'; SHOW(fallocate(f, mode, 4096, 4096)); printf("  %d %d %d\n", m[4095], m[5000], m[8192]); m[5000] = 'Y'; pread(f, b, 1, 5000); printf("  %d\n", b[0]); munmap(m, 16384);
}
static void punch(void) { fresh(); space(3); }
static void zero_range(void) { fresh(); space(0x10); space(0x11); }
static void reserve(void) {
    fresh(); space(0); char b[100]; int f = open("r", O_CREAT | O_RDWR, 0600), p[2]; struct stat s; pipe(p); X(fallocate(f, 0, 1000, 100000)); fstat(f, &s); printf("  size %ld blocks %d\n", (long)s.st_size, s.st_blocks >= 200); memset(b, 1, 100); pread(f, b, 100, 50000); printf("  %d\n", b[0] + b[99]); X(fallocate(f, 2, 0, 1)); X(fallocate(f, 0x40, 0, 4096)); X(fallocate(f, 0x100, 0, 1)); X(fallocate(f, 0, 0, 0)); X(fallocate(f, 0, -1, 1)); X(fallocate(f, 0, 1, LONG_MAX)); X(fallocate(p[1], 0, 0, 1)); X(fallocate(p[0], 0, 0, 1)); X(fallocate(open("r", O_RDONLY), 0, 0, 1)); X(fallocate(open("d", O_RDONLY), 0, 0, 1)); X(fallocate(open("/dev/null", O_RDWR), 0, 0, 1)); X(posix_fallocate(f, 0, 200000)); fstat(f, &s); printf("  size %ld\n", (long)s.st_size);
}
int main(void) {
    names(); umask(022); SECTION(names_changed); SECTION(names_made); SECTION(names_used); SECTION(renames); SECTION(renames_keep); SECTION(renames_swap); SECTION(opens); SECTION(limits); SECTION(allowed); SECTION(sticky); SECTION(owners); SECTION(times); SECTION(set_times); SECTION(sizes); SECTION(listing); SECTION(nameless); SECTION(figures); SECTION(pieces); SECTION(punch); SECTION(zero_range); SECTION(reserve);
    return 0;
}
