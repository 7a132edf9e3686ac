/* May the share launch now? If not, the thread sleeps on the run word, and looks meanwhile what is done. */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pacing/bucket.h"
#include "pacing/stream.h"

#define HEARTBEAT_STALE_NS UINT64_C(1000000000)
/* How much predicted work a stream may have in flight; a thread that was stopped there goes on at the second figure,
 * which is how late it may wake up without the GPU running dry. */
#define RUN_AHEAD_NS UINT64_C(6000000)
#define REFILL_NS UINT64_C(4000000)
#define LOOK_NS UINT64_C(1000000)
/* The arbiter wakes who waits; this is for the time that it dies. */
#define UNWOKEN_NS UINT64_C(10000000)
#define UNLIMITED UINT64_MAX
/* Work that executes for so long may be waiting for the very launch that is held back (kernels that poll each other's
 * flags): then that one goes, or neither would ever end. It costs nothing while the other executes. */
#define STUCK_NS UINT64_C(1000000000)

struct gate {
    struct pacing_gpu *gpu;
    struct pacing_stream *stream;
    uint64_t waiting_since_ns; /* 0: not yet */
    uint32_t word;             /* the run word that was looked at */
    uint64_t wait_ns;          /* how long to sleep at most before the next look */
};

static uint64_t local_credit(struct gate *gate, uint64_t now_ns) {
    struct gpuslice_limits limits;
    const struct gpuslice_share *share = &gate->gpu->tenant->share;
    if (!gpuslice_limits_read(share->grant, &limits) || limits.cores == 0 || limits.cores >= 100)
        return UNLIMITED;
    return pacing_bucket_fill(share->usage, limits.cores, now_ns);
}

/* What usage->busy_ns may reach; 0: nothing may be launched, whatever it says. */
static uint64_t credit(struct gate *gate, uint64_t now_ns) {
    const struct gpuslice_grant *grant = gate->gpu->tenant->share.grant;
    /* Acquire: credit and run word are those of this beat or newer. */
    uint64_t beat_ns = atomic_load_explicit(&grant->heartbeat_ns, memory_order_acquire);
    gate->word = atomic_load_explicit(&grant->run_word, memory_order_acquire);
    if (now_ns > beat_ns + HEARTBEAT_STALE_NS)
        return local_credit(gate, now_ns);
    uint64_t turn_ends_ns = atomic_load_explicit(&grant->quantum_end_ns, memory_order_relaxed);
    if (!(gate->word & GPUSLICE_RUN) || (turn_ends_ns != 0 && now_ns >= turn_ends_ns))
        return 0;
    return atomic_load_explicit(&grant->credit_ns, memory_order_relaxed);
}

/* GPU time that is launched, not measured yet, and will be. */
static uint64_t unmeasured(const struct gate *gate) {
    const struct pacing_gpu *gpu = gate->gpu;
    if (atomic_load_explicit(&gpu->open_count, memory_order_relaxed) == 0)
        return 0;
    uint64_t until_ns = atomic_load_explicit(&gpu->until_ns, memory_order_relaxed);
    uint64_t from_ns = atomic_load_explicit(&gpu->open_since_ns, memory_order_relaxed);
    uint64_t covered_ns = atomic_load_explicit(&gpu->tenant->share.usage->covered_until_ns, memory_order_relaxed);
    /* A stream that waits (for the host, for another stream) is in flight and executes nothing. */
    uint64_t known_ns = atomic_load_explicit(&gpu->known_until_ns, memory_order_relaxed);
    from_ns = covered_ns > from_ns ? covered_ns : from_ns;
    from_ns = known_ns > from_ns ? known_ns : from_ns;
    return until_ns > from_ns ? until_ns - from_ns : 0;
}

