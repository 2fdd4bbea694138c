/* The same arithmetic by one process, then shared between N; prints the ratio of the times. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static unsigned long work(unsigned long rounds) {
    unsigned long x = 88172645463325252UL;
    for (unsigned long i = 0; i < rounds; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; }
    return x;
}

static double timed(int processes, unsigned long rounds) {
    double start = now();
    for (int i = 0; i < processes; i++)
        if (fork() == 0) _exit(work(rounds / processes) == 0);
    for (int i = 0; i < processes; i++) {
        int status;
        if (wait(&status) < 0 || status != 0) { printf("a worker failed\n"); exit(1); }
    }
    return now() - start;
}

/* Whatever else the machine does only makes either time longer, so the shortest of each count; it goes on until
 * the ratio is good or the patience is out. */
int main(int argc, char **argv) {
    int processes = argc > 1 ? atoi(argv[1]) : 2;
    double enough = argc > 2 ? atof(argv[2]) : 1.9;
    unsigned long rounds = 1000000;
    while (timed(1, rounds) < 0.2) rounds *= 2;
    double one = 1e9, many = 1e9;
    for (int i = 0; i < 60 && (i < 3 || one / many < enough); i++) {
        double t = timed(1, rounds);
        if (t < one) one = t;
        t = timed(processes, rounds);
        if (t < many) many = t;
    }
    printf("speedup %.2f\n", one / many);
    return 0;
}
