/* What goes wrong with a GPU of a simulated node: injected, then felt by programs (engine.h), seen through NVML and
 * told by the kernel log. All under the node's lock unless it says so. */
#ifndef GPUSLICE_SIM_FAULTS_H
#define GPUSLICE_SIM_FAULTS_H

#include <stdbool.h>

#include "member.h"

#define XID_FALLEN_OFF_THE_BUS 79u
#define XID_RECOVERY_ACTION 154u
#define FAULT_ANY UINT32_MAX

/* Bits of node_event.type: NVML's. */
#define EVENT_SINGLE_BIT 0x1u
#define EVENT_DOUBLE_BIT 0x2u
#define EVENT_XID 0x8u
#define EVENT_UNAVAILABLE 0x4000u
#define EVENT_RECOVERY 0x8000u

struct xid {
    unsigned gpu, code;
    uint64_t pid;                            /* as the injector sees it; 0: unknown */
    unsigned gpu_instance, compute_instance; /* FAULT_ANY: the process's, or none */
    const char *message;                     /* NULL: one as the driver writes for this code */
    bool unlogged, unsignalled;              /* no line in the log; no NVML event */
    bool unfelt;                             /* who caused it has dealt with it */
};
/* Logs it, signals it, and lets the pid's programs and the GPU feel it. Takes the lock. */
void fault_xid(struct member *member, const struct xid *xid);

/* With its Xid 154 where it changes. Takes the lock, as the next ones do. */
void fault_set_recovery_action(struct member *member, unsigned gpu, uint64_t action);
/* An event for NVML; the caller has the lock. */
void fault_signal(struct node_file *node, unsigned gpu, unsigned type, uint64_t data);
/* After the unlock: whoever waits for events, work or an answer looks again. */
void fault_wake(struct member *member);
/* As nvidia-smi --gpu-reset: errors that only a reset clears are gone, and every context on it. */
void fault_reset(struct member *member, unsigned gpu);
/* As a restart of the machine: every GPU is reset, and those that were lost are not found again. */
void fault_restart(struct member *member);
/* All is as in a new node, but for the contexts. */
void fault_clear(struct member *member, unsigned gpu);
/* A line in the node's kernel log. Without the lock. */
void fault_log(const struct member *member, unsigned priority, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Without the lock, from any process: */
enum fault_condition { FAULT_NONE, FAULT_HUNG, FAULT_LOST, FAULT_MISSING };
enum fault_condition fault_condition(const struct node_file *node, unsigned gpu);
/* Waits until the GPU hangs no more, as a thread in the kernel waits for hardware: in state D, deaf to signals, except
 * that SIGKILL ends it. */
void fault_hang(const struct node_file *node, unsigned gpu);

#endif
