// The benchmark program: finds rows by name and runs them.
//
//   bench [options] list         names what there is
//   bench [options] run NAME...  runs rows (`all`: every one)
//   bench [options] serve        reads "ROW" lines from standard input and runs each
//   bench true                   ends: what the exec row starts
//
// Every row answers with one line, `ROW name value unit` or `FAIL name reason`.
// When it is the first process of an initramfs (`/init`) it starts Linux: see linux_init.c.

#include "bench.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct settings settings = {.folder = "/root/bench.work", .host_port = 0};

static const struct row *const tables[] = {calls_rows, process_rows, ipc_rows,  memory_rows,
                                           file_rows,  disk_rows,    net_rows,  work_rows};
#define NR_TABLES (sizeof tables / sizeof *tables)

int linux_init(void);

uint64_t now(void) {
    if (settings.instructions) {
        uint32_t low, high;
        __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
        return (uint64_t)high << 32 | low;
    }
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double cost_limited(operation *op, void *context, uint64_t most) {
    const uint64_t slice = settings.instructions ? 10000000 : settings.quick ? 15000000 : 40000000;
    uint64_t n = 1, took;
    // Warms up: caches, the emulator's translations, what the system learns of this process.
    op(1, context);
    op(1, context);
    for (;;) {
        uint64_t start = now();
        op(n, context);
        took = now() - start;
        if (took >= slice / 2 || n >= most) break;
        uint64_t more = took == 0 ? n * 16 : n * slice / took;
        n = more > n * 16 ? n * 16 : more < n * 2 ? n * 2 : more;
        if (n > most) n = most;
    }
    double figures[5];
    for (int i = 0; i < 5; i++) {
        uint64_t start = now();
        op(n, context);
        figures[i] = (double)(now() - start) / (double)n;
        // What is slow anyway need not be repeated as often.
        if (took > 20 * slice && i == 0) return figures[0];
        if (took > 5 * slice && i == 2) {
            qsort(figures, 3, sizeof *figures, by_value);
            return figures[1];
        }
    }
    qsort(figures, 5, sizeof *figures, by_value);
    return figures[2];
}

double cost(operation *op, void *context) { return cost_limited(op, context, UINT64_MAX / 64); }

void result(const struct row *row, double one, uint64_t bytes) {
    if (settings.instructions) {
        if (row->kind == BANDWIDTH)
            printf("ROW %s %.1f insn/KiB\n", row->name, one / ((double)bytes / 1024));
        else
            printf("ROW %s %.1f insn\n", row->name, one);
    } else if (row->kind == BANDWIDTH) {
        printf("ROW %s %.3f MB/s\n", row->name, (double)bytes * 1e3 / one);
    } else if (row->kind == RATE) {
        printf("ROW %s %.1f 1/s\n", row->name, 1e9 / one);
    } else {
        printf("ROW %s %.1f ns\n", row->name, one);
    }
    fflush(stdout);
}

void measure(const struct row *row, operation *op, void *context) {
    result(row, cost(op, context), 0);
}

void measure_bytes(const struct row *row, operation *op, void *context, uint64_t bytes) {
    result(row, cost(op, context), bytes);
}

static const char *running = "?";

void fail(const char *what) {
    printf("FAIL %s %s: %s\n", running, what, strerror(errno));
    fflush(stdout);
    _exit(1);
}

void failed_program(const char *name, int status, const char *said, size_t length) {
    // The last line; an answer is one.
    while (length > 0 && said[length - 1] == '\n') length--;
    size_t start = length;
    while (start > 0 && said[start - 1] != '\n') start--;
    printf("FAIL %s %s: %s %d: %.*s\n", running, name, WIFSIGNALED(status) ? "signal" : "status",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), (int)(length - start), said + start);
    fflush(stdout);
    _exit(1);
}

long check(long returned, const char *what) {
    if (returned < 0) fail(what);
    return returned;
}

void read_all(int fd, void *buffer, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t got = read(fd, (char *)buffer + done, n - done);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = EPIPE;
        if (got <= 0) fail("read");
        done += (size_t)got;
    }
}

void write_all(int fd, const void *buffer, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t put = write(fd, (const char *)buffer + done, n - done);
        if (put < 0 && errno == EINTR) continue;
        // Nothing taken and no reason told: not whatever failed last.
        if (put == 0) errno = EIO;
        if (put <= 0) fail("write");
        done += (size_t)put;
    }
}

