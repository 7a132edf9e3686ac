/* Modules: what is read from each form of an image, and what loading costs. */
#include "node.h"

static const char text[] = ".version 7.0\n.target sm_52\n.address_size 64\n"
                           "// .entry not_a_kernel()\n"
                           ".global .align 4 .u32 numbers[3] = {7, 0x10, 9};\n"
                           ".visible .global .align 8 .b8 zeros[24];\n"
                           ".visible .entry three(.param .u8 a, .param .u64 b, .param .align 8 .b8 c[20])\n"
                           ".maxntid 64, 2, 1\n"
                           "{ .shared .align 4 .b8 tile[1000]; { ret; } }\n";

struct fat_entry {
    uint16_t kind, version;
    uint32_t header_bytes;
    uint64_t bytes;
    uint32_t compressed_bytes, reserved0;
    uint16_t minor, major;
    uint32_t architecture, name_offset, name_bytes;
    uint64_t flags, reserved1, unpacked_bytes;
};
struct fat_binary {
    uint32_t magic;
    uint16_t version, header_bytes;
    uint64_t bytes;
    struct fat_entry entry;
    unsigned char payload[1024];
};

static struct fat_binary fat_new(uint32_t architecture) {
    return (struct fat_binary){
        .magic = 0xba55ed50,
        .version = 1,
        .header_bytes = 16,
        .bytes = sizeof(struct fat_entry) + 1024,
        .entry = {.kind = 1, .header_bytes = sizeof(struct fat_entry), .bytes = 1024, .architecture = architecture}};
}

static void check_module(CUmodule module) {
    CUfunction function;
    CUdeviceptr address;
    size_t bytes, offset, size;
    uint32_t numbers[3];
    int value;
    OK(cuModuleGetFunction(&function, module, "three"));
    CHECK_EQUAL(cuModuleGetFunction(&function, module, "not_a_kernel"), CUDA_ERROR_NOT_FOUND);
    OK(cuFuncGetParamInfo(function, 1, &offset, &size));
    CHECK_EQUAL(offset, 8);
    CHECK_EQUAL(size, 8);
    OK(cuFuncGetParamInfo(function, 2, &offset, &size));
    CHECK_EQUAL(offset, 16);
    CHECK_EQUAL(size, 20);
    CHECK_EQUAL(cuFuncGetParamInfo(function, 3, &offset, &size), CUDA_ERROR_INVALID_VALUE);
    OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function));
    CHECK_EQUAL(value, 128);
    OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function));
    CHECK_EQUAL(value, 1000);
    OK(cuModuleGetGlobal_v2(&address, &bytes, module, "numbers"));
    CHECK_EQUAL(bytes, 12);
    OK(cuMemcpyDtoH_v2(numbers, address, 12));
    CHECK(numbers[0] == 7 && numbers[1] == 16 && numbers[2] == 9);
    OK(cuModuleGetGlobal_v2(&address, &bytes, module, "zeros"));
    CHECK_EQUAL(bytes, 24);
}

CASE(kernels_parameters_and_variables_are_read_from_text) {
    CUmodule module;
    OK(cuModuleLoadData(&module, text));
    check_module(module);
    OK(cuModuleUnload(module));
    CHECK_EQUAL(cuModuleUnload(module), CUDA_ERROR_INVALID_HANDLE);
}

CASE(a_fat_binary_gives_the_entry_that_runs_here) {
    CUmodule module;
    struct fat_binary fat = fat_new(52);
    memcpy(fat.payload, text, sizeof text);
    OK(cuModuleLoadFatBinary(&module, &fat));
    check_module(module);
    OK(cuModuleUnload(module));
    struct {
        uint32_t magic, version;
        const void *data, *name;
    } wrapper = {0x466243b1, 1, &fat, NULL};
    OK(cuModuleLoadFatBinary(&module, &wrapper));
    OK(cuModuleUnload(module));
    fat.entry.architecture = 90;
    CHECK_EQUAL(cuModuleLoadFatBinary(&module, &fat), CUDA_ERROR_NO_BINARY_FOR_GPU);
}

/* The text twice over as LZ4: all of it as literals, then one match that is the text again as a comment would be; here
 * a match of the first line suffices to see that matches are followed. */
CASE(a_compressed_entry_is_unpacked) {
    CUmodule module;
    struct fat_binary fat = fat_new(52);
    size_t literals = sizeof text - 1, at = 0;
    unsigned char *out = fat.payload;
    out[at++] = 0xf0 | 9; /* at least 15 literals, then a match of 9 + 4 bytes */
    size_t more = literals - 15;
    for (; more >= 255; more -= 255)
        out[at++] = 255;
    out[at++] = (unsigned char)more;
    memcpy(out + at, text, literals);
    at += literals;
    out[at++] = (unsigned char)(literals & 255); /* the distance: back to the first line */
    out[at++] = (unsigned char)(literals >> 8);
    out[at++] = 0x10; /* one literal, the end */
    out[at++] = '\n';
    fat.entry.flags = 0x2000;
    fat.entry.compressed_bytes = (uint32_t)at;
    fat.entry.unpacked_bytes = literals + 13 + 1;
    OK(cuModuleLoadFatBinary(&module, &fat));
    check_module(module);
    OK(cuModuleUnload(module));
    fat.entry.unpacked_bytes++;
    CHECK(cuModuleLoadFatBinary(&module, &fat) != CUDA_SUCCESS);
}

