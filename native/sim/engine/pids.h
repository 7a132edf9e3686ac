/* How processes of other pid namespaces are named. */
#ifndef GPUSLICE_SIM_PIDS_H
#define GPUSLICE_SIM_PIDS_H

#include <stdint.h>

/* The kernel gives the machine's first pid namespace this inode (PROC_PID_INIT_INO), always. */
#define PID_HOST_NAMESPACE UINT64_C(0xEFFFFFFC)

/* The pid of a process that calls itself `pid` in `pid_namespace`: as we see it, found in /proc by its NSpid; the
 * host's pid for a process of the host. 0: it lives in a namespace that we do not see into, and has no pid here. */
unsigned pid_seen(uint64_t pid, uint64_t pid_namespace);

/* A pid of ours, in the pid namespace of its own; 0 for a process that is gone. */
void pid_identify(uint64_t pid, uint64_t *ret_pid, uint64_t *ret_pid_namespace);

#endif
