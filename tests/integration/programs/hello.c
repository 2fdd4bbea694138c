/* Prints what a C library sees of its start: arguments, environment, auxiliary vector, floating point. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>
#include <math.h>

int main(int argc, char **argv) {
    printf("hello from %s, %d arguments:", strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0], argc - 1);
    for (int i = 1; i < argc; i++) printf(" [%s]", argv[i]);
    printf("\nHELLO=%s\n", getenv("HELLO") ? getenv("HELLO") : "(unset)");
    printf("page %ld, random %s, secure %lu\n", getauxval(AT_PAGESZ),
           getauxval(AT_RANDOM) ? "yes" : "no", getauxval(AT_SECURE));
    printf("sqrt(2) = %.12f\n", sqrt((double)argc + 1 - argc + 1));
    return 7;
}