int start_child(void (*child)(void *), void *context) {
    fflush(stdout);
    int pid = (int)check(fork(), "fork");
    if (pid == 0) {
        child(context);
        fflush(stdout);
        _exit(0);
    }
    return pid;
}

void wait_child(int pid) {
    int status;
    check(waitpid(pid, &status, 0), "waitpid");
    if (status != 0) {
        errno = ECHILD;
        fail("a child failed");
    }
}

void use_cpus(int n) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < n; i++) CPU_SET(i, &set);
    check(sched_setaffinity(0, sizeof set, &set), "sched_setaffinity");
}

const char *in_folder(const char *name) {
    static char paths[2][256];
    static int next;
    next ^= 1;
    snprintf(paths[next], sizeof *paths, "%s/%s", settings.folder, name);
    return paths[next];
}

const char *file_of(const char *name, uint64_t size) {
    const char *path = in_folder(name);
    struct stat there;
    if (stat(path, &there) == 0 && (uint64_t)there.st_size == size) return path;
    int fd = (int)check(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644), path);
    static char block[65536];
    for (size_t i = 0; i < sizeof block; i++) block[i] = (char)(i * 2654435761u >> 13);
    for (uint64_t done = 0; done < size; done += sizeof block)
        write_all(fd, block, size - done < sizeof block ? size - done : sizeof block);
    check(close(fd), path);
    return path;
}

static void run(const struct row *row) {
    fflush(stdout);
    int pid = fork();
    if (pid < 0) {
        printf("FAIL %s fork: %s\n", row->name, strerror(errno));
        return;
    }
    if (pid == 0) {
        setpgid(0, 0);
        running = row->name;
        // While instructions are counted the machine's clock leaps ahead whenever the CPU waits, for a disk that the host
        // keeps busy by minutes: there only who asked can tell what takes too long.
        if (!settings.instructions) alarm(settings.quick ? 30 : 90);
        row->run(row);
        fflush(stdout);
        _exit(0);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    // What it left behind, a server or one that hangs, ends with it.
    kill(-pid, SIGKILL);
    if (WIFSIGNALED(status))
        printf("FAIL %s %s\n", row->name,
               WTERMSIG(status) == SIGALRM ? "did not end in time" : strsignal(WTERMSIG(status)));
}

// Runs the rows called `name`; tells when there is none.
static void run_named(const char *name) {
    int found = 0, all = strcmp(name, "all") == 0;
    for (size_t t = 0; t < NR_TABLES; t++)
        for (const struct row *row = tables[t]; row->name; row++)
            if (all ? !settings.instructions || row->countable : strcmp(name, row->name) == 0) {
                found = 1;
                run(row);
            }
    if (!found) printf("FAIL %s no such row\n", name);
}

static void serve(void) {
    char line[64];
    printf("READY\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = 0;
        if (strcmp(line, "quit") == 0) break;
        if (*line) run_named(line);
        printf("DONE %s\n", line);
        fflush(stdout);
    }
}

static void list(void) {
    for (size_t t = 0; t < NR_TABLES; t++)
        for (const struct row *row = tables[t]; row->name; row++)
            printf("%s\t%s\t%s\n", row->name, row->countable ? "countable" : "-", row->what);
}

static noreturn void usage(void) {
    fprintf(stderr, "usage: bench [-i] [-q] [-d FOLDER] [-D DISK] [-H ADDRESS:PORT] list|run NAME...|serve\n");
    exit(2);
}

int main(int argc, char **argv) {
    if (strcmp(argv[0], "/init") == 0 && getpid() == 1) return linux_init();
    if (argc == 2 && strcmp(argv[1], "true") == 0) return 0;
    settings.program = argv[0];
    for (int option; (option = getopt(argc, argv, "iqd:D:H:")) != -1;) switch (option) {
        case 'i': settings.instructions = 1; break;
        case 'q': settings.quick = 1; break;
        case 'd': settings.folder = optarg; break;
        case 'D': settings.disk = optarg; break;
        case 'H': {
            char *colon = strrchr(optarg, ':');
            if (!colon) usage();
            *colon = 0;
            settings.host = optarg;
            settings.host_port = atoi(colon + 1);
            break;
        }
        default: usage();
        }
    if (optind == argc) usage();
    mkdir(settings.folder, 0755);
    signal(SIGPIPE, SIG_IGN);
    if (strcmp(argv[optind], "list") == 0) list();
    else if (strcmp(argv[optind], "serve") == 0) serve();
    else if (strcmp(argv[optind], "run") == 0) {
        for (int i = optind + 1; i < argc; i++) run_named(argv[i]);
    } else usage();
    return 0;
}
