/* Device memory of graphs. An alloc node's address is reserved for good when the node is made; physical memory is put
 * behind it at the first launch and stays for the next one until it is trimmed, as the driver keeps it. */
#include <stdlib.h>

#include "graph.h"

struct graph_allocation {
    CUdeviceptr address;
    uint64_t bytes; /* whole blocks */
    unsigned gpu;
    unsigned references; /* nodes, of graphs and their copies */
    bool in_use;         /* launched, and not freed since */
    struct engine_ticket freed_after;
    struct engine_physical *physical; /* NULL: nothing behind the address */
    struct graph_allocation *next;
};

static pthread_mutex_t graph_memory_lock = PTHREAD_MUTEX_INITIALIZER;
static struct graph_allocation *allocations;

/* By this much the reserve grows, as with driver 580 on an H200. */
#define PIECE_BYTES (UINT64_C(32) << 20)

static struct account {
    uint64_t used, used_high, reserved, reserved_high;
    uint64_t held;         /* lies behind addresses */
    uint64_t large, small; /* pieces of allocations of a piece and more; what the others hold, who share theirs */
} accounts[SIM_GPUS_MAX];

static uint64_t pieces(uint64_t bytes) {
    return (bytes + PIECE_BYTES - 1) / PIECE_BYTES * PIECE_BYTES;
}

/* Takes from the card, or gives back, what the reserve has beyond what lies behind addresses: what is missing to whole
 * pieces. */
static int settle(unsigned gpu, struct account changed) {
    struct account *account = &accounts[gpu];
    uint64_t spare = account->reserved - account->held;
    uint64_t wanted = changed.large + pieces(changed.small) - changed.held;
    int error = wanted > spare ? engine_memory_reserve(gpu, wanted - spare) : 0;
    if (error && changed.held > account->held)
        return error;
    if (wanted < spare)
        engine_memory_release(gpu, spare - wanted);
    changed.reserved = changed.held + (error ? spare : wanted);
    if (changed.reserved > changed.reserved_high)
        changed.reserved_high = changed.reserved;
    *account = changed;
    return 0;
}

static struct graph_allocation *find(CUdeviceptr address) {
    struct graph_allocation *allocation = allocations;
    while (allocation && allocation->address != address)
        allocation = allocation->next;
    return allocation;
}

static void raise(uint64_t *now, uint64_t *high, uint64_t bytes) {
    *now += bytes;
    if (*now > *high)
        *high = *now;
}

CUresult graph_memory_reserve(CUDA_MEM_ALLOC_NODE_PARAMS *parameters) {
    const CUmemLocation *location = &parameters->poolProps.location;
    int gpu = location->type == CU_MEM_LOCATION_TYPE_DEVICE ? device_gpu(location->id) : -1;
    if (gpu < 0 || !parameters->bytesize)
        return CUDA_ERROR_INVALID_VALUE;
    struct graph_allocation *allocation = calloc(1, sizeof *allocation);
    if (!allocation)
        return CUDA_ERROR_OUT_OF_MEMORY;
    allocation->gpu = (unsigned)gpu;
    allocation->references = 1;
    allocation->bytes = (parameters->bytesize + ENGINE_BLOCK_BYTES - 1) / ENGINE_BLOCK_BYTES * ENGINE_BLOCK_BYTES;
    uint64_t address = 0;
    CUresult result = from_errno(engine_address_reserve(allocation->bytes, 0, 0, &address));
    allocation->address = address;
    if (!result) {
        struct allocation like = {
            .base = address, .bytes = parameters->bytesize, .kind = ALLOCATION_GRAPH, .gpu = allocation->gpu};
        lock_driver();
        if (!allocation_add(&like))
            result = CUDA_ERROR_OUT_OF_MEMORY;
        unlock_driver();
        if (result)
            engine_address_free(address, allocation->bytes);
    }
    if (result) {
        free(allocation);
        return result;
    }
    pthread_mutex_lock(&graph_memory_lock);
    allocation->next = allocations;
    allocations = allocation;
    pthread_mutex_unlock(&graph_memory_lock);
    parameters->dptr = address;
    return CUDA_SUCCESS;
}

static void drop_physical(struct graph_allocation *allocation) {
    if (!allocation->physical)
        return;
    struct account changed = accounts[allocation->gpu];
    engine_address_unmap(allocation->address, allocation->bytes);
    engine_physical_release(allocation->physical);
    allocation->physical = NULL;
    changed.held -= allocation->bytes;
    if (allocation->bytes < PIECE_BYTES)
        changed.small -= allocation->bytes;
    else
        changed.large -= pieces(allocation->bytes);
    settle(allocation->gpu, changed);
}

/* Ends it when no node needs it and the program has freed it. */
static void end_if_unused(struct graph_allocation *allocation) {
    if (allocation->references || allocation->in_use)
        return;
    struct graph_allocation **link = &allocations;
    while (*link != allocation)
        link = &(*link)->next;
    *link = allocation->next;
    engine_ticket_wait(allocation->freed_after, false);
    drop_physical(allocation);
    lock_driver(); /* before the address is free: another thread may get it at once */
    struct allocation *known = allocation_find(allocation->address);
    if (known)
        allocation_remove(known);
    unlock_driver();
    engine_address_free(allocation->address, allocation->bytes);
    free(allocation);
}

