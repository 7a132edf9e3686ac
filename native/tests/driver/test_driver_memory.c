/* Linear, pinned and pooled memory, arrays: what they cost and that bytes arrive where they should. */
#include "node.h"

CASE(an_allocation_of_a_block_costs_a_block_and_gives_it_back) {
    size_t before = free_bytes();
    CUdeviceptr pointer;
    OK(cuMemAlloc_v2(&pointer, BLOCK));
    CHECK_EQUAL(before - free_bytes(), BLOCK);
    OK(cuMemFree_v2(pointer));
    CHECK_EQUAL(free_bytes(), before);
}

CASE(what_is_free_can_be_allocated_and_not_a_byte_more) {
    CUdeviceptr all, more = 1;
    size_t free_now = free_bytes();
    OK(cuMemAlloc_v2(&all, free_now));
    CHECK_EQUAL(free_bytes(), 0);
    CHECK_EQUAL(cuMemAlloc_v2(&more, BLOCK), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQUAL(more, 1);
    CHECK_EQUAL(cuMemAllocAsync(&more, 1, NULL), CUDA_ERROR_OUT_OF_MEMORY);
    OK(cuMemFree_v2(all));
    CHECK_EQUAL(free_bytes(), free_now);
}

CASE(a_second_context_costs_memory_and_gives_it_back) {
    size_t before = free_bytes();
    CUcontext context;
    OK(cuCtxCreate_v2(&context, 0, 0));
    CHECK(free_bytes() < before);
    CUdeviceptr left_behind;
    OK(cuMemAlloc_v2(&left_behind, 64 * MIB));
    OK(cuCtxDestroy_v2(context));
    CHECK_EQUAL(free_bytes(), before);
}

CASE(freeing_twice_or_from_the_middle_is_an_invalid_value) {
    CUdeviceptr pointer;
    OK(cuMemAlloc_v2(&pointer, 4 * MIB));
    CHECK_EQUAL(cuMemFree_v2(pointer + 512), CUDA_ERROR_INVALID_VALUE);
    OK(cuMemFree_v2(pointer));
    CHECK_EQUAL(cuMemFree_v2(pointer), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(cuMemAlloc_v2(&pointer, 0), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(cuMemAlloc_v2(NULL, 1), CUDA_ERROR_INVALID_VALUE);
}

CASE(a_copy_beyond_an_allocation_is_an_invalid_value) {
    CUdeviceptr pointer;
    char bytes[1024] = {0};
    OK(cuMemAlloc_v2(&pointer, 512));
    CHECK_EQUAL(cuMemcpyHtoD_v2(pointer, bytes, 513), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(cuMemsetD8_v2(pointer + 511, 0, 2), CUDA_ERROR_INVALID_VALUE);
    OK(cuMemFree_v2(pointer));
}

CASE(memsets_of_every_width_write_exactly_their_elements) {
    CUdeviceptr pointer;
    OK(cuMemAlloc_v2(&pointer, 64));
    unsigned char bytes[64];
    OK(cuMemsetD8_v2(pointer, 0xee, 64));
    OK(cuMemsetD8_v2_ptds(pointer + 1, 0x11, 2));
    OK(cuMemsetD16_v2(pointer + 8, 0x2233, 2));
    OK(cuMemsetD32_v2(pointer + 16, 0x44556677, 1));
    OK(cuMemcpyDtoH_v2(bytes, pointer, 64));
    unsigned char expected[64];
    memset(expected, 0xee, 64);
    memset(expected + 1, 0x11, 2);
    memcpy(expected + 8, (uint16_t[]){0x2233, 0x2233}, 4);
    memcpy(expected + 16, (uint32_t[]){0x44556677}, 4);
    CHECK(!memcmp(bytes, expected, 64));
    OK(cuMemFree_v2(pointer));
}

CASE(a_box_copied_in_and_out_of_pitched_memory_leaves_the_rest_alone) {
    CUdeviceptr pointer;
    size_t pitch;
    unsigned char there[8][32], back[8][32] = {0};
    OK(cuMemAllocPitch_v2(&pointer, &pitch, 32, 8, 4));
    CHECK(pitch >= 32 && pitch % 512 == 0);
    OK(cuMemsetD2D8_v2(pointer, pitch, 0xaa, 32, 8));
    for (int i = 0; i < 256; i++)
        ((unsigned char *)there)[i] = (unsigned char)i;
    CUDA_MEMCPY2D copy = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                          .srcHost = there,
                          .srcPitch = 32,
                          .srcXInBytes = 3,
                          .srcY = 2,
                          .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                          .dstDevice = pointer,
                          .dstPitch = pitch,
                          .dstXInBytes = 5,
                          .dstY = 1,
                          .WidthInBytes = 7,
                          .Height = 4};
    OK(cuMemcpy2D_v2(&copy));
    CUDA_MEMCPY2D all = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                         .srcDevice = pointer,
                         .srcPitch = pitch,
                         .dstMemoryType = CU_MEMORYTYPE_HOST,
                         .dstHost = back,
                         .dstPitch = 32,
                         .WidthInBytes = 32,
                         .Height = 8};
    OK(cuMemcpy2D_v2(&all));
    for (unsigned y = 0; y < 8; y++)
        for (unsigned x = 0; x < 32; x++) {
            int inside = y >= 1 && y < 5 && x >= 5 && x < 12;
            CHECK_EQUAL(back[y][x], inside ? there[y + 1][x - 2] : 0xaa);
        }
    OK(cuMemFree_v2(pointer));
}

CASE(a_cube_goes_through_an_array_and_comes_back) {
    CUDA_ARRAY3D_DESCRIPTOR descriptor = {
        .Width = 5, .Height = 4, .Depth = 3, .Format = CU_AD_FORMAT_UNSIGNED_INT32, .NumChannels = 1};
    size_t before = free_bytes();
    CUarray array;
    uint32_t there[3][4][5], back[3][4][5] = {0};
    for (unsigned i = 0; i < 60; i++)
        ((uint32_t *)there)[i] = i * 7;
    OK(cuArray3DCreate_v2(&array, &descriptor));
    CUDA_MEMCPY3D copy = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                          .srcHost = there,
                          .srcPitch = 20,
                          .srcHeight = 4,
                          .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                          .dstArray = array,
                          .WidthInBytes = 20,
                          .Height = 4,
                          .Depth = 3};
    OK(cuMemcpy3D_v2(&copy));
    CUDA_MEMCPY3D out = {.srcMemoryType = CU_MEMORYTYPE_ARRAY,
                         .srcArray = array,
                         .dstMemoryType = CU_MEMORYTYPE_HOST,
                         .dstHost = back,
                         .dstPitch = 20,
                         .dstHeight = 4,
                         .WidthInBytes = 20,
                         .Height = 4,
                         .Depth = 3};
    OK(cuMemcpy3D_v2(&out));
    CHECK(!memcmp(there, back, sizeof there));
    OK(cuArrayDestroy(array));
    CHECK_EQUAL(free_bytes(), before);
}

CASE(a_level_of_a_mipmapped_array_is_half_of_the_one_before) {
    CUDA_ARRAY3D_DESCRIPTOR descriptor = {.Width = 256, .Height = 64, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 4},
                            level;
    CUmipmappedArray mipmap;
    CUarray array;
    size_t before = free_bytes();
    OK(cuMipmappedArrayCreate(&mipmap, &descriptor, 20));
    OK(cuMipmappedArrayGetLevel(&array, mipmap, 2));
    OK(cuArray3DGetDescriptor_v2(&level, array));
    CHECK_EQUAL(level.Width, 64);
    CHECK_EQUAL(level.Height, 16);
    CHECK_EQUAL(cuArrayDestroy(array), CUDA_ERROR_INVALID_HANDLE);
    CHECK_EQUAL(cuMipmappedArrayGetLevel(&array, mipmap, 9), CUDA_ERROR_INVALID_VALUE);
    OK(cuMipmappedArrayDestroy(mipmap));
    CHECK_EQUAL(free_bytes(), before);
}

static uint64_t of_pool(CUmemoryPool pool, CUmemPool_attribute attribute) {
    cuuint64_t value;
    OK(cuMemPoolGetAttribute(pool, attribute, &value));
    return value;
}

CASE(a_pool_keeps_up_to_its_threshold_and_gives_back_the_rest_at_a_synchronisation) {
    CUmemoryPool pool;
    CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
    size_t before = free_bytes();
    OK(cuMemPoolCreate(&pool, &properties));
    CUdeviceptr a, b;
    OK(cuMemAllocFromPoolAsync(&a, 3 * MIB, pool, NULL));
    OK(cuMemAllocFromPoolAsync(&b, 1000, pool, NULL));
    CHECK_EQUAL(of_pool(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 3 * MIB + 1024);
    CHECK_EQUAL(of_pool(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 32 * MIB);
    cuuint64_t keep = 32 * MIB;
    OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
    OK(cuMemFreeAsync(a, NULL));
    OK(cuMemFree_v2(b));
    OK(cuCtxSynchronize());
    CHECK_EQUAL(of_pool(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 32 * MIB);
    CHECK_EQUAL(before - free_bytes(), 32 * MIB);
    OK(cuMemPoolTrimTo(pool, 0));
    CHECK_EQUAL(free_bytes(), before);
    CHECK_EQUAL(of_pool(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH), 3 * MIB + 1024);
    OK(cuMemPoolDestroy(pool));
    CHECK_EQUAL(cuMemPoolTrimTo(pool, 0), CUDA_ERROR_INVALID_VALUE);
}

CASE(freed_memory_of_a_pool_is_the_other_streams_only_when_the_work_before_it_is_over) {
    CUstream one, two;
    OK(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
    OK(cuStreamCreate(&two, CU_STREAM_NON_BLOCKING));
    CUdeviceptr a, same, other;
    OK(cuMemAllocAsync(&a, 32 * MIB, one));
    struct gate gate = gate_new(one);
    OK(cuMemFreeAsync(a, one));
    OK(cuMemAllocAsync(&other, 32 * MIB, two));
    CHECK(other != a);
    OK(cuMemAllocAsync(&same, 32 * MIB, one));
    CHECK_EQUAL(same, a);
    gate_open(gate);
    OK(cuMemFreeAsync(same, one));
    OK(cuStreamSynchronize(one));
    OK(cuMemFreeAsync(other, two));
    OK(cuStreamSynchronize(two));
    OK(cuStreamDestroy_v2(one));
    OK(cuStreamDestroy_v2(two));
}

CASE(the_address_says_what_memory_it_is) {
    CUdeviceptr pointer, base;
    size_t bytes;
    unsigned type;
    OK(cuMemAlloc_v2(&pointer, 1000));
    OK(cuMemGetAddressRange_v2(&base, &bytes, pointer + 999));
    CHECK_EQUAL(base, pointer);
    CHECK_EQUAL(bytes, 1000);
    OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointer + 1));
    CHECK_EQUAL(type, CU_MEMORYTYPE_DEVICE);
    OK(cuMemFree_v2(pointer));
    CHECK_EQUAL(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointer), CUDA_ERROR_INVALID_VALUE);
    void *host;
    OK(cuMemHostAlloc(&host, 4096, 0));
    OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)host));
    CHECK_EQUAL(type, CU_MEMORYTYPE_HOST);
    OK(cuMemFreeHost(host));
}

CASE(a_kernel_that_writes_where_nothing_is_ends_the_context) {
    CUcontext context;
    OK(cuCtxCreate_v2(&context, 0, 0));
    CUmodule own;
    CUfunction function;
    OK(cuModuleLoad(&own, KERNELS));
    OK(cuModuleGetFunction(&function, own, "gpuslice_fill"));
    CUdeviceptr nowhere = 64, pointer;
    uint32_t value = 1;
    uint64_t count = 1;
    void *parameters[] = {&nowhere, &value, &count};
    OK(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
    CHECK_EQUAL(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK_EQUAL(cuMemAlloc_v2(&pointer, 1), CUDA_ERROR_ILLEGAL_ADDRESS);
    OK(cuCtxDestroy_v2(context));
    OK(cuMemAlloc_v2(&pointer, 1));
    OK(cuMemFree_v2(pointer));
}

int main(int argc, char **argv) {
    node_new();
    context_new();
    return check_main(argc, argv);
}
