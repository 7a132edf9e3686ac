/* The order and the time of what streams run. */
#include <pthread.h>
#include <unistd.h>

#include "node.h"

static CUstream stream_new(unsigned flags) {
    CUstream stream;
    OK(cuStreamCreate(&stream, flags));
    return stream;
}
static CUevent event_new(unsigned flags) {
    CUevent event;
    OK(cuEventCreate(&event, flags));
    return event;
}

/* Nanoseconds, which a float of milliseconds holds exactly enough for these times. */
static long elapsed_ns(CUevent from, CUevent to) {
    float milliseconds;
    OK(cuEventElapsedTime_v2(&milliseconds, from, to));
    return (long)((double)milliseconds * 1e6 + 0.5);
}

CASE(events_measure_the_time_of_what_lies_between_them) {
    CUstream stream = stream_new(CU_STREAM_NON_BLOCKING);
    CUevent start = event_new(0), end = event_new(0);
    struct gate gate = gate_new(stream);
    OK(cuEventRecord(start, stream));
    spin(5000000, stream);
    spin(2000000, stream);
    OK(cuEventRecord(end, stream));
    CHECK_EQUAL(cuEventQuery(end), CUDA_ERROR_NOT_READY);
    CHECK_EQUAL(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
    float milliseconds;
    CHECK_EQUAL(cuEventElapsedTime_v2(&milliseconds, start, end), CUDA_ERROR_NOT_READY);
    gate_open(gate);
    OK(cuEventSynchronize(end));
    CHECK_EQUAL(elapsed_ns(start, end), 7000000);
    OK(cuStreamQuery(stream));
    OK(cuStreamDestroy_v2(stream));
}

CASE(two_full_kernels_of_one_process_on_two_streams_take_as_long_as_one_after_the_other) {
    CUstream one = stream_new(CU_STREAM_NON_BLOCKING), two = stream_new(CU_STREAM_NON_BLOCKING);
    CUevent start = event_new(0), end_one = event_new(0), end_two = event_new(0);
    struct gate gate = gate_new(one);
    OK(cuEventRecord(start, one));
    OK(cuStreamWaitEvent(two, start, 0));
    spin(4000000, one);
    spin(4000000, two);
    OK(cuEventRecord(end_one, one));
    OK(cuEventRecord(end_two, two));
    gate_open(gate);
    OK(cuCtxSynchronize());
    CHECK_EQUAL(elapsed_ns(start, end_one), 8000000);
    CHECK_EQUAL(elapsed_ns(start, end_two), 8000000);
}

CASE(an_event_that_was_never_recorded_holds_nobody_up) {
    CUstream stream = stream_new(0);
    CUevent event = event_new(0);
    OK(cuEventQuery(event));
    OK(cuEventSynchronize(event));
    OK(cuStreamWaitEvent(stream, event, 0));
    OK(cuStreamQuery(stream));
    float milliseconds;
    CHECK_EQUAL(cuEventElapsedTime_v2(&milliseconds, event, event), CUDA_ERROR_INVALID_HANDLE);
}

CASE(the_legacy_stream_waits_for_blocking_streams_and_they_for_it) {
    CUstream blocking = stream_new(0), other = stream_new(0), free_one = stream_new(CU_STREAM_NON_BLOCKING);
    CUdeviceptr word;
    OK(cuMemAlloc_v2(&word, 4));
    struct gate gate = gate_new(blocking);
    fill(word, 1, 1, NULL);
    fill(word, 2, 1, other);
    CHECK_EQUAL(cuStreamQuery(CU_STREAM_LEGACY), CUDA_ERROR_NOT_READY);
    CHECK_EQUAL(cuStreamQuery(other), CUDA_ERROR_NOT_READY);
    OK(cuStreamQuery(free_one));
    OK(cuStreamQuery(CU_STREAM_PER_THREAD));
    gate_open(gate);
    OK(cuStreamSynchronize(other));
    uint32_t value;
    OK(cuMemcpyDtoH_v2(&value, word, 4));
    CHECK_EQUAL(value, 2);
    OK(cuMemFree_v2(word));
}

static void *query_own(void *unused) {
    (void)unused;
    CUcontext context;
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuStreamQuery_ptsz(NULL));
    OK(cuDevicePrimaryCtxRelease_v2(0));
    return NULL;
}

CASE(the_default_stream_of_a_ptsz_call_is_the_calling_threads_own) {
    CUcontext primary, before;
    OK(cuCtxGetCurrent(&before));
    OK(cuDevicePrimaryCtxRetain(&primary, 0));
    OK(cuCtxSetCurrent(primary));
    struct gate gate = gate_new(CU_STREAM_PER_THREAD);
    CHECK_EQUAL(cuStreamQuery_ptsz(NULL), CUDA_ERROR_NOT_READY);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, query_own, NULL), 0);
    pthread_join(thread, NULL);
    gate_open(gate);
    OK(cuStreamSynchronize_ptsz(NULL));
    OK(cuCtxSetCurrent(before));
    OK(cuDevicePrimaryCtxRelease_v2(0));
}

