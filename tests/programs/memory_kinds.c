#include "memory_kinds.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static CUdevice device;
static CUstream stream, other_stream;
static CUmemoryPool pool;
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

void must(CUresult result, const char *what) {
    const char *name = "?";
    if (result == CUDA_SUCCESS)
        return;
    cuGetErrorName(result, &name);
    fprintf(stderr, "%s: %s\n", what, name);
    exit(3);
}

void memory_kinds_begin(void) {
    MUST(cuCtxGetDevice(&device));
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&other_stream, CU_STREAM_NON_BLOCKING));
}

/* --- linear ------------------------------------------------------------------------------------------------- */

static CUresult take_linear(size_t bytes, struct piece *piece) {
    return cuMemAlloc(&piece->pointer, bytes);
}

/* Rows that fill the pitch, so that what is asked is what it costs. */
static CUresult take_pitched(size_t bytes, struct piece *piece) {
    size_t pitch, width = bytes < 4096 ? bytes : 4096;
    return cuMemAllocPitch(&piece->pointer, &pitch, width, bytes / width, 16);
}

static CUresult take_managed(size_t bytes, struct piece *piece) {
    return cuMemAllocManaged(&piece->pointer, bytes, CU_MEM_ATTACH_GLOBAL);
}

static CUresult give_in_order(CUdeviceptr pointer, CUstream where) {
    CUresult result = cuMemFreeAsync(pointer, where);
    return result ? result : cuStreamSynchronize(where);
}

static CUresult give_linear(struct piece *piece, unsigned way) {
    return way == 0 ? cuMemFree(piece->pointer) : give_in_order(piece->pointer, way == 1 ? stream : other_stream);
}

/* --- stream-ordered ----------------------------------------------------------------------------------------- */

static CUresult take_async(size_t bytes, struct piece *piece) {
    return cuMemAllocAsync(&piece->pointer, bytes, stream);
}

/* It keeps what is freed, as frameworks set their pools up. */
static void make_pool(void) {
    CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device}};
    cuuint64_t keep_all = UINT64_MAX;
    MUST(cuMemPoolCreate(&pool, &properties));
    MUST(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep_all));
}

static CUresult take_from_pool(size_t bytes, struct piece *piece) {
    pthread_once(&pool_once, make_pool);
    return cuMemAllocFromPoolAsync(&piece->pointer, bytes, pool, stream);
}

static CUresult give_async(struct piece *piece, unsigned way) {
    if (way == 2)
        return cuMemFreeAsync(piece->pointer, stream); /* and nobody waits for it */
    if (way == 1) {
        CUresult result = cuStreamSynchronize(stream);
        return result ? result : cuMemFree(piece->pointer);
    }
    return give_in_order(piece->pointer, stream);
}

/* --- arrays ------------------------------------------------------------------------------------------------- */

#define ROW 8192 /* bytes: whole rows of the padding that drivers use */

static CUDA_ARRAY3D_DESCRIPTOR shape_of(size_t bytes) {
    size_t row = bytes < ROW * 8 ? 512 : ROW;
    return (CUDA_ARRAY3D_DESCRIPTOR){
        .Width = row / 16, .Height = bytes / row, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 4};
}

static CUresult take_array(size_t bytes, struct piece *piece) {
    CUDA_ARRAY3D_DESCRIPTOR shape = shape_of(bytes);
    CUDA_ARRAY_DESCRIPTOR flat = {shape.Width, shape.Height, shape.Format, shape.NumChannels};
    return cuArrayCreate(&piece->array, &flat);
}

static CUresult take_array_3d(size_t bytes, struct piece *piece) {
    CUDA_ARRAY3D_DESCRIPTOR shape = shape_of(bytes / 4);
    shape.Depth = 4;
    return cuArray3DCreate(&piece->array, &shape);
}

static CUresult give_array(struct piece *piece, unsigned way) {
    (void)way;
    return cuArrayDestroy(piece->array);
}

/* A little more than four thirds of its first level. */
static CUresult take_mipmap(size_t bytes, struct piece *piece) {
    CUDA_ARRAY3D_DESCRIPTOR shape = shape_of(bytes / 64 * 45);
    return cuMipmappedArrayCreate(&piece->mipmap, &shape, 4);
}

static CUresult give_mipmap(struct piece *piece, unsigned way) {
    (void)way;
    return cuMipmappedArrayDestroy(piece->mipmap);
}

/* --- physical ----------------------------------------------------------------------------------------------- */

#define BLOCK ((size_t)2 << 20)

static CUresult take_physical(size_t bytes, struct piece *piece) {
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device}};
    piece->bytes = (bytes + BLOCK - 1) / BLOCK * BLOCK;
    return cuMemCreate(&piece->handle, piece->bytes, &properties, 0);
}

static CUresult take_mapped(size_t bytes, struct piece *piece) {
    CUresult result = take_physical(bytes, piece);
    if (result != CUDA_SUCCESS)
        return result;
    MUST(cuMemAddressReserve(&piece->pointer, piece->bytes, 0, 0, 0));
    MUST(cuMemMap(piece->pointer, piece->bytes, 0, piece->handle, 0));
    return result;
}

