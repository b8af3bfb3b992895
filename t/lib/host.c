/* Loads a library and calls fault(argv[2]) in it, as nginx loads the module. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    void *library = argc == 3 ? dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) : NULL;
    if (library == NULL) { puts(dlerror()); return 99; }
    int (*fault)(const char *) = (int (*)(const char *)) dlsym(library, "fault");
    return fault(argv[2]) & 0;
}
