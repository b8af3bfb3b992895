/* One fault of each kind, for a process that was not instrumented itself: what the module is in nginx. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

int fault(const char *kind) {
    volatile int one = 1;
    char *volatile memory = malloc(8);
    int result = 0;
    if (strcmp(kind, "overflow") == 0) result = memory[7 + one];
    if (strcmp(kind, "undefined") == 0) result = INT_MAX - 1 + one + one;
    if (strcmp(kind, "leak") != 0) free(memory);
    memory = NULL;
    if (strcmp(kind, "freed") == 0) { memory = malloc(8); free(memory); result = memory[0]; }
    return result & 1;
}
