/* Memory that other processes may hold too: exported handles (cuMemExportToShareableHandle) and IPC handles.
 *
 * It is charged to its exporter, an import costs nothing. Who still holds it when the exporter drops it can not be
 * seen, so NVML is asked before and after, while no other memory call of this process runs. Then there are three ways:
 *
 *   - The card has the memory back: it is refunded.
 *   - It has not, and NVML still counts it as ours (a descriptor is open somewhere): it is overhead from now on, which
 *     is settled by what NVML says.
 *   - NVML counts it as another process's: it stays charged to us while we live, or else an import would be a way
 *     around the limit. So it does if another process takes as much at the same moment, and where NVML can not be
 *     asked. What outlives us is for the agent, which sees it as memory without a share.
 */
#include "memory/memory.h"

struct memory_export memory_export_begin(struct memory_gpu *gpu, bool may_gate) {
    struct memory_export export = {.gpu = gpu};
    export.gated = may_gate && memory_overhead_gate(gpu);
    if (!export.gated)
        memory_begin(gpu);
    else
        export.seen = memory_nvml_used(gpu, &export.used) && memory_nvml_free(gpu, &export.free);
    return export;
}

void memory_export_dropped(const struct memory_export *export, uint64_t bytes) {
    struct memory_gpu *gpu = export->gpu;
    uint64_t used = 0, free = 0;
    bool seen = export->seen && memory_nvml_used(gpu, &used) && memory_nvml_free(gpu, &free);
    if (seen && free >= export->free + bytes)
        return;
    if (!export->gated || (seen && used + bytes > export->used))
        memory_overhead_add(gpu, bytes);
    else
        memory_overhead_exclude(gpu, bytes);
}

void memory_export_end(const struct memory_export *export) {
    if (export->gated)
        memory_overhead_ungate(export->gpu);
    else
        memory_end(export->gpu);
}

/* --- IPC handles -------------------------------------------------------------------------------------------- */

CUresult cuIpcGetMemHandle(CUipcMemHandle *pHandle, CUdeviceptr dptr) {
    CUresult result = real.cuIpcGetMemHandle(pHandle, dptr);
    struct memory_record record, stale;
    CUdeviceptr base;
    if (!tenant_active() || result != CUDA_SUCCESS || real.cuMemGetAddressRange_v2(&base, NULL, dptr) != CUDA_SUCCESS ||
        !memory_table_get(&memory_allocations, base, &record))
        return result;
    record.flags |= MEMORY_EXPORTED;
    memory_table_put(&memory_allocations, &record, &stale); /* in its own place, which needs no memory */
    return result;
}

CUresult memory_export_free(const struct memory_record *record) {
    struct memory_export export = memory_export_begin(memory_gpu(record->gpu), true);
    CUresult result = real.cuMemFree_v2(record->key);
    if (result == CUDA_SUCCESS) {
        memory_export_dropped(&export, memory_blocks(record->bytes));
        memory_allocation_release(record);
    } else {
        memory_allocation_remember(record);
    }
    memory_export_end(&export);
    return result;
}
