#include "tenant_process.h"
#include "../region/words.h"
#include "check.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void tenant_open(struct gpuslice_share *share, const char *directory) {
    const char *reason = NULL;

    if (gpuslice_share_open(directory, share, &reason) < 0 || gpuslice_slot_claim(share, &reason) < 0)
        fprintf(stderr, "%s\n", reason);
    CHECK(reason == NULL);
}

pid_t tenant_fork(int (*work)(void *), void *argument) {
    fflush(stdout);
    pid_t parent = getpid(), child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed case leaves nobody behind */
        _exit(getppid() == parent ? work(argument) : 0);
    }
    return child;
}

int tenant_wait(pid_t child) {
    int status;

    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void tenant_kill(pid_t child) {
    kill(child, SIGKILL);
    CHECK_EQUAL(tenant_wait(child), 128 + SIGKILL);
}

uint64_t tenant_held_bytes(const struct gpuslice_share *share, uint32_t slot_index) {
    return word_bytes(share->usage->slots[slot_index].held_word);
}

void tenant_check_sum(struct gpuslice_share *share) {
    uint64_t sum = 0;

    gpuslice_charge(share, GPUSLICE_GRANULE, GPUSLICE_MEMORY_DATA);
    gpuslice_refund(share, GPUSLICE_GRANULE, GPUSLICE_MEMORY_DATA);
    for (uint32_t i = 0; i < GPUSLICE_SLOTS; i++)
        sum += tenant_held_bytes(share, i);
    CHECK_EQUAL(gpuslice_total_bytes(share), sum);
}

void tenant_check_total(struct gpuslice_share *share, uint64_t bytes) {
    tenant_check_sum(share);
    gpuslice_reap(share);
    tenant_check_sum(share);
    CHECK_EQUAL(gpuslice_total_bytes(share), bytes);
}
