/* More data than memory: `pressure FOLDER MIB` writes, reads and maps a file of that size and looks at every word of it,
   then lets three children eat all memory. Each of them must die alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS 16384
static unsigned buffer[WORDS];

static unsigned pattern(unsigned i) { return i * 2654435761u; }

int main(int argc, char **argv) {
    if (argc != 3 || chdir(argv[1])) { perror(argv[1]); return 2; }
    size_t bytes = (size_t)atoi(argv[2]) << 20;
    unsigned rounds = bytes / sizeof buffer, pages = bytes / 4096;
    long bad = 0;
    int fd = open("pressure.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (unsigned i = 0; i < rounds; i++) {
        for (unsigned j = 0; j < WORDS; j++) buffer[j] = pattern(i * WORDS + j);
        if (write(fd, buffer, sizeof buffer) != sizeof buffer) { perror("write"); return 1; }
    }
    printf("fsync: %d\n", fsync(fd));
    lseek(fd, 0, SEEK_SET);
    for (unsigned i = 0; i < rounds; i++) {
        if (read(fd, buffer, sizeof buffer) != sizeof buffer) { perror("read"); return 1; }
        for (unsigned j = 0; j < WORDS; j++) bad += buffer[j] != pattern(i * WORDS + j);
    }
    printf("read back: %ld wrong\n", bad);
    unsigned *map = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (unsigned i = 0; i < pages; i++) map[i * 1024 + 7] = ~pattern(i);
    printf("msync: %d\n", msync(map, bytes, MS_SYNC));
    for (unsigned i = 0; i < pages; i++) {
        unsigned words[2];
        if (pread(fd, words, 8, i * 4096L + 28) != 8) { perror("pread"); return 1; }
        bad += words[0] != ~pattern(i) || words[1] != pattern(i * 1024 + 8);
    }
    printf("mapped: %ld wrong\n", bad);
    munmap(map, bytes);
    close(fd);
    unlink("pressure.tmp");
    for (int i = 0; i < 3; i++) {
        int status;
        fflush(stdout);
        if (fork() == 0)
            for (;;) {
                char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (p == MAP_FAILED) _exit(3);
                memset(p, 1, 1 << 20);
            }
        wait(&status);
        printf("glutton: %s %d\n", WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    return 0;
}