CASE(an_image_that_cannot_be_read_is_refused) {
    CUmodule module = (CUmodule)1;
    CHECK_EQUAL(cuModuleLoadData(&module, ".version 7.0\n.target sm_52\n.entry broken( {"), CUDA_ERROR_INVALID_PTX);
    CHECK_EQUAL(cuModuleLoadData(&module, ".version 7.0\n.target sm_90\n"), CUDA_ERROR_NO_BINARY_FOR_GPU);
    CHECK_EQUAL(cuModuleLoad(&module, "/nowhere.ptx"), CUDA_ERROR_FILE_NOT_FOUND);
    CHECK_EQUAL(cuModuleLoadData(&module, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL((uintptr_t)module, 1);
}

CASE(what_is_linked_can_be_loaded) {
    CUlinkState linker;
    CUmodule module;
    void *image;
    size_t bytes;
    char copy[sizeof text];
    memcpy(copy, text, sizeof text);
    OK(cuLinkCreate_v2(0, NULL, NULL, &linker));
    OK(cuLinkAddData_v2(linker, CU_JIT_INPUT_PTX, copy, sizeof copy, "text", 0, NULL, NULL));
    OK(cuLinkComplete(linker, &image, &bytes));
    OK(cuModuleLoadData(&module, image));
    check_module(module);
    OK(cuLinkDestroy(linker));
    OK(cuModuleUnload(module));
}

CASE(a_librarys_kernel_runs_in_every_context_and_its_module_goes_with_it) {
    CUlibrary library;
    CUkernel kernel_of_all;
    CUcontext other;
    size_t before = free_bytes();
    OK(cuLibraryLoadData(&library, text, NULL, NULL, 0, NULL, NULL, 0));
    OK(cuLibraryGetKernel(&kernel_of_all, library, "three"));
    unsigned char a = 1, c[20] = {0};
    uint64_t b = 2;
    void *parameters[] = {&a, &b, c};
    CUfunction function = (CUfunction)kernel_of_all;
    OK(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL));
    OK(cuCtxCreate_v2(&other, 0, 0));
    OK(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL));
    OK(cuCtxSynchronize());
    OK(cuCtxDestroy_v2(other));
    OK(cuCtxSynchronize());
    OK(cuLibraryUnload(library));
    CHECK_EQUAL(free_bytes(), before);
    CHECK_EQUAL(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL), CUDA_ERROR_INVALID_HANDLE);
}

/* PTX whose one kernel takes more than a block of the card. */
static char *large_text(void) {
    static char large[(5 << 20) + 200];
    int head = sprintf(large, ".version 7.0\n.target sm_52\n.address_size 64\n.visible .entry large()\n{ ");
    memset(large + head, ' ', 5 << 20);
    memcpy(large + head + (5 << 20), "ret; }\n", 8);
    return large;
}

static CUfunction load_large(CUmodule *module) {
    CUfunction function;
    OK(cuModuleLoadData(module, large_text()));
    OK(cuModuleGetFunction(&function, *module, "large"));
    return function;
}

CASE(code_takes_memory_when_it_is_first_used) {
    CUmoduleLoadingMode mode;
    CUfunctionLoadingState state;
    CUmodule module;
    size_t before = free_bytes();
    OK(cuModuleGetLoadingMode(&mode));
    CHECK_EQUAL(mode, CU_MODULE_LAZY_LOADING);
    CUfunction function = load_large(&module);
    CHECK_EQUAL(free_bytes(), before);
    OK(cuFuncIsLoaded(&state, function));
    CHECK_EQUAL(state, CU_FUNCTION_LOADING_STATE_UNLOADED);
    OK(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL));
    CHECK(free_bytes() + (4 << 20) <= before);
    OK(cuFuncIsLoaded(&state, function));
    CHECK_EQUAL(state, CU_FUNCTION_LOADING_STATE_LOADED);
    OK(cuModuleUnload(module));
    CHECK_EQUAL(free_bytes(), before);
}

CASE(a_graph_loads_its_kernels_when_it_is_instantiated) {
    CUmodule module;
    CUgraph graph;
    CUgraphExec executable;
    CUgraphNode node;
    size_t before = free_bytes();
    CUDA_KERNEL_NODE_PARAMS parameters = {.func = load_large(&module),
                                          .gridDimX = 1,
                                          .gridDimY = 1,
                                          .gridDimZ = 1,
                                          .blockDimX = 1,
                                          .blockDimY = 1,
                                          .blockDimZ = 1};
    OK(cuGraphCreate(&graph, 0));
    OK(cuGraphAddKernelNode_v2(&node, graph, NULL, 0, &parameters));
    CHECK_EQUAL(free_bytes(), before);
    OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
    CHECK(free_bytes() + (4 << 20) <= before);
    OK(cuGraphExecDestroy(executable));
    OK(cuGraphDestroy(graph));
    OK(cuModuleUnload(module));
    CHECK_EQUAL(free_bytes(), before);
}

CASE(eager_loading_takes_the_memory_at_once) {
    CUmoduleLoadingMode mode;
    CUmodule module;
    size_t before = free_bytes();
    setenv("CUDA_MODULE_LOADING", "EAGER", 1);
    OK(cuModuleGetLoadingMode(&mode));
    CHECK_EQUAL(mode, CU_MODULE_EAGER_LOADING);
    load_large(&module);
    CHECK(free_bytes() + (4 << 20) <= before);
    unsetenv("CUDA_MODULE_LOADING");
    OK(cuModuleUnload(module));
    CHECK_EQUAL(free_bytes(), before);
}

int main(int argc, char **argv) {
    node_new();
    context_new();
    return check_main(argc, argv);
}
