/* cuGetProcAddress: the ABI that a version knows, for the default stream that was asked for. */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node.h"

#define IS(name, version, flags, symbol)                                                                               \
    do {                                                                                                               \
        void *found;                                                                                                   \
        CUdriverProcAddressQueryResult status;                                                                         \
        OK(cuGetProcAddress_v2(name, &found, version, flags, &status));                                                \
        CHECK_EQUAL(status, CU_GET_PROC_ADDRESS_SUCCESS);                                                              \
        CHECK(found == dlsym(RTLD_DEFAULT, symbol));                                                                   \
    } while (0)

#define LEGACY CU_GET_PROC_ADDRESS_LEGACY_STREAM
#define OWN CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM

CASE(a_version_gets_the_abi_it_knows) {
    IS("cuMemAlloc", 2000, 0, "cuMemAlloc");
    IS("cuMemAlloc", 3020, 0, "cuMemAlloc_v2");
    IS("cuMemAlloc", 13050, 0, "cuMemAlloc_v2");
    IS("cuCtxCreate", 11040, 0, "cuCtxCreate_v3");
    IS("cuCtxCreate", 12040, 0, "cuCtxCreate_v3");
    IS("cuCtxCreate", 12050, 0, "cuCtxCreate_v4");
    IS("cuStreamGetCaptureInfo", 11020, LEGACY, "cuStreamGetCaptureInfo");
    IS("cuStreamGetCaptureInfo", 11030, LEGACY, "cuStreamGetCaptureInfo_v2");
    IS("cuGetProcAddress", 11030, 0, "cuGetProcAddress");
    IS("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2");
}

CASE(the_per_thread_flag_gets_the_per_thread_variant_where_there_is_one) {
    IS("cuLaunchKernel", 12000, LEGACY, "cuLaunchKernel");
    IS("cuLaunchKernel", 12000, OWN, "cuLaunchKernel_ptsz");
    IS("cuMemcpyHtoD", 12000, OWN, "cuMemcpyHtoD_v2_ptds");
    IS("cuMemcpyHtoD", 6050, OWN, "cuMemcpyHtoD_v2");
    IS("cuMemAlloc", 12000, OWN, "cuMemAlloc_v2");
}

CASE(what_is_not_there_is_null_and_says_why) {
    void *found = &found;
    CUdriverProcAddressQueryResult status;
    OK(cuGetProcAddress_v2("cuNoSuchCall", &found, 12000, 0, &status));
    CHECK(!found);
    CHECK_EQUAL(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    OK(cuGetProcAddress_v2("cuGreenCtxCreate", &found, 11000, 0, &status));
    CHECK(!found);
    CHECK_EQUAL(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    CHECK_EQUAL(cuGetProcAddress("cuNoSuchCall", &found, 12000, 0), CUDA_ERROR_NOT_FOUND);
    CHECK_EQUAL(cuGetProcAddress_v2("cuInit", &found, CUDA_VERSION + 10, 0, &status), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(cuGetProcAddress_v2("cuInit", NULL, 12000, 0, &status), CUDA_ERROR_INVALID_VALUE);
}

CASE(what_is_not_modelled_says_so) {
    CHECK_EQUAL(cuGraphConditionalHandleCreate(NULL, NULL, NULL, 0, 0), CUDA_ERROR_NOT_SUPPORTED);
}

CASE(nothing_works_before_cuInit) {
    int count;
    CUcontext context;
    CHECK_EQUAL(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
    CHECK_EQUAL(cuCtxGetCurrent(&context), CUDA_ERROR_NOT_INITIALIZED);
    CHECK_EQUAL(cuInit(1), CUDA_ERROR_INVALID_VALUE);
}

/* How many devices a process with this CUDA_VISIBLE_DEVICES has; 255: none, cuInit says so. */
static int devices_with(const char *list) {
    pid_t pid = fork();
    if (pid == 0) {
        setenv("CUDA_VISIBLE_DEVICES", list, 1);
        int count;
        if (cuInit(0) == CUDA_ERROR_NO_DEVICE)
            _exit(255);
        OK(cuDeviceGetCount(&count));
        _exit(count);
    }
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

CASE(the_visible_list_ends_at_the_first_wrong_entry) {
    CHECK_EQUAL(devices_with("0"), 1);
    CHECK_EQUAL(devices_with("0,7"), 1);
    CHECK_EQUAL(devices_with("7,0"), 255);
    CHECK_EQUAL(devices_with(""), 255);
    CHECK_EQUAL(devices_with("-1"), 255);
    CHECK_EQUAL(devices_with("GPU-"), 1);
    CHECK_EQUAL(devices_with("GPU-zz"), 255);
}

CASE(a_child_of_an_initialised_process_has_no_cuda) {
    context_new();
    pid_t pid = fork();
    if (pid == 0) {
        CUdeviceptr pointer;
        CHECK_EQUAL(cuMemAlloc_v2(&pointer, 1), CUDA_ERROR_NOT_INITIALIZED);
        CHECK_EQUAL(cuInit(0), CUDA_ERROR_NOT_INITIALIZED);
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 0);
    CUdeviceptr pointer;
    OK(cuMemAlloc_v2(&pointer, 1));
}

int main(int argc, char **argv) {
    node_new();
    return check_main(argc, argv);
}
