/* The thread that looks while something is in flight and the program's own threads do not: a program may launch and
 * then only wait. It starts with the first paced launch, looks at most every millisecond, and sleeps when nothing is
 * in flight. */
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "elf.h"
#include "pacing/stream.h"

#define LOOK_NS 1000000
#define LOOK_SOONEST_NS 100000
/* Looks without anything in flight before it sleeps: a program that launches every millisecond wakes nobody. */
#define LINGER_LOOKS 5u

_Atomic bool pacing_stopping;

enum { NOT_STARTED, AWAKE, ASLEEP };
static _Atomic uint32_t state; /* futex */

/* When the first of all GPUs in flight is forecast to be done; 0: nothing is in flight. */
static uint64_t look(void) {
    uint64_t until_ns = 0;
    for (unsigned i = 0; i < tenant.gpu_count; i++) {
        struct pacing_gpu *gpu = pacing_gpu_of(&tenant.gpus[i]);
        if (atomic_load_explicit(&gpu->open_count, memory_order_relaxed) == 0)
            continue;
        pacing_sweep(gpu, PACING_ANY_CONTEXT, true);
        uint64_t gpu_until_ns = atomic_load_explicit(&gpu->until_ns, memory_order_relaxed);
        if (gpu_until_ns && atomic_load_explicit(&gpu->unlimited, memory_order_relaxed))
            gpu_until_ns = UINT64_MAX; /* to look at the end of each kernel would only be in the program's way */
        if (until_ns == 0 || gpu_until_ns < until_ns)
            until_ns = gpu_until_ns;
    }
    return until_ns;
}

static void sleep_until(uint64_t until_ns) {
    uint64_t now_ns = gpuslice_now_ns();
    long left_ns = until_ns < now_ns + LOOK_NS ? (until_ns > now_ns ? (long)(until_ns - now_ns) : 0) : LOOK_NS;
    struct timespec pause = {.tv_nsec = left_ns < LOOK_SOONEST_NS ? LOOK_SOONEST_NS : left_ns};
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &pause, NULL);
}

static bool anything_open(void) {
    for (unsigned i = 0; i < tenant.gpu_count; i++)
        /* Sequentially consistent: pairs with pacing_watch(), which reads the state after the count was raised. */
        if (atomic_load_explicit(&pacing_gpu_of(&tenant.gpus[i])->open_count, memory_order_seq_cst) > 0)
            return true;
    return false;
}

static void sleep_deeply(void) {
    atomic_store_explicit(&state, ASLEEP, memory_order_seq_cst);
    while (!anything_open() && atomic_load_explicit(&state, memory_order_seq_cst) == ASLEEP)
        syscall(SYS_futex, &state, FUTEX_WAIT_PRIVATE, ASLEEP, NULL, NULL, 0);
    atomic_store_explicit(&state, AWAKE, memory_order_relaxed);
}

static void *watch(void *unused) {
    (void)unused;
    unsigned idle = 0;
    prctl(PR_SET_NAME, "gpuslice");
    pacing_relax(); /* for good: an event query must not break anybody's capture */
    while (!atomic_load_explicit(&pacing_stopping, memory_order_acquire)) {
        uint64_t until_ns = look();
        idle = until_ns ? 0 : idle + 1;
        if (idle > LINGER_LOOKS)
            sleep_deeply();
        else
            sleep_until(until_ns ? until_ns : UINT64_MAX);
    }
    return NULL;
}

/* The driver must not be called while it is taken down: waits until nobody of ours is in it. */
static void stop_at_exit(void) {
    atomic_store_explicit(&pacing_stopping, true, memory_order_release);
    for (unsigned i = 0; i < tenant.gpu_count; i++) {
        memory_lock_take(&pacing_gpu_of(&tenant.gpus[i])->lock);
        memory_lock_give(&pacing_gpu_of(&tenant.gpus[i])->lock);
    }
}

static void start(void) {
    static bool registered;
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))elf_libc_symbol("pthread_create");
    sigset_t all, before;
    pthread_t thread;
    if (!registered)
        registered = atexit(stop_at_exit) == 0;
    sigfillset(&all);                        /* the program's signals are for the program's threads */
    sigprocmask(SIG_SETMASK, &all, &before); /* of this thread, and what it starts; pthread_sigmask is libpthread's */
    if (create)
        create(&thread, NULL, watch, NULL); /* without it the program's own launches and waits do the looking */
    sigprocmask(SIG_SETMASK, &before, NULL);
}

void pacing_watch(void) {
    uint32_t now = atomic_load_explicit(&state, memory_order_seq_cst);
    if (now == NOT_STARTED &&
        atomic_compare_exchange_strong_explicit(&state, &now, AWAKE, memory_order_relaxed, memory_order_relaxed)) {
        start();
    } else if (now == ASLEEP) {
        atomic_store_explicit(&state, AWAKE, memory_order_seq_cst);
        syscall(SYS_futex, &state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

void pacing_watch_forget(void) {
    atomic_store_explicit(&state, NOT_STARTED, memory_order_relaxed);
}
