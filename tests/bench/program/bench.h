// What the rows of the benchmark share: clocks, the measuring loop, and results.
//
// A row is a function that measures one thing and hands its figure to `result`. It runs in a
// process group of its own, which ends when it does not finish in time, so that a kernel that
// hangs in one row still answers for the others.

#ifndef BENCH_H
#define BENCH_H

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

enum kind {
    TIME,      // nanoseconds per operation; the less the better
    BANDWIDTH, // bytes per operation are moved; the more MB/s the better
    RATE,      // operations per second; the more the better
};

struct row {
    const char *name;
    enum kind kind;
    // One thread of control at a time and no device: its instructions can be counted.
    int countable;
    void (*run)(const struct row *);
    long argument;
    const char *what;
};

// The tables of rows, each ended by an entry without a name.
extern const struct row calls_rows[], process_rows[], ipc_rows[], memory_rows[], file_rows[],
    disk_rows[], net_rows[], work_rows[];

// Settings of this run.
struct settings {
    int instructions;       // count instead of time: see `now`
    int quick;              // less of everything
    const char *program;    // this program's own file
    const char *folder;     // a folder on the disk to work in
    const char *disk;       // a disk to read from, or null
    const char *host;       // the host's address, or null
    int host_port;          // TCP and UDP port of the host's peer
};
extern struct settings settings;

// Nanoseconds since some moment; or, when instructions are counted, the time stamp counter: a
// virtual machine run with `-icount shift=0` advances it by one per instruction.
uint64_t now(void);

// Does an operation `n` times.
typedef void operation(uint64_t n, void *context);

// Finds how many operations take long enough to be measured, repeats that a few times and
// returns the median cost of one, in units of `now`.
double cost(operation *op, void *context);

// As `cost`, with at most `most` operations in a row.
double cost_limited(operation *op, void *context, uint64_t most);

// Reports a row's figure from the cost of one operation that moves `bytes` (0 where it is not
// about bandwidth).
void result(const struct row *row, double cost_of_one, uint64_t bytes);

// Measures and reports.
void measure(const struct row *row, operation *op, void *context);
void measure_bytes(const struct row *row, operation *op, void *context, uint64_t bytes);

// Ends the row with a message and errno's.
noreturn void fail(const char *what);
// A program that a row ran failed: tells how it ended (a wait status) and the last line of what it said.
noreturn void failed_program(const char *name, int status, const char *said, size_t length);

// Fails when a call returned less than 0; else returns what it returned.
long check(long returned, const char *what);

// Reads or writes all of it; fails when it cannot.
void read_all(int fd, void *buffer, size_t n);
void write_all(int fd, const void *buffer, size_t n);

// Runs `child` in a new process; returns its id. The child ends with 0 when the function returns.
int start_child(void (*child)(void *), void *context);

// Waits for a child that must end with 0.
void wait_child(int pid);

// Keeps this process, and those that it starts, on the first `n` CPUs.
void use_cpus(int n);

// A path in the folder to work in; valid until the second next call.
const char *in_folder(const char *name);

// A file of `size` bytes in that folder, made when it is not there yet. Returns its path.
const char *file_of(const char *name, uint64_t size);

#endif