struct order {
    CUdeviceptr word;
    uint32_t *host;
    uint32_t seen;
};
static void look(void *data) {
    struct order *order = data;
    order->seen = *order->host;
    *order->host = 99;
}

CASE(a_host_function_runs_between_the_copies_around_it) {
    CUstream stream = stream_new(CU_STREAM_NON_BLOCKING);
    struct order order;
    OK(cuMemAlloc_v2(&order.word, 4));
    OK(cuMemHostAlloc((void **)&order.host, 4, 0));
    *order.host = 0;
    struct gate gate = gate_new(stream);
    fill(order.word, 42, 1, stream);
    OK(cuMemcpyDtoHAsync_v2(order.host, order.word, 4, stream));
    OK(cuLaunchHostFunc(stream, look, &order));
    OK(cuMemcpyHtoDAsync_v2(order.word, order.host, 4, stream));
    CHECK_EQUAL(*order.host, 0);
    gate_open(gate);
    OK(cuStreamSynchronize(stream));
    CHECK_EQUAL(order.seen, 42);
    uint32_t value;
    OK(cuMemcpyDtoH_v2(&value, order.word, 4));
    CHECK_EQUAL(value, 99);
}

CASE(an_asynchronous_copy_has_read_pageable_memory_when_it_comes_back) {
    CUstream stream = stream_new(CU_STREAM_NON_BLOCKING);
    CUdeviceptr word;
    uint32_t value = 5;
    OK(cuMemAlloc_v2(&word, 4));
    struct gate gate = gate_new(stream);
    OK(cuMemcpyHtoDAsync_v2(word, &value, 4, stream));
    value = 6;
    gate_open(gate);
    OK(cuStreamSynchronize(stream));
    OK(cuMemcpyDtoH_v2(&value, word, 4));
    CHECK_EQUAL(value, 5);
}

CASE(a_value_is_written_when_the_stream_gets_there) {
    CUstream stream = stream_new(CU_STREAM_NON_BLOCKING);
    uint64_t *word;
    OK(cuMemHostAlloc((void **)&word, 8, CU_MEMHOSTALLOC_DEVICEMAP));
    *word = 0;
    struct gate gate = gate_new(stream);
    spin(1000000, stream);
    OK(cuStreamWriteValue64_v2(stream, (CUdeviceptr)word, 7, 0));
    CHECK_EQUAL(*word, 0);
    gate_open(gate);
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != 7)
        usleep(100); /* nobody looks at the stream: it is written all the same */
    OK(cuStreamQuery(stream));
}

CASE(a_launch_that_cannot_be_is_refused_with_the_drivers_error) {
    CUfunction spinner = kernel("gpuslice_spin");
    CHECK_EQUAL(cuLaunchKernel(spinner, 0, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(cuLaunchKernel(kernel("gpuslice_empty"), 1, 1, 1, 1025, 1, 1, 0, NULL, NULL, NULL),
                CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(cuLaunchKernel(spinner, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(cuLaunchCooperativeKernel(kernel("gpuslice_empty"), 1000000, 1, 1, 1024, 1, 1, 0, NULL, NULL),
                CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    CHECK_EQUAL(cuLaunchKernel(NULL, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL), CUDA_ERROR_INVALID_HANDLE);
    CHECK_EQUAL(cuStreamSynchronize((CUstream)kernel("gpuslice_empty")), CUDA_ERROR_INVALID_HANDLE);
}

CASE(arguments_come_from_a_buffer_as_from_pointers) {
    CUdeviceptr word;
    OK(cuMemAlloc_v2(&word, 4));
    struct {
        CUdeviceptr target;
        uint32_t value, padding;
        uint64_t count;
    } arguments = {word, 17, 0, 1};
    size_t bytes = sizeof arguments;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &arguments, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                     CU_LAUNCH_PARAM_END};
    CUlaunchConfig config = {
        .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1};
    OK(cuLaunchKernelEx(&config, kernel("gpuslice_fill"), NULL, extra));
    uint32_t value;
    OK(cuMemcpyDtoH_v2(&value, word, 4));
    CHECK_EQUAL(value, 17);
}

CASE(streams_destroyed_with_work_in_flight_never_run_out) {
    for (unsigned i = 0; i < 5000; i++) {
        CUstream stream = stream_new(CU_STREAM_NON_BLOCKING);
        spin(10000, stream);
        OK(cuStreamDestroy_v2(stream));
    }
    OK(cuCtxSynchronize());
}

int main(int argc, char **argv) {
    node_new();
    context_new();
    return check_main(argc, argv);
}
