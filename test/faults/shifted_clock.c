/* Shifts CLOCK_REALTIME of a process by the seconds in the file CLOCK_OFFSET_FILE (int64, mapped): a step of the
   system's clock, as NTP or a user makes it, that nobody else on the machine sees. Waits that end at a time of that
   clock, which the kernel does not shift, end when they would. For LD_PRELOAD; Linux, glibc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile int64_t *offset;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void) {
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("CLOCK_OFFSET_FILE");
    int file = path ? open(path, O_RDONLY) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (map != MAP_FAILED) offset = map;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!real_gettime) real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_gettime(clock, time);
    if (clock == CLOCK_REALTIME && offset && result == 0) time->tv_sec += *offset;
    return result;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *end) {
    static int (*real_wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    const char *name = "pthread_cond_timedwait"; /* of which x86-64 has an older one, too */
    void *found = real_wait ? NULL : dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    if (!real_wait)
        real_wait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))(
            found ? found : dlsym(RTLD_NEXT, name));
    struct timespec shifted = *end;
    if (offset && end->tv_sec > 1000000000) shifted.tv_sec -= *offset; /* otherwise a time since boot */
    return real_wait(condition, mutex, &shifted);
}
