#include "node.h"

#include <sys/wait.h>
#include <unistd.h>

#include "temporary.h"

static CUmodule module;

void node_new(void) {
    const char *directory = temporary_directory();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl(SIM_NODE_PROGRAM, "gpuslice-sim-node", "create", "--profile", "t4", directory, (char *)NULL);
        _exit(127);
    }
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 0);
    setenv("GPUSLICE_SIM_NODE", directory, 1);
}

CUcontext context_new(void) {
    CUcontext context;
    CUdevice device;
    OK(cuInit(0));
    OK(cuDeviceGet(&device, 0));
    OK(cuCtxCreate_v2(&context, 0, device));
    OK(cuModuleLoad(&module, KERNELS));
    return context;
}

CUfunction kernel(const char *name) {
    CUfunction function;
    OK(cuModuleGetFunction(&function, module, name));
    return function;
}

void spin(uint64_t ns, CUstream stream) {
    uint32_t steps_per_us = 1000;
    void *parameters[] = {&ns, &steps_per_us};
    OK(cuLaunchKernel(kernel("gpuslice_spin"), 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
}

void fill(CUdeviceptr target, uint32_t value, uint64_t count, CUstream stream) {
    void *parameters[] = {&target, &value, &count};
    OK(cuLaunchKernel(kernel("gpuslice_fill"), 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
}

size_t free_bytes(void) {
    size_t free_now, total;
    OK(cuMemGetInfo_v2(&free_now, &total));
    return free_now;
}

struct gate gate_new(CUstream stream) {
    struct gate gate;
    OK(cuMemHostAlloc((void **)&gate.word, sizeof *gate.word, CU_MEMHOSTALLOC_DEVICEMAP));
    OK(cuStreamWaitValue32_v2(stream, (CUdeviceptr)gate.word, 1, CU_STREAM_WAIT_VALUE_EQ));
    return gate;
}

void gate_open(struct gate gate) {
    __atomic_store_n(gate.word, 1, __ATOMIC_RELEASE);
}
