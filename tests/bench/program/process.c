// Rows about processes and threads.

#include "bench.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void fork_exit(uint64_t n, void *context) {
    (void)context;
    while (n--) {
        int pid = (int)check(fork(), "fork");
        if (pid == 0) _exit(0);
        check(waitpid(pid, 0, 0), "waitpid");
    }
}

static void fork_exec(uint64_t n, void *context) {
    (void)context;
    char *arguments[] = {"bench", "true", 0}, *environment[] = {0};
    while (n--) {
        int pid = (int)check(fork(), "fork");
        if (pid == 0) {
            execve(settings.program, arguments, environment);
            _exit(1);
        }
        wait_child(pid);
    }
}

static void *nothing(void *context) { return context; }

static void threads(uint64_t n, void *context) {
    (void)context;
    while (n--) {
        pthread_t thread;
        if (pthread_create(&thread, 0, nothing, 0)) fail("pthread_create");
        pthread_join(thread, 0);
    }
}

// A ring of processes joined by pipes; a byte goes round. One operation is one hop.
#define MOST 16
struct ring {
    int pipes[MOST][2];
    int nr;
    int self;
};

static void pass_on(void *context) {
    struct ring *ring = context;
    char byte;
    int from = ring->pipes[ring->self][0], to = ring->pipes[(ring->self + 1) % ring->nr][1];
    // The first member's end of the ring closes it.
    for (int i = 0; i < ring->nr; i++) {
        if (ring->pipes[i][0] != from) close(ring->pipes[i][0]);
        if (ring->pipes[i][1] != to) close(ring->pipes[i][1]);
    }
    while (read(from, &byte, 1) == 1)
        if (write(to, &byte, 1) != 1) break;
}

static void hops(uint64_t n, void *context) {
    struct ring *ring = context;
    char byte = 0;
    for (uint64_t done = 0; done < n; done += (uint64_t)ring->nr) {
        write_all(ring->pipes[1][1], &byte, 1);
        read_all(ring->pipes[0][0], &byte, 1);
    }
}

static void run_switch(const struct row *row) {
    // One CPU: with more it would measure wake-ups across them, as the pipe rows do.
    use_cpus(1);
    struct ring ring = {.nr = (int)row->argument};
    for (int i = 0; i < ring.nr; i++) check(pipe(ring.pipes[i]), "pipe");
    for (ring.self = 1; ring.self < ring.nr; ring.self++) start_child(pass_on, &ring);
    measure(row, hops, &ring);
}

static void run_fork(const struct row *row) { measure(row, fork_exit, 0); }
static void run_exec(const struct row *row) { measure(row, fork_exec, 0); }
static void run_threads(const struct row *row) { measure(row, threads, 0); }

const struct row process_rows[] = {
    {"fork-exit", TIME, 1, run_fork, 0, "fork, exit and wait"},
    {"fork-exec", TIME, 1, run_exec, 0, "fork, exec of a small static program, its exit and wait"},
    {"thread-create", TIME, 1, run_threads, 0, "pthread_create and pthread_join"},
    {"switch-2", TIME, 1, run_switch, 2, "one hop of a byte through pipes between 2 processes on one CPU"},
    {"switch-16", TIME, 1, run_switch, 16, "the same in a ring of 16"},
    {0},
};
