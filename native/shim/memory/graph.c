/* Graph memory: allocation nodes, also those that captured cuMemAllocAsync calls become.
 *
 * All graphs of a device share one reserve, which the driver fills when an executable is launched or uploaded and
 * keeps until it is trimmed. What an executable can need at most is known from its nodes: it is reserved before the
 * call that may take it, and settled by what the device says its graph memory holds
 * (CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT). An executable that has run since the last trim needs nothing more.
 */
#include "memory/memory.h"
#include "pacing/pacing.h"

#include <stdlib.h>

#define REFUSED CUDA_ERROR_OUT_OF_MEMORY

/* By this much the reserve grows (580.159 on an H200). Larger nodes have whole pieces of their own, smaller ones share.
 */
#define PIECE (UINT64_C(32) << 20)

/* What an executable can take, by device. */
struct executable {
    uint64_t bytes[TENANT_GPUS_MAX];
    uint64_t small_bytes[TENANT_GPUS_MAX]; /* of nodes below a piece, while the graph is read */
    uint32_t resident[TENANT_GPUS_MAX];    /* value of graph_trims when it last ran, plus one; 0: never */
};

static struct memory_table executables; /* by handle; owner: struct executable; only those with allocation nodes */

/* Set when a graph of this process may have an allocation node; until then no graph is looked at. */
static _Atomic uint32_t expected;

void memory_graph_forget(void) {
    memory_table_reset(&executables);
    atomic_store_explicit(&expected, 0, memory_order_relaxed);
}

void memory_graph_expect_allocations(void) {
    /* Relaxed: an instantiation of that graph is ordered after this call by the program. */
    atomic_store_explicit(&expected, 1, memory_order_relaxed);
}

static bool has_none(void) {
    return atomic_load_explicit(&expected, memory_order_relaxed) == 0;
}

/* --- the device's reserve ----------------------------------------------------------------------------------- */

static void recharge(struct memory_gpu *gpu, uint64_t reserved) {
    cuuint64_t holds = 0;
    if (real.cuDeviceGetGraphMemAttribute(gpu->device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &holds) != CUDA_SUCCESS)
        holds = gpu->graph_bytes;
    memory_adjust(gpu, gpu->graph_bytes + reserved, holds, GPUSLICE_MEMORY_DATA);
    gpu->graph_bytes = holds;
}

void memory_graph_settle(struct memory_gpu *gpu) {
    if (has_none())
        return;
    memory_lock_take(&gpu->graph_lock);
    recharge(gpu, 0);
    memory_lock_give(&gpu->graph_lock);
}

static CUresult trim(struct memory_gpu *gpu) {
    memory_lock_take(&gpu->graph_lock);
    uint64_t before = gpu->graph_bytes;
    CUresult result = real.cuDeviceGraphMemTrim(gpu->device);
    recharge(gpu, 0);
    if (gpu->graph_bytes < before)
        gpu->graph_trims++;
    memory_lock_give(&gpu->graph_lock);
    return result;
}

void memory_graph_trim(struct memory_gpu *gpu) {
    if (!has_none())
        trim(gpu);
}

CUresult cuDeviceGraphMemTrim(CUdevice device) {
    struct memory_gpu *gpu = tenant_active() ? memory_gpu(device) : NULL;
    return gpu ? trim(gpu) : real.cuDeviceGraphMemTrim(device);
}

/* --- nodes -------------------------------------------------------------------------------------------------- */

CUresult cuGraphAddMemAllocNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                size_t numDependencies, CUDA_MEM_ALLOC_NODE_PARAMS *nodeParams) {
    memory_graph_expect_allocations();
    return real.cuGraphAddMemAllocNode(phGraphNode, hGraph, dependencies, numDependencies, nodeParams);
}

