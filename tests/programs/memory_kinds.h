/* Every way to take device memory through the driver API, under one roof: for programs that fill a share. */
#ifndef GPUSLICE_TESTS_MEMORY_KINDS_H
#define GPUSLICE_TESTS_MEMORY_KINDS_H

#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>

struct piece {
    const struct memory_kind *kind;
    size_t bytes;
    CUdeviceptr pointer; /* what there is of these depends on the kind */
    CUarray array;
    CUmipmappedArray mipmap;
    CUmemGenericAllocationHandle handle;
    CUgraph graph;
    CUgraphExec executable;
    int descriptor; /* an export; -1: none */
};

struct memory_kind {
    const char *name;
    CUresult (*take)(size_t bytes, struct piece *piece);
    /* Ways to free it, all legal: `way` counts from 0. */
    unsigned ways;
    CUresult (*give)(struct piece *piece, unsigned way);
    bool captures; /* stream capture: other threads must not allocate meanwhile */
};

extern const struct memory_kind memory_kinds[];
extern const unsigned memory_kind_count;

/* What the kinds share: a context must be current. */
void memory_kinds_begin(void);
const struct memory_kind *memory_kind_named(const char *name);

/* Ends the program with the call's name and the driver's word for the error. */
void must(CUresult result, const char *what);
#define MUST(call) must(call, #call)

#endif
