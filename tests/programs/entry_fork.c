/* A parent that has not touched CUDA forks children that do, at once, each holding what it got until all have tried:
 *
 *   entry_fork CHILDREN BYTES
 *
 * Each child makes a context and allocates BYTES once, and prints how far it got: the first error, or 0. */
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static CUresult take(size_t bytes) {
    CUdevice device;
    CUcontext context;
    CUdeviceptr pointer;
    CUresult result = cuInit(0);
    if (result == CUDA_SUCCESS)
        result = cuDeviceGet(&device, 0);
    if (result == CUDA_SUCCESS)
        result = cuDevicePrimaryCtxRetain(&context, device);
    if (result == CUDA_SUCCESS)
        result = cuCtxSetCurrent(context);
    return result == CUDA_SUCCESS ? cuMemAlloc(&pointer, bytes) : result;
}

static int child(size_t bytes, int tried, int over) {
    char byte = 0;
    printf("%d\n", take(bytes));
    fflush(stdout);
    if (write(tried, &byte, 1) != 1 || read(over, &byte, 1) != 0) /* the parent closes it */
        return 1;
    return 0;
}

int main(int count, char **arguments) {
    int children = count > 2 ? atoi(arguments[1]) : 0, tried[2], over[2], failed = 0, status;
    if (pipe(tried) || pipe(over))
        return 1;
    for (int i = 0; i < children; i++)
        if (fork() == 0) {
            close(over[1]);
            _exit(child((size_t)atoll(arguments[2]), tried[1], over[0]));
        }
    close(tried[1]);
    for (int i = 0; i < children; i++) {
        char byte;
        if (read(tried[0], &byte, 1) != 1)
            failed = 1;
    }
    close(over[1]);
    while (wait(&status) > 0)
        failed |= status;
    return failed != 0;
}