CUresult cuGraphAddNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                        size_t numDependencies, CUgraphNodeParams *nodeParams) {
    if (nodeParams && nodeParams->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
        memory_graph_expect_allocations();
    return real.cuGraphAddNode(phGraphNode, hGraph, dependencies, numDependencies, nodeParams);
}

CUresult cuGraphAddNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                           const CUgraphEdgeData *dependencyData, size_t numDependencies,
                           CUgraphNodeParams *nodeParams) {
    if (nodeParams && nodeParams->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
        memory_graph_expect_allocations();
    return real.cuGraphAddNode_v2(phGraphNode, hGraph, dependencies, dependencyData, numDependencies, nodeParams);
}

static uint64_t pieces(uint64_t bytes) {
    return bytes > UINT64_MAX - PIECE ? UINT64_MAX : (bytes + PIECE - 1) / PIECE * PIECE;
}

static bool add_graph(struct executable *executable, CUgraph graph);

static bool add_node(struct executable *executable, CUgraphNode node) {
    CUgraphNodeType type;
    if (real.cuGraphNodeGetType(node, &type) != CUDA_SUCCESS)
        return false;
    if (type == CU_GRAPH_NODE_TYPE_GRAPH) {
        CUgraph child;
        return real.cuGraphChildGraphNodeGetGraph(node, &child) != CUDA_SUCCESS || add_graph(executable, child);
    }
    CUDA_MEM_ALLOC_NODE_PARAMS parameters;
    if (type != CU_GRAPH_NODE_TYPE_MEM_ALLOC || real.cuGraphMemAllocNodeGetParams(node, &parameters) != CUDA_SUCCESS)
        return false;
    const struct memory_gpu *gpu = memory_gpu_at(&parameters.poolProps.location);
    if (!gpu)
        return false;
    uint64_t bytes = memory_blocks(parameters.bytesize);
    if (bytes < PIECE)
        executable->small_bytes[gpu->device] += bytes;
    else
        executable->bytes[gpu->device] += pieces(bytes);
    return true;
}

/* True when there is an allocation node in the graph or in a child of it. (Conditional bodies can have none.) */
static bool add_graph(struct executable *executable, CUgraph graph) {
    size_t count = 0;
    if (real.cuGraphGetNodes(graph, NULL, &count) != CUDA_SUCCESS || count == 0)
        return false;
    CUgraphNode *nodes = calloc(count, sizeof(CUgraphNode));
    bool any = false;
    if (nodes && real.cuGraphGetNodes(graph, nodes, &count) == CUDA_SUCCESS)
        for (size_t i = 0; i < count; i++)
            any |= add_node(executable, nodes[i]);
    free(nodes);
    return any;
}

/* --- executables -------------------------------------------------------------------------------------------- */

static void settle_gpu(struct memory_gpu *gpu, void *unused) {
    (void)unused;
    memory_graph_settle(gpu);
}

/* After a successful instantiation. False: no host memory, and the executable is destroyed again. */
static bool follow(CUgraphExec handle, CUgraph graph) {
    struct executable *executable = calloc(1, sizeof(*executable));
    struct memory_record stale = {0}, record = {.key = (uint64_t)(uintptr_t)handle, .owner = executable};
    bool kept = executable != NULL;
    bool any = kept && add_graph(executable, graph);
    for (CUdevice device = 0; any && device < TENANT_GPUS_MAX; device++)
        executable->bytes[device] += pieces(executable->small_bytes[device]);
    if (any)
        kept = memory_table_put(&executables, &record, &stale);
    if (stale.key)
        free(stale.owner);
    if (!any || !kept)
        free(executable);
    if (!kept)
        real.cuGraphExecDestroy(handle);
    memory_each_gpu(settle_gpu, NULL);
    return kept;
}

CUresult memory_graph_instantiated(CUresult result, const CUgraphExec *executable, CUgraph graph) {
    if (result != CUDA_SUCCESS || !tenant_active())
        return result;
    memory_overhead_touch_all(); /* the code of its kernels, whose contexts may be any */
    if (has_none())
        return result;
    return follow(*executable, graph) ? result : REFUSED;
}

bool memory_graph_ends(CUgraphExec handle, struct memory_record *ret_record) {
    return tenant_active() && !has_none() && memory_table_take(&executables, (uint64_t)(uintptr_t)handle, ret_record);
}

void memory_graph_ended(const struct memory_record *record, bool destroyed) {
    struct memory_record stale;
    if (!record)
        return;
    if (!destroyed) {
        memory_table_put(&executables, record, &stale);
        return;
    }
    free(record->owner);
    memory_each_gpu(settle_gpu, NULL);
}

/* --- launches ----------------------------------------------------------------------------------------------- */

static bool needs_memory(const struct executable *executable, const struct memory_gpu *gpu) {
    return executable->bytes[gpu->device] && executable->resident[gpu->device] != gpu->graph_trims + 1;
}

/* Reserves on every device it needs; what was reserved is in `reserved`. False: refused, and nothing is. */
static bool reserve(const struct executable *executable, uint64_t *reserved) {
    bool fits = true;
    CUdevice device = 0;
    for (; device < TENANT_GPUS_MAX && fits; device++) {
        struct memory_gpu *gpu = memory_gpu(device);
        reserved[device] = 0;
        if (!gpu || !executable->bytes[device])
            continue;
        memory_begin(gpu);
        if (needs_memory(executable, gpu)) {
            fits = memory_reserve(gpu, executable->bytes[device], GPUSLICE_MEMORY_DATA);
            reserved[device] = fits ? executable->bytes[device] : 0;
        }
    }
    if (fits)
        return true;
    while (device-- > 0) {
        struct memory_gpu *gpu = memory_gpu(device);
        if (gpu && executable->bytes[device]) {
            memory_refund(gpu, reserved[device], GPUSLICE_MEMORY_DATA);
            memory_end(gpu);
        }
    }
    return false;
}

static CUresult launch_reserved(struct executable *executable, CUgraphExec handle, CUstream stream,
                                CUresult (*launch)(CUgraphExec, CUstream), const uint64_t *reserved) {
    /* In the order of devices, so that two launches never wait for each other. */
    for (CUdevice device = 0; device < TENANT_GPUS_MAX; device++)
        if (memory_gpu(device) && executable->bytes[device])
            memory_lock_take(&memory_gpu(device)->graph_lock);
    CUresult result = launch(handle, stream);
    for (CUdevice device = 0; device < TENANT_GPUS_MAX; device++) {
        struct memory_gpu *gpu = memory_gpu(device);
        if (!gpu || !executable->bytes[device])
            continue;
        recharge(gpu, reserved[device]);
        if (result == CUDA_SUCCESS)
            executable->resident[device] = gpu->graph_trims + 1;
        memory_lock_give(&gpu->graph_lock);
        memory_end(gpu);
    }
    return result;
}

CUresult memory_graph_launch(CUgraphExec handle, CUstream stream, CUresult (*launch)(CUgraphExec, CUstream)) {
    struct memory_record record;
    uint64_t reserved[TENANT_GPUS_MAX];
    if (!tenant_active() || has_none() || !memory_table_get(&executables, (uint64_t)(uintptr_t)handle, &record))
        return launch(handle, stream);
    if (!reserve(record.owner, reserved))
        return REFUSED;
    return launch_reserved(record.owner, handle, stream, launch, reserved);
}

CUresult cuGraphUpload(CUgraphExec hGraphExec, CUstream hStream) {
    return memory_graph_launch(hGraphExec, hStream, real.cuGraphUpload);
}

CUresult cuGraphUpload_ptsz(CUgraphExec hGraphExec, CUstream hStream) {
    return memory_graph_launch(hGraphExec, hStream, real.cuGraphUpload_ptsz);
}

CUresult cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream) {
    struct pacing_work work;
    pacing_begin(&work, hStream, PACING_LEGACY, pacing_key(hGraphExec, 0));
    return pacing_end(&work, memory_graph_launch(hGraphExec, hStream, real.cuGraphLaunch));
}

CUresult cuGraphLaunch_ptsz(CUgraphExec hGraphExec, CUstream hStream) {
    struct pacing_work work;
    pacing_begin(&work, hStream, PACING_PER_THREAD, pacing_key(hGraphExec, 0));
    return pacing_end(&work, memory_graph_launch(hGraphExec, hStream, real.cuGraphLaunch_ptsz));
}
