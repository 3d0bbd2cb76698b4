/* A wall clock that jumps every four seconds, an hour on and an hour back in turn, in every process. Preloaded by
   LD_PRELOAD, it stands before the C library's own functions. The monotonic clock stays as it is. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define PERIOD 4 /* seconds between jumps */
#define JUMP 3600

static time_t jump(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (now.tv_sec / PERIOD) % 2 ? JUMP : 0;
}

int clock_gettime(clockid_t clock, struct timespec *found) {
    int status = (int)syscall(SYS_clock_gettime, clock, found);
    if (!status && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) found->tv_sec += jump();
    return status;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    int status = (int)syscall(SYS_gettimeofday, found, zone);
    if (!status && found) found->tv_sec += jump();
    return status;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
