// The first process of the Linux that Oxbow is compared with: loads the modules that its
// initramfs brings in /modules, in the order of their names, brings up the network that QEMU's user
// networking has, and goes on with the root filesystem of Oxbow's own image and its init.

#include "bench.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int linux_init(void);

static void say(const char *what) { dprintf(2, "bench init: %s: %s\n", what, strerror(errno)); }

static void load_modules(void) {
    for (char name[] = "/modules/0.ko"; name[9] <= '9'; name[9]++) {
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return;
        if (syscall(SYS_finit_module, fd, "", 0) != 0) say(name);
        close(fd);
    }
}

static struct sockaddr address(const char *text) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(text)};
    struct sockaddr out;
    memcpy(&out, &in, sizeof out);
    return out;
}

static void up(int fd, const char *name) {
    struct ifreq request = {0};
    strcpy(request.ifr_name, name);
    request.ifr_flags = IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &request) != 0) say(name);
}

static void network(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    up(fd, "lo");
    struct ifreq request = {.ifr_name = "eth0"};
    request.ifr_addr = address("10.0.2.15");
    if (ioctl(fd, SIOCSIFADDR, &request) != 0) return; // no card in this machine
    request.ifr_netmask = address("255.255.255.0");
    ioctl(fd, SIOCSIFNETMASK, &request);
    up(fd, "eth0");
    struct rtentry route = {.rt_dst = address("0.0.0.0"), .rt_genmask = address("0.0.0.0"),
                            .rt_gateway = address("10.0.2.2"), .rt_flags = RTF_UP | RTF_GATEWAY};
    if (ioctl(fd, SIOCADDRT, &route) != 0) say("default route");
    close(fd);
}

int linux_init(void) {
    mkdir("/dev", 0755);
    mkdir("/new", 0755);
    mount("dev", "/dev", "devtmpfs", 0, "");
    load_modules();
    const char *root = getenv("root");
    if (!root) root = "/dev/vda3";
    struct timespec moment = {0, 2000000};
    for (int i = 0; access(root, F_OK) != 0 && i < 2500; i++) nanosleep(&moment, 0);
    if (mount(root, "/new", "ext2", 0, "") != 0) say(root);
    network();
    if (mount("/dev", "/new/dev", 0, MS_MOVE, "") != 0) say("/dev");
    if (chdir("/new") != 0 || mount(".", "/", 0, MS_MOVE, "") != 0 || chroot(".") != 0) say("/new");
    char *arguments[] = {"/sbin/init", 0};
    execv(arguments[0], arguments);
    say(arguments[0]);
    return 1;
}
