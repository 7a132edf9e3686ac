/* What tests with several processes of one share have in common. */
#ifndef GPUSLICE_TEST_TENANT_PROCESS_H
#define GPUSLICE_TEST_TENANT_PROCESS_H

#include "../region/share.h"

#include <sys/types.h>

/* Opens the share in `directory` and claims a slot; the test ends where that fails. */
void tenant_open(struct gpuslice_share *share, const char *directory);

/* Forks a child that runs work(argument) and ends with what it returns. */
pid_t tenant_fork(int (*work)(void *), void *argument);
/* The exit status, or 128 + the signal that killed it. */
int tenant_wait(pid_t child);
void tenant_kill(pid_t child);

/* CHECKs that no byte is lost or made up: completes the last transaction, then compares the total with the sum of
 * the held words of all slots. For moments in which nobody else is in a transaction. */
void tenant_check_sum(struct gpuslice_share *share);
/* The same after the dead are reaped; and then exactly `bytes` are charged. */
void tenant_check_total(struct gpuslice_share *share, uint64_t bytes);
uint64_t tenant_held_bytes(const struct gpuslice_share *share, uint32_t slot_index);

#endif