static bool may_launch(struct gate *gate, uint64_t now_ns) {
    uint64_t credit_ns = credit(gate, now_ns), until_ns = gate->stream->until_ns;
    bool in_flight = atomic_load_explicit(&gate->gpu->open_count, memory_order_relaxed) > 0;
    gate->wait_ns = in_flight ? LOOK_NS : UNWOKEN_NS;
    gate->stream->unlimited = credit_ns == UNLIMITED;
    atomic_store_explicit(&gate->stream->lane.mark_ns,
                          gate->stream->unlimited ? PACING_MARK_UNLIMITED_NS : PACING_MARK_NS, memory_order_relaxed);
    if (gate->stream->unlimited)
        return true;
    uint64_t busy_ns = atomic_load_explicit(&gate->gpu->tenant->share.usage->busy_ns, memory_order_relaxed);
    if (busy_ns + unmeasured(gate) >= credit_ns) {
        if (now_ns > atomic_load_explicit(&gate->gpu->tenant->share.grant->heartbeat_ns, memory_order_relaxed) +
                         HEARTBEAT_STALE_NS)
            gate->wait_ns = LOOK_NS; /* nobody wakes us: the bucket fills by itself */
        return false;
    }
    uint64_t ahead_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    if (ahead_ns <= (gate->waiting_since_ns ? REFILL_NS : RUN_AHEAD_NS))
        return true;
    gate->wait_ns = ahead_ns - REFILL_NS < LOOK_NS ? ahead_ns - REFILL_NS : LOOK_NS;
    return false;
}

void pacing_ring(struct pacing_gpu *gpu, enum gpuslice_doorbell reason) {
    const struct gpuslice_grant *grant = gpu->tenant->share.grant;
    /* Sequentially consistent, after the store that says there is work: either we see what the arbiter wants to be
     * told, or it sees the work before it sleeps. */
    if (atomic_load_explicit(&grant->doorbell, memory_order_seq_cst) >= (uint32_t)reason)
        gpuslice_doorbell_ring(&gpu->tenant->share);
}

static void start_waiting(struct gate *gate, uint64_t now_ns) {
    struct gpuslice_slot *slot = gpuslice_slot_own(&gate->gpu->tenant->share);
    gate->waiting_since_ns = now_ns;
    if (slot)
        atomic_fetch_add_explicit(&slot->waiting, 1, memory_order_seq_cst);
    pacing_ring(gate->gpu, gate->word & GPUSLICE_RUN ? GPUSLICE_DOORBELL_WORK : GPUSLICE_DOORBELL_WAIT);
}

static void stop_waiting(const struct gate *gate, uint64_t now_ns) {
    struct gpuslice_slot *slot = gpuslice_slot_own(&gate->gpu->tenant->share);
    if (!slot || !gate->waiting_since_ns)
        return;
    atomic_fetch_sub_explicit(&slot->waiting, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&slot->throttled_ns, now_ns - gate->waiting_since_ns, memory_order_relaxed);
}

static void sleep_a_while(const struct gate *gate) {
    struct timespec timeout = {.tv_nsec = (long)(gate->wait_ns > 50000 ? gate->wait_ns : 50000)};
    const struct gpuslice_grant *grant = gate->gpu->tenant->share.grant;
    syscall(SYS_futex, &grant->run_word, FUTEX_WAIT, gate->word, &timeout, NULL, 0);
}

/* Nothing of what executed before this thread had to wait has ended since. */
static bool is_stuck(const struct gate *gate, uint64_t now_ns) {
    uint64_t since_ns = atomic_load_explicit(&gate->gpu->running_since_ns, memory_order_relaxed);
    return gate->waiting_since_ns && now_ns - gate->waiting_since_ns > STUCK_NS && since_ns != 0 &&
           since_ns < gate->waiting_since_ns;
}

uint32_t pacing_gate(struct pacing_stream *stream) {
    struct gate gate = {.gpu = stream->context->gpu, .stream = stream};
    uint64_t now_ns = gpuslice_now_ns();
    while (!may_launch(&gate, now_ns) && !is_stuck(&gate, now_ns)) {
        if (!gate.waiting_since_ns)
            start_waiting(&gate, now_ns);
        sleep_a_while(&gate);
        pacing_sweep(gate.gpu, stream->context->handle, false);
        now_ns = gpuslice_now_ns();
    }
    stop_waiting(&gate, now_ns);
    return gate.word;
}
