/* `fsx PROCESSES OPERATIONS`: each process does random reads, writes, stores through mappings, truncations, holes, copies
   and fsyncs on a file of its own in the present folder, and compares with a model in memory, while another process takes memory away. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#define MAX (600 * 1024)
static unsigned char model[MAX], buf[MAX];
static unsigned long seed;
static unsigned rnd(unsigned n) { seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; return seed % n; }
static int fsx(int id, int ops) {
    char name[32]; sprintf(name, "fsx.%d", id);
    seed = 88172645463325252UL + (id + 100) * 104729;
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    size_t size = 0;
    for (int op = 0; op < ops; op++) {
        int what = rnd(18);
        size_t pos = rnd(MAX), len = rnd(rnd(4) ? 20000 : 150000) + 1;
        if (pos + len > MAX) len = MAX - pos;
        switch (what) {
        case 0: case 1: case 2: {
            for (size_t i = 0; i < len; i++) buf[i] = rnd(256);
            if (pwrite(fd, buf, len, pos) != (ssize_t)len) { printf("fsx %d op %d: pwrite errno %d\n", id, op, errno); return 1; }
            if (pos + len > size) size = pos + len;
            memcpy(model + pos, buf, len); break; }
        case 3: case 4: case 5: {
            ssize_t n = pread(fd, buf, len, pos);
            ssize_t want = pos >= size ? 0 : pos + len > size ? size - pos : len;
            if (n != want) { printf("fsx %d op %d: pread %zd want %zd (pos %zu size %zu)\n", id, op, n, want, pos, size); return 1; }
            if (memcmp(buf, model + pos, n)) { size_t i = 0; while (buf[i] == model[pos + i]) i++; printf("fsx %d op %d: pread differs at %zu (size %zu): %02x want %02x\n", id, op, pos + i, size, buf[i], model[pos + i]); return 1; }
            break; }
        case 6: case 7: {
            if (pos >= size) break;
            if (pos + len > size) len = size - pos;
            size_t base = pos & ~4095UL;
            unsigned char *m = mmap(0, pos + len - base, PROT_READ | PROT_WRITE, MAP_SHARED, fd, base);
            if (m == MAP_FAILED) { printf("mmap errno %d\n", errno); return 1; }
            if (what == 6) { for (size_t i = 0; i < len; i++) m[pos - base + i] = model[pos + i] = rnd(256); if (rnd(3) == 0) msync(m, pos + len - base, MS_SYNC); }
            else if (memcmp(m + pos - base, model + pos, len)) { size_t i = 0; while (m[pos - base + i] == model[pos + i]) i++; printf("fsx %d op %d: map differs at %zu (size %zu)\n", id, op, pos + i, size); return 1; }
            munmap(m, pos + len - base); break; }
        case 8: {
            size_t to = rnd(4) ? rnd(MAX) : (rnd(MAX / 4096) * 4096);
            if (ftruncate(fd, to)) { printf("ftruncate errno %d\n", errno); return 1; }
            if (to < size) memset(model + to, 0, size - to);
            size = to; break; }
        case 9: if (fsync(fd)) { printf("fsync errno %d\n", errno); return 1; } break;
        case 10: {
            unsigned char *p = mmap(0, MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
            if (size) { size_t at = rnd(size); if (p[at] != model[at]) { printf("fsx %d op %d: private differs at %zu\n", id, op, at); return 1; } p[at]++; if (p[at] != (unsigned char)(model[at] + 1)) { printf("private store lost\n"); return 1; } }
            munmap(p, MAX); break; }
        case 11: case 12: { /* Holes, zeros, storage. */
            int mode = rnd(3) == 0 ? 0 : rnd(2) ? 3 : 0x10;
            if (fallocate(fd, mode, pos, len)) { printf("fsx %d op %d: fallocate %x errno %d\n", id, op, mode, errno); return 1; }
            if (mode) { size_t end = pos + len < size ? pos + len : size; if (pos < end) memset(model + pos, 0, end - pos); }
            if (mode != 3 && pos + len > size) size = pos + len;
            break; }
        case 13: { /* From here to there. */
            size_t to = rnd(MAX - len);
            if (pos >= size) break;
            if (pos + len > size) len = size - pos;
            if (pos < to + len && to < pos + len) break;
            off_t a = pos, b = to;
            while ((size_t)a < pos + len) { ssize_t n = copy_file_range(fd, &a, fd, &b, pos + len - a, 0); if (n <= 0) { printf("fsx %d op %d: copy %zd errno %d\n", id, op, n, errno); return 1; } }
            memcpy(model + to, model + pos, len);
            if (to + len > size) size = to + len;
            break; }
        case 14: { /* At the end, by another description. */
            if (size + len > MAX) break;
            for (size_t i = 0; i < len; i++) buf[i] = rnd(256);
            int g = open(name, O_WRONLY | O_APPEND);
            struct iovec v[3] = {{buf, len / 3}, {buf + len / 3, 0}, {buf + len / 3, len - len / 3}};
            if (writev(g, v, 3) != (ssize_t)len) { printf("fsx %d op %d: append errno %d\n", id, op, errno); return 1; }
            close(g); memcpy(model + size, buf, len); size += len; break; }
        case 15: { /* Holes hold zeros. */
            off_t at = pos;
            if (pos >= size) break;
            while ((size_t)at < size) {
                off_t data = lseek(fd, at, SEEK_DATA); if (data < 0) data = size;
                if (data < at) { printf("fsx %d op %d: data at %ld from %ld\n", id, op, (long)data, (long)at); return 1; }
                for (off_t i = at; i < data; i++) if (model[i]) { printf("fsx %d op %d: hole at %ld holds %d\n", id, op, (long)i, model[i]); return 1; }
                if ((size_t)data >= size) break;
                at = lseek(fd, data, SEEK_HOLE); if (at <= data) { printf("fsx %d op %d: hole at %ld after %ld\n", id, op, (long)at, (long)data); return 1; }
            }
            break; }
        case 16: { /* Through a pipe. */
            int p[2]; off_t a = pos; if (pos >= size) break; if (len > 60000) len = 60000; if (pos + len > size) len = size - pos;
            pipe(p); ssize_t n = sendfile(p[1], fd, &a, len); ssize_t got = read(p[0], buf, len); close(p[0]); close(p[1]);
            if (n != (ssize_t)len || got != n || memcmp(buf, model + pos, n)) { printf("fsx %d op %d: sendfile %zd %zd of %zu errno %d\n", id, op, n, got, len, errno); return 1; }
            break; }
        default: close(fd); if (rnd(3) == 0) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); fd = open(name, O_RDWR); break;
        }
        struct stat st; fstat(fd, &st);
        if ((size_t)st.st_size != size) { printf("fsx %d op %d (%d): size %ld want %zu\n", id, op, what, (long)st.st_size, size); return 1; }
    }
    close(fd); unlink(name);
    return 0;
}
int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 4, ops = argc > 2 ? atoi(argv[2]) : 1500;
    setvbuf(stdout, 0, _IOLBF, 0);
    for (int i = 0; i < n; i++) if (fork() == 0) _exit(fsx(i, ops));
    pid_t hog = fork();
    if (hog == 0) for (;;) { size_t b = 24 << 20; char *p = mmap(0, b, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (p != MAP_FAILED) { memset(p, 1, b); munmap(p, b); } usleep(1000); }
    int bad = 0;
    for (int i = 0; i < n; i++) { int st; pid_t p = wait(&st); if (p == hog) { printf("hog ended %x\n", st); i--; continue; } bad += st != 0; if (st) printf("pid %d status %x\n", p, st); }
    kill(hog, 9); wait(0);
    printf("fsx: %d bad\n", bad);
    return bad;
}
