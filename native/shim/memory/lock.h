/* A lock of one word for short critical sections: uncontended it is two atomic operations, contended it sleeps.
 *
 * Not pthread_mutex_t: at the glibc 2.17 baseline that is twice the cost, and an allocation takes four of these. */
#ifndef GPUSLICE_SHIM_MEMORY_LOCK_H
#define GPUSLICE_SHIM_MEMORY_LOCK_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct memory_lock {
    _Atomic uint32_t word; /* 0: free, 1: held, 2: held and somebody sleeps */
};

static inline void memory_lock_wait(struct memory_lock *lock) {
    /* Acquire: what the last holder wrote is seen. Storing 2 is pessimistic: we may be the only waiter, but can not
     * know, and a needless wake costs less than a lost one. */
    while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0)
        syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

static inline void memory_lock_take(struct memory_lock *lock) {
    uint32_t expected = 0;
    /* Acquire, as above. */
    if (!atomic_compare_exchange_strong_explicit(&lock->word, &expected, 1, memory_order_acquire, memory_order_relaxed))
        memory_lock_wait(lock);
}

static inline int memory_lock_try(struct memory_lock *lock) {
    uint32_t expected = 0;
    /* Acquire, as above. */
    return atomic_compare_exchange_strong_explicit(&lock->word, &expected, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static inline void memory_lock_give(struct memory_lock *lock) {
    /* Release: the next holder sees what we wrote. */
    if (atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2)
        syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

#endif