static CUresult take_exported(size_t bytes, struct piece *piece) {
    CUresult result = take_mapped(bytes, piece);
    if (result == CUDA_SUCCESS)
        MUST(cuMemExportToShareableHandle(&piece->descriptor, piece->handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                          0));
    return result;
}

static CUresult give_physical(struct piece *piece, unsigned way) {
    (void)way;
    return cuMemRelease(piece->handle);
}

static void unmap(const struct piece *piece) {
    MUST(cuMemUnmap(piece->pointer, piece->bytes));
    MUST(cuMemAddressFree(piece->pointer, piece->bytes));
}

/* The handle first, the mapping first, or a reference got back from the address in between. */
static CUresult give_mapped(struct piece *piece, unsigned way) {
    CUmemGenericAllocationHandle again;
    if (way == 1) {
        unmap(piece);
        return cuMemRelease(piece->handle);
    }
    MUST(cuMemRelease(piece->handle));
    if (way == 2)
        MUST(cuMemRetainAllocationHandle(&again, (void *)piece->pointer));
    unmap(piece);
    return way == 2 ? cuMemRelease(again) : CUDA_SUCCESS;
}

/* The descriptor before or after the rest, or imported again by this very process. */
static CUresult give_exported(struct piece *piece, unsigned way) {
    CUmemGenericAllocationHandle again;
    if (way == 0)
        close(piece->descriptor);
    if (way == 2)
        MUST(cuMemImportFromShareableHandle(&again, (void *)(uintptr_t)piece->descriptor,
                                            CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    CUresult result = give_mapped(piece, 0);
    if (way == 2)
        MUST(cuMemRelease(again));
    if (way != 0)
        close(piece->descriptor);
    return result;
}

/* --- graphs ------------------------------------------------------------------------------------------------- */

static CUresult launch_once(struct piece *piece) {
    CUresult result = cuGraphInstantiate(&piece->executable, piece->graph, 0);
    if (result == CUDA_SUCCESS) {
        result = cuGraphLaunch(piece->executable, stream);
        if (result != CUDA_SUCCESS)
            MUST(cuGraphExecDestroy(piece->executable));
    }
    if (result != CUDA_SUCCESS)
        MUST(cuGraphDestroy(piece->graph));
    else
        MUST(cuStreamSynchronize(stream));
    return result;
}

static CUresult take_graph(size_t bytes, struct piece *piece) {
    CUDA_MEM_ALLOC_NODE_PARAMS parameters = {
        .poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device}},
        .bytesize = bytes};
    CUgraphNode node;
    MUST(cuGraphCreate(&piece->graph, 0));
    CUresult result = cuGraphAddMemAllocNode(&node, piece->graph, NULL, 0, &parameters);
    if (result != CUDA_SUCCESS) {
        MUST(cuGraphDestroy(piece->graph));
        return result;
    }
    piece->pointer = parameters.dptr;
    return launch_once(piece);
}

static CUresult take_captured(size_t bytes, struct piece *piece) {
    MUST(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CUresult result = cuMemAllocAsync(&piece->pointer, bytes, stream);
    MUST(cuStreamEndCapture(stream, &piece->graph));
    return result == CUDA_SUCCESS ? launch_once(piece) : result;
}

static CUresult give_graph(struct piece *piece, unsigned way) {
    CUresult result = way == 0 ? cuMemFree(piece->pointer) : give_in_order(piece->pointer, stream);
    MUST(cuGraphExecDestroy(piece->executable));
    MUST(cuGraphDestroy(piece->graph));
    MUST(cuDeviceGraphMemTrim(device));
    return result;
}

/* name, take, ways to give, give, captures */
const struct memory_kind memory_kinds[] = {
    {"cuMemAlloc", take_linear, 3, give_linear, false},
    {"cuMemAllocPitch", take_pitched, 3, give_linear, false},
    {"cuMemAllocManaged", take_managed, 1, give_linear, false},
    {"cuMemAllocAsync", take_async, 3, give_async, false},
    {"cuMemAllocFromPoolAsync", take_from_pool, 3, give_async, false},
    {"cuArrayCreate", take_array, 1, give_array, false},
    {"cuArray3DCreate", take_array_3d, 1, give_array, false},
    {"cuMipmappedArrayCreate", take_mipmap, 1, give_mipmap, false},
    {"cuMemCreate", take_physical, 1, give_physical, false},
    {"cuMemMap", take_mapped, 3, give_mapped, false},
    {"cuMemExportToShareableHandle", take_exported, 3, give_exported, false},
    {"cuGraphAddMemAllocNode", take_graph, 2, give_graph, false},
    {"cuStreamBeginCapture", take_captured, 2, give_graph, true},
};
const unsigned memory_kind_count = sizeof(memory_kinds) / sizeof(*memory_kinds);

const struct memory_kind *memory_kind_named(const char *name) {
    for (unsigned i = 0; i < memory_kind_count; i++)
        if (!strcmp(memory_kinds[i].name, name))
            return &memory_kinds[i];
    fprintf(stderr, "there is no way to allocate called '%s'\n", name);
    exit(2);
}
