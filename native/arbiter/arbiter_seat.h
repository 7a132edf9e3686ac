/* One share as the arbiter sees it: reads the tenant's word from the usage file, writes the decision to the grant. */
#ifndef GPUSLICE_ARBITER_SEAT_H
#define GPUSLICE_ARBITER_SEAT_H

#include "agent_share.h"
#include "arbiter_policy.h"

#define SEAT_LIVE_MAX GPUSLICE_SLOTS

struct arbiter_seat {
    struct arbiter_share account;
    struct gpuslice_agent_share *files;
    uint64_t looked_ns;          /* when limits and `live` were last found out; 0: must be */
    uint64_t look_not_before_ns; /* it was dear to find out */
    uint64_t heartbeat_ns;       /* as last written */
    uint32_t live_count;
    uint16_t live[SEAT_LIVE_MAX]; /* the slots that processes hold, ascending */
};

/* Reads limits and usage into seat->account. A usage file that cannot be read has no live process. */
void seat_read(struct arbiter_seat *seat, uint64_t now_ns);
/* Publishes seat->account's decision, wakes who waits for it, and beats. */
void seat_write(struct arbiter_seat *seat, uint64_t now_ns);
/* Tells the share when to ring. */
void seat_set_doorbell(struct arbiter_seat *seat, enum gpuslice_doorbell doorbell);

#endif
