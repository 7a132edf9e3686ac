/* What a process feels of a GPU that does not answer. */
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"

#define LOOK_NS 5000000

static uint64_t look(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

enum fault_condition fault_condition(const struct node_file *node, unsigned gpu) {
    if (!atomic_load_explicit(&node->trouble, memory_order_relaxed))
        return FAULT_NONE;
    const struct node_fault *fault = &node->faults[gpu];
    return look(&fault->missing) ? FAULT_MISSING
           : look(&fault->lost)  ? FAULT_LOST
           : look(&fault->hung)  ? FAULT_HUNG
                                 : FAULT_NONE;
}

/* A parent in vfork() is in state D and takes no signal but SIGKILL, until its child ends. The child shares its memory
 * and does nothing but look. */
void fault_hang(const struct node_file *node, unsigned gpu) {
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    pid_t parent = getpid();
    pid_t child = vfork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (look(&node->faults[gpu].hung) && !look(&node->faults[gpu].lost) && getppid() == parent)
            clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        _exit(0);
    }
    while (child < 0 && look(&node->faults[gpu].hung)) /* no process to be had: asleep, then */
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
}
