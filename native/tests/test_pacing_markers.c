/* The shim on the simulated driver, in one program, so that the test can stand between them and count the events that
 * the shim records by itself. */
#include "driver/node.h"

#include <gpuslice/agent.h>
#include <unistd.h>

#include "../shim/driver.h"
#include "temporary.h"

static _Thread_local unsigned records; /* by this thread: others mark what it left unmarked, in their own time */
static __typeof__(&cuEventRecord) record;

static CUresult count_record(CUevent event, CUstream stream) {
    records++;
    return record(event, stream);
}

static CUstream stream_new(void) {
    CUstream stream;
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    return stream;
}

static unsigned records_of_launch(CUstream stream, bool overlaps) {
    static CUfunction function;
    uint64_t ns = 1000;
    uint32_t steps_per_us = 1000;
    void *parameters[] = {&ns, &steps_per_us};
    CUlaunchAttribute attribute = {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                                   .value.programmaticStreamSerializationAllowed = overlaps};
    CUlaunchConfig config = {.gridDimX = 1,
                             .gridDimY = 1,
                             .gridDimZ = 1,
                             .blockDimX = 32,
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .hStream = stream,
                             .attrs = &attribute,
                             .numAttrs = 1};
    if (!function)
        function = kernel("gpuslice_spin");
    unsigned before = records;
    OK(cuLaunchKernelEx(&config, function, parameters, NULL));
    return records - before;
}

/* So that nothing has to be marked to be measured. */
static void learn(void) {
    CUstream stream = stream_new();
    for (int i = 0; i < 5; i++) {
        records_of_launch(stream, false);
        OK(cuStreamSynchronize(stream));
        usleep(2000); /* the account looks at it */
    }
}

CASE(a_launch_into_an_idle_stream_stands_between_two_markers) {
    CHECK_EQUAL(records_of_launch(stream_new(), false), 2);
}

CASE(launches_in_a_loop_are_marked_sparsely) {
    CUstream stream = stream_new();
    unsigned marked = 0;
    for (int i = 0; i < 256; i++)
        marked += records_of_launch(stream, false);
    CHECK(marked > 0);
    CHECK(marked <= 32);
}

CASE(no_marker_stands_between_launches_that_overlap) {
    CUstream stream = stream_new();
    CHECK(records_of_launch(stream, true) <= 1); /* the stream is idle: nothing that it could part */
    for (int i = 0; i < 50; i++)
        CHECK_EQUAL(records_of_launch(stream, true), 0);
}

CASE(no_marker_stands_behind_a_launch_that_the_next_may_overlap) {
    CUstream stream = stream_new();
    records_of_launch(stream, true);
    for (int i = 0; i < 20; i++) {
        CHECK_EQUAL(records_of_launch(stream, true), 0);
        records_of_launch(stream, false);
        CHECK_EQUAL(records_of_launch(stream, true), 0);
    }
}

static void join_share(void) {
    char command[4200], shown[16384] = "", reason[256] = "";
    struct gpuslice_share_limits limits = {.memory_bytes = 4096 * MIB, .cores = 90, .weight = 1};
    const char *directory = temporary_directory();
    snprintf(command, sizeof command, SIM_NODE_PROGRAM " show %s", getenv("GPUSLICE_SIM_NODE"));
    FILE *show = popen(command, "r");
    CHECK(show && fread(shown, 1, sizeof shown - 1, show) > 0);
    CHECK_EQUAL(pclose(show), 0);
    char *uuid = strstr(shown, "GPU-");
    CHECK(uuid);
    uuid[strcspn(uuid, "\"")] = '\0';
    CHECK_EQUAL(gpuslice_files_create(directory, uuid, "share", &limits, reason), 0);
    setenv("GPUSLICE_SHARES", directory, 1);
}

int main(int argc, char **argv) {
    node_new();
    join_share();
    context_new();
    record = driver_table.functions.cuEventRecord;
    driver_table.functions.cuEventRecord = count_record;
    learn();
    return check_main(argc, argv);
}
