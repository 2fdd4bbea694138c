/* Forks and waits N times, every tenth time with execve of itself; any failure ends it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "child")) return 42;
    int n = argc > 1 ? atoi(argv[1]) : 1000;
    int exec_every = argc > 2 ? atoi(argv[2]) : 1;
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid < 0) { printf("fork %d: %s\n", i, strerror(errno)); return 1; }
        if (pid == 0) {
            if (i % exec_every == 0) {
                execl(argv[0], argv[0], "child", (char *)0);
                _exit(99);
            }
            _exit(42);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 42) {
            printf("wait %d: status %x\n", i, status);
            return 1;
        }
    }
    printf("%d children\n", n);
    return 0;
}
