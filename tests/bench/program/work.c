// Rows that are small jobs: what a user would wait for.

#include "bench.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// Runs a program with its output thrown away; it must succeed. What it complains of is kept until it ends: a serial
// console is slow, and tar has something to say every time.
static void program(char **arguments) {
    static int complaints[2] = {-1, -1};
    // A program that says more than a pipe holds loses the rest.
    if (complaints[0] < 0) check(pipe2(complaints, O_CLOEXEC | O_NONBLOCK), "pipe2");
    int pid = (int)check(fork(), "fork");
    if (pid == 0) {
        char *environment[] = {"PATH=/bin:/sbin", "LC_ALL=C", 0};
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(complaints[1], 2);
        execve(arguments[0], arguments, environment);
        _exit(127);
    }
    int status;
    char text[4096];
    check(waitpid(pid, &status, 0), "waitpid");
    ssize_t n = read(complaints[0], text, sizeof text - 1);
    if (status != 0) failed_program(arguments[0], status, n > 0 ? text : "", n > 0 ? (size_t)n : 0);
}

static void programs(uint64_t n, void *context) {
    while (n--) program(context);
}

static void run_shell(const struct row *row) {
    const char *path = in_folder("script.sh");
    FILE *script = fopen(path, "w");
    if (!script) fail(path);
    // 300 commands: half of them the shell's own, half programs.
    for (int i = 0; i < 150; i++) {
        fprintf(script, "x=$((%d + 1)); test $x -gt 0\n", i);
        fputs(i % 3 == 0 ? "/bin/true\n" : i % 3 == 1 ? "/bin/basename /a/b >/dev/null\n" : "/bin/cat /etc/passwd >/dev/null\n", script);
    }
    fclose(script);
    char *arguments[] = {"/bin/sh", (char *)path, 0};
    result(row, cost_limited(programs, arguments, 1), 0);
}

static void run_sort(const struct row *row) {
    uint64_t size = settings.quick ? 1000000 : 20000000;
    const char *path = in_folder(settings.quick ? "lines.1m" : "lines.20m");
    struct stat there;
    if (stat(path, &there) != 0) {
        FILE *lines = fopen(path, "w");
        if (!lines) fail(path);
        uint64_t state = 88172645463325252u;
        for (uint64_t done = 0; done < size;) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            done += (uint64_t)fprintf(lines, "%016llx %llu\n", (unsigned long long)state, (unsigned long long)state % 1000);
        }
        fclose(lines);
    }
    char *arguments[] = {"/bin/sort", "-o", "/dev/null", (char *)path, 0};
    result(row, cost_limited(programs, arguments, 1), 0);
}

static void run_tar(const struct row *row) {
    char tree[160], file[200];
    snprintf(tree, sizeof tree, "%s", in_folder("small"));
    if (mkdir(tree, 0755) == 0)
        for (int i = 0; i < 200; i++) {
            snprintf(file, sizeof file, "small/%d", i);
            file_of(file, 8192);
        }
    char *arguments[] = {"/bin/tar", "-cf", (char *)in_folder("small.tar"), tree, 0};
    result(row, cost_limited(programs, arguments, 1), 0);
}

// Groups of senders and receivers that pass messages through socket pairs, all at once.
#define PAIRS 10
#define MESSAGES 100

static void send_messages(void *context) {
    char message[100] = {0};
    for (uint64_t i = 0; i < MESSAGES; i++) write_all(*(int *)context, message, sizeof message);
}

static void receive_messages(void *context) {
    char message[100];
    for (uint64_t i = 0; i < MESSAGES; i++) read_all(*(int *)context, message, sizeof message);
}

static void pass_messages(uint64_t n, void *context) {
    (void)context;
    while (n--) {
        int children[2 * PAIRS];
        for (int i = 0; i < PAIRS; i++) {
            int pair[2];
            check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
            children[2 * i] = start_child(receive_messages, &pair[0]);
            children[2 * i + 1] = start_child(send_messages, &pair[1]);
            close(pair[0]);
            close(pair[1]);
        }
        for (int i = 0; i < 2 * PAIRS; i++) wait_child(children[i]);
    }
}

static void run_messages(const struct row *row) {
    use_cpus((int)row->argument);
    measure(row, pass_messages, 0);
}

static void compute(void *context) {
    volatile uint64_t sum = 0;
    for (uint64_t i = 0; i < *(uint64_t *)context; i++) sum += i * i ^ sum >> 3;
}

// As many jobs as CPUs, all the same: with two CPUs two of them take as long as one.
static void jobs(uint64_t n, void *context) {
    int nr = *(int *)context, children[2];
    uint64_t rounds = 20000;
    while (n--) {
        rounds = 2000000;
        for (int i = 0; i < nr; i++) children[i] = start_child(compute, &rounds);
        for (int i = 0; i < nr; i++) wait_child(children[i]);
    }
}

static void run_jobs(const struct row *row) {
    int nr = (int)row->argument;
    use_cpus(nr);
    measure(row, jobs, &nr);
}

const struct row work_rows[] = {
    {"shell-300", TIME, 1, run_shell, 0, "a shell script of 300 commands, half of them programs"},
    {"sort-20m", TIME, 0, run_sort, 0, "sort of 20 MB of lines"},
    {"tar-tree", TIME, 1, run_tar, 0, "tar of 200 files of 8 KiB"},
    {"messages-1", TIME, 1, run_messages, 1, "10 senders to 10 receivers, 100 messages each, on 1 CPU"},
    {"messages-2", TIME, 0, run_messages, 2, "the same on 2 CPUs"},
    {"cpu-1", TIME, 1, run_jobs, 1, "one job of arithmetic on 1 CPU"},
    {"cpu-2", TIME, 0, run_jobs, 2, "two of them on 2 CPUs"},
    {0},
};
