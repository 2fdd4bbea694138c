/* Sockets that go through themselves and through each other, and that nobody can receive: more of
 * them than a user may have descriptors, and what they hold comes back. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHECK(x)                                                                    \
    do {                                                                            \
        if (!(x)) {                                                                 \
            printf("sockcycles.c:%d: %s: %s\n", __LINE__, #x, strerror(errno));     \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

static void send_file(int by, int what)
{
    char c = 'x';
    struct iovec bytes = {&c, 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof what)];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof what), .cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.head), &what, sizeof what);
    CHECK(sendmsg(by, &message, 0) == 1);
}

/* A figure of /proc/meminfo, in KiB. */
static long meminfo(const char *name)
{
    FILE *f = fopen("/proc/meminfo", "r");
    char line[200];
    long kib = -1;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)))
            sscanf(line + strlen(name), " %ld", &kib);
    fclose(f);
    return kib;
}

int main(void)
{
    static char content[20000];
    long before = 0;
    if (!getuid())
        CHECK(!setuid(1000));
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3000; i++) {
            int a[2], b[2];
            CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, a) && !socketpair(AF_UNIX, SOCK_DGRAM, 0, b));
            CHECK(write(a[1], content, sizeof content) == sizeof content);
            send_file(a[1], i % 2 ? a[0] : b[0]);
            send_file(b[1], a[0]);
            close(a[0]);
            close(a[1]);
            close(b[0]);
            close(b[1]);
        }
        if (!round)
            before = meminfo("MemFree:");
    }
    /* 60 MB, if it had stayed. Large machines have others that use it. */
    long after = meminfo("MemFree:");
    if (after < before - 8192 && meminfo("MemTotal:") < 1 << 20)
        printf("%ld KiB free, then %ld\n", before, after);
    /* The name of one that nobody can receive is free once a new socket is made. */
    struct sockaddr_un at = {AF_UNIX, "\0cycle"};
    int a[2], s = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK(!bind(s, (void *)&at, sizeof at));
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, a));
    int by = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK(!connect(by, (void *)&at, sizeof at));
    send_file(by, s);
    close(s);
    close(by);
    sleep(2);
    CHECK((s = socket(AF_UNIX, SOCK_DGRAM, 0)) >= 0);
    CHECK(!bind(s, (void *)&at, sizeof at));
    puts("all gone");
    return 0;
}
