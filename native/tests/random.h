/* Random numbers that a printed seed brings back (splitmix64). */
#ifndef GPUSLICE_TEST_RANDOM_H
#define GPUSLICE_TEST_RANDOM_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct random {
    uint64_t state;
};

static inline struct random random_seeded(uint64_t seed) {
    return (struct random){seed};
}

static inline uint64_t random_next(struct random *random) {
    uint64_t value = random->state += UINT64_C(0x9e3779b97f4a7c15);

    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static inline uint64_t random_below(struct random *random, uint64_t bound) {
    return random_next(random) % bound;
}

/* A seed that differs from run to run, short enough to be typed. */
static inline uint64_t random_fresh(void) {
    struct random random = random_seeded((uint64_t)time(NULL) * 1000003 + (uint64_t)getpid());

    return random_below(&random, 1000000000);
}

#endif