void graph_memory_retain(CUdeviceptr address) {
    pthread_mutex_lock(&graph_memory_lock);
    struct graph_allocation *allocation = find(address);
    if (allocation)
        allocation->references++;
    pthread_mutex_unlock(&graph_memory_lock);
}

void graph_memory_release(CUdeviceptr address) {
    pthread_mutex_lock(&graph_memory_lock);
    struct graph_allocation *allocation = find(address);
    if (allocation) {
        allocation->references--;
        end_if_unused(allocation);
    }
    pthread_mutex_unlock(&graph_memory_lock);
}

static void trim(unsigned gpu) {
    for (struct graph_allocation *allocation = allocations; allocation; allocation = allocation->next)
        if (allocation->gpu == gpu && !allocation->in_use && engine_ticket_query(allocation->freed_after) == 1)
            drop_physical(allocation);
}

static int back(struct graph_allocation *allocation) {
    struct account changed = accounts[allocation->gpu];
    int error = engine_physical_create(allocation->gpu, allocation->bytes, &allocation->physical);
    if (error) {
        allocation->physical = NULL;
        return error;
    }
    changed.held += allocation->bytes;
    if (allocation->bytes < PIECE_BYTES)
        changed.small += allocation->bytes;
    else
        changed.large += pieces(allocation->bytes);
    error = engine_address_map(allocation->address, allocation->bytes, allocation->physical, 0);
    if (!error)
        error = settle(allocation->gpu, changed);
    if (error) {
        engine_address_unmap(allocation->address, allocation->bytes);
        engine_physical_release(allocation->physical);
        allocation->physical = NULL;
    }
    return error;
}

CUresult graph_memory_take(CUdeviceptr address, bool again) {
    pthread_mutex_lock(&graph_memory_lock);
    struct graph_allocation *allocation = find(address);
    CUresult result = CUDA_SUCCESS;
    if (!allocation || (allocation->in_use && !again)) {
        result = CUDA_ERROR_INVALID_VALUE;
    } else if (!allocation->physical && back(allocation)) {
        trim(allocation->gpu);
        result = from_errno(back(allocation));
    }
    if (!result && !allocation->in_use) {
        allocation->in_use = true;
        raise(&accounts[allocation->gpu].used, &accounts[allocation->gpu].used_high, allocation->bytes);
    }
    pthread_mutex_unlock(&graph_memory_lock);
    return result;
}

CUresult graph_memory_free(struct stream *stream, CUdeviceptr address) {
    struct engine_ticket ticket = {0};
    CUresult result = CUDA_SUCCESS;
    if (stream)
        result = stream_submit(stream, &(struct engine_op){.kind = ENGINE_OP_MARK}, &ticket);
    if (result)
        return result;
    pthread_mutex_lock(&graph_memory_lock);
    struct graph_allocation *allocation = find(address);
    if (!allocation || !allocation->in_use) {
        result = CUDA_ERROR_INVALID_VALUE;
    } else {
        allocation->in_use = false;
        allocation->freed_after = ticket;
        accounts[allocation->gpu].used -= allocation->bytes;
        end_if_unused(allocation);
    }
    pthread_mutex_unlock(&graph_memory_lock);
    return result;
}

CUresult cuDeviceGraphMemTrim(CUdevice device) {
    CUresult result = require_init();
    if (result)
        return result;
    int gpu = device_gpu(device);
    if (gpu < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    pthread_mutex_lock(&graph_memory_lock);
    trim((unsigned)gpu);
    pthread_mutex_unlock(&graph_memory_lock);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value) {
    CUresult result = require_init();
    if (result)
        return result;
    int gpu = device_gpu(device);
    if (gpu < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    if (!value)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&graph_memory_lock);
    switch (attribute) {
    case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
        *(cuuint64_t *)value = accounts[gpu].used;
        break;
    case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
        *(cuuint64_t *)value = accounts[gpu].used_high;
        break;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
        *(cuuint64_t *)value = accounts[gpu].reserved;
        break;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
        *(cuuint64_t *)value = accounts[gpu].reserved_high;
        break;
    default:
        result = CUDA_ERROR_INVALID_VALUE;
    }
    pthread_mutex_unlock(&graph_memory_lock);
    return result;
}

CUresult cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value) {
    CUresult result = require_init();
    if (result)
        return result;
    int gpu = device_gpu(device);
    if (gpu < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    if (!value || *(cuuint64_t *)value)
        return CUDA_ERROR_INVALID_VALUE; /* a high mark can only be reset */
    pthread_mutex_lock(&graph_memory_lock);
    if (attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)
        accounts[gpu].used_high = accounts[gpu].used;
    else if (attribute == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)
        accounts[gpu].reserved_high = accounts[gpu].reserved;
    else
        result = CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_unlock(&graph_memory_lock);
    return result;
}
