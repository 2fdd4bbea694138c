/* Hands a bad pointer to every pointer-taking call; each must answer EFAULT and do nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures, checks;

static void check(const char *name, long result) {
    checks++;
    if (result != -1 || errno != EFAULT) {
        failures++;
        printf("%s: returned %ld, errno %d (%s)\n", name, result, errno, strerror(errno));
    }
}
#define BAD(name, ...) do { errno = 0; check(#name, syscall(SYS_##name, ##__VA_ARGS__)); } while (0)

int main(void) {
    /* An unmapped page of the user half, one without access, one in the kernel half, one past the canonical hole. */
    void *hole = mmap(0, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(hole, 8192);
    void *none = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *bads[] = { (void *)8, hole, none, (void *)0xffff800000000000UL, (void *)0xffffffff80100000UL,
                     (void *)0x800000000000UL, (void *)-8UL };
    int zero = open("/dev/zero", O_RDWR), file = open("/tmp/efault.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600);
    int ends[2], sockets[2];
    if (zero < 0 || file < 0 || pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)) { perror("set-up"); return 1; }
    if (write(file, "0123456789", 10) != 10 || write(ends[1], "x", 1) != 1 || write(sockets[0], "y", 1) != 1) { perror("set-up"); return 1; }
    int epfd = epoll_create1(0), tfd = timerfd_create(CLOCK_MONOTONIC, 0), efd = eventfd(1, 0);
    struct timespec ts = { 0, 1 };
    for (unsigned i = 0; i < sizeof bads / sizeof *bads; i++) {
        void *bad = bads[i];
        lseek(file, 0, SEEK_SET);
        BAD(read, zero, bad, 16L); BAD(read, file, bad, 4L); BAD(read, ends[0], bad, 1L);
        BAD(write, file, bad, 4L); BAD(write, ends[1], bad, 4L);
        BAD(pread64, file, bad, 4L, 0L); BAD(pwrite64, file, bad, 4L, 0L);
        BAD(readv, file, bad, 1L); BAD(writev, file, bad, 1L);
        struct iovec iov = { bad, 4 };
        BAD(readv, file, &iov, 1L); BAD(writev, file, &iov, 1L);
        BAD(open, bad, O_RDONLY); BAD(openat, AT_FDCWD, bad, O_RDONLY); BAD(stat, bad, bad); BAD(stat, "/", bad);
        BAD(lstat, "/", bad); BAD(fstat, file, bad); BAD(newfstatat, AT_FDCWD, "/", bad, 0L);
        BAD(statx, AT_FDCWD, "/", 0L, 0x7ffL, bad); BAD(access, bad, 0L); BAD(faccessat, AT_FDCWD, bad, 0L);
        BAD(mkdir, bad, 0700L); BAD(rmdir, bad); BAD(unlink, bad); BAD(rename, bad, "/tmp/x"); BAD(rename, "/tmp/efault.tmp", bad);
        BAD(link, "/tmp/efault.tmp", bad); BAD(symlink, bad, "/tmp/x"); BAD(readlink, "/proc/self", bad, 16L);
        BAD(chmod, bad, 0700L); BAD(chown, bad, 0L, 0L); BAD(truncate, bad, 0L); BAD(chdir, bad); BAD(statfs, "/", bad); BAD(fstatfs, file, bad);
        BAD(utimensat, AT_FDCWD, bad, 0L, 0L); BAD(utimensat, AT_FDCWD, "/tmp/efault.tmp", bad, 0L); BAD(mknod, bad, 0100600L, 0L);
        int dir = open("/", O_RDONLY | O_DIRECTORY);
        BAD(getdents64, dir, bad, 4096L);
        close(dir);
        BAD(pipe, bad); BAD(pipe2, bad, 0L); BAD(poll, bad, 1L, 0L); BAD(select, 1L, bad, 0L, 0L, 0L);
        BAD(epoll_ctl, epfd, EPOLL_CTL_ADD, efd, bad);
        struct epoll_event ev = { EPOLLIN, { 0 } };
        epoll_ctl(epfd, EPOLL_CTL_ADD, efd, &ev);
        BAD(epoll_wait, epfd, bad, 1L, 0L);
        BAD(timerfd_settime, tfd, 0L, bad, 0L); BAD(timerfd_gettime, tfd, bad);
        BAD(socketpair, AF_UNIX, SOCK_STREAM, 0L, bad); BAD(sendmsg, sockets[0], bad, 0L); BAD(recvfrom, sockets[1], bad, 1L, 0L, 0L, 0L);
        BAD(execve, bad, 0L, 0L); BAD(execve, "/bin/true", bad, 0L);
        BAD(rt_sigaction, SIGUSR1, bad, 0L, 8L); BAD(rt_sigaction, SIGUSR1, 0L, bad, 8L);
        BAD(rt_sigprocmask, SIG_BLOCK, bad, 0L, 8L); BAD(rt_sigpending, bad, 8L); BAD(sigaltstack, bad, 0L);
        BAD(nanosleep, bad, 0L); BAD(clock_gettime, CLOCK_REALTIME, bad); BAD(clock_getres, CLOCK_REALTIME, bad);
        BAD(clock_nanosleep, CLOCK_MONOTONIC, 0L, bad, 0L); BAD(gettimeofday, bad, 0L); BAD(times, bad);
        BAD(uname, bad); BAD(sysinfo, bad); BAD(getrandom, bad, 8L, 0L); BAD(getcwd, bad, 64L); BAD(getrusage, 0L, bad);
        BAD(getrlimit, 7L, bad); BAD(setrlimit, 7L, bad); BAD(prlimit64, 0L, 7L, 0L, bad);
        BAD(getitimer, 0L, bad); BAD(futex, bad, 0L, 0L, &ts, 0L, 0L); BAD(sched_getaffinity, 0L, 64L, bad); BAD(sched_getparam, 0L, bad);
        BAD(getresuid, bad, bad, bad); BAD(mount, bad, bad, bad, 0L, 0L); BAD(umount2, bad, 0L);
        BAD(ioctl, ends[0], 0x541bL, bad);
        if (fork() == 0) _exit(0);
        BAD(wait4, -1L, bad, 0L, 0L);
        while (wait(0) > 0) ;
    }
    /* A refused write left the data as it was. */
    char back[16] = { 0 };
    if (pread(file, back, sizeof back, 0) != 10 || memcmp(back, "0123456789", 10)) { failures++; printf("the file changed: %s\n", back); }
    printf("%d checks, %d failures\n", checks, failures);
    return failures != 0;
}
