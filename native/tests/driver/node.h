/* A node with one simulated T4, and the kernels of tests/kernels in a context on it. */
#ifndef GPUSLICE_TEST_DRIVER_NODE_H
#define GPUSLICE_TEST_DRIVER_NODE_H

#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <stdint.h>

#include "check.h"

#define MIB (UINT64_C(1) << 20)
#define BLOCK (2 * MIB)

#define OK(call) CHECK_EQUAL((call), CUDA_SUCCESS)

/* Makes the node and names it in the environment. Not yet cuInit, so that a test may fork. */
void node_new(void);
/* cuInit and a context on device 0, once a process. */
CUcontext context_new(void);
CUfunction kernel(const char *name);
/* gpuslice_spin for `ns`. */
void spin(uint64_t ns, CUstream stream);
void fill(CUdeviceptr target, uint32_t value, uint64_t count, CUstream stream);
size_t free_bytes(void);

/* A word in host memory that a stream waits for: what is queued behind it starts when the test says so, so that times
 * do not hang on how fast the test queues. */
struct gate {
    uint32_t *word;
};
struct gate gate_new(CUstream stream);
void gate_open(struct gate gate);

#endif
