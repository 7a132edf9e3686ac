/* A share within one process: opening, reserving, refunding, GPU time, what the agent reads of it. */
#include "../region/share.h"
#include "check.h"
#include "temporary.h"

#include <errno.h>
#include <gpuslice/agent.h>

#define MIB (UINT64_C(1) << 20)

static struct gpuslice_share share;
static const char *reason;

static const char *open_new(uint64_t memory_bytes) {
    const char *directory = temporary_share(memory_bytes);

    CHECK_EQUAL(gpuslice_share_open(directory, &share, &reason), 0);
    CHECK_EQUAL(gpuslice_slot_claim(&share, &reason), 0);
    return directory;
}

CASE(a_share_gives_its_limit_and_no_granule_more) {
    open_new(MIB);
    CHECK_EQUAL(gpuslice_reserve(&share, MIB - 512, GPUSLICE_MEMORY_DATA), 0);
    CHECK_EQUAL(gpuslice_reserve(&share, 513, GPUSLICE_MEMORY_DATA), -ENOMEM);
    CHECK_EQUAL(gpuslice_reserve(&share, 1, GPUSLICE_MEMORY_DATA), 0);
    CHECK_EQUAL(gpuslice_total_bytes(&share), MIB);
    CHECK_EQUAL(gpuslice_reserve(&share, 1, GPUSLICE_MEMORY_DATA), -ENOMEM);
    gpuslice_refund(&share, 1, GPUSLICE_MEMORY_DATA);
    CHECK_EQUAL(gpuslice_total_bytes(&share), MIB - 512);
    gpuslice_share_close(&share);
}

CASE(the_agent_reads_what_a_process_holds) {
    const char *directory = open_new(MIB);
    struct gpuslice_agent_share *agent;
    struct gpuslice_share_usage usage;
    struct gpuslice_process_usage process;
    char why[256];

    gpuslice_reserve(&share, 4096, GPUSLICE_MEMORY_CONTEXT);
    CHECK_EQUAL(gpuslice_busy_add(&share, 100, 300), 200);
    CHECK_EQUAL(gpuslice_busy_add(&share, 200, 400), 100);
    CHECK_EQUAL(gpuslice_agent_share_open(directory, &agent, why), 0);
    CHECK_EQUAL(gpuslice_agent_share_usage(agent, &usage, &process, 1, why), 0);
    CHECK_EQUAL(usage.total_bytes, 4096);
    CHECK_EQUAL(usage.live_bytes, 4096);
    CHECK_EQUAL(usage.process_count, 1);
    CHECK_EQUAL(usage.busy_ns, 300);
    CHECK_EQUAL(process.context_bytes, 4096);
    CHECK_EQUAL(process.busy_ns, 300);
    gpuslice_share_close(&share);
    CHECK_EQUAL(gpuslice_agent_share_usage(agent, &usage, &process, 1, why), 0);
    CHECK_EQUAL(usage.total_bytes, 0);
    CHECK_EQUAL(usage.process_count, 0);
    gpuslice_agent_share_close(agent);
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
