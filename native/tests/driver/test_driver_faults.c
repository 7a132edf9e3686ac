/* What injected faults do to a program: its contexts end with the error a real driver gives, a GPU that hangs keeps
 * its callers, and damaged memory and arithmetic give wrong results. Each case is a process on a node of its own. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node.h"

/* Runs `gpuslice-sim-node inject` with these words between its name and the node, and after it. */
static void inject(const char *option, const char *value, const char *fault, const char *amount) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl(SIM_NODE_PROGRAM, "gpuslice-sim-node", "inject", option, value, getenv("GPUSLICE_SIM_NODE"), fault,
              amount, (char *)NULL);
        _exit(127);
    }
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 0);
}

static void in_a_process(void (*body)(void)) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        node_new();
        context_new();
        body();
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 0);
}

static void inject_into_self(const char *code) {
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    inject("--pid", pid, "xid", code);
}

static CUresult allocate(void) {
    CUdeviceptr pointer;
    return cuMemAlloc_v2(&pointer, MIB);
}

static void fault_in_a_page(void) {
    spin(UINT64_C(600000000000), NULL);
    inject_into_self("31");
    CHECK_EQUAL(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK_EQUAL(allocate(), CUDA_ERROR_ILLEGAL_ADDRESS);
}

CASE(a_page_fault_ends_the_contexts_of_its_process) {
    in_a_process(fault_in_a_page);
}

static void fail_in_a_kernel(void) {
    inject_into_self("13");
    CHECK_EQUAL(allocate(), CUDA_ERROR_LAUNCH_FAILED);
}

CASE(an_exception_of_a_kernel_ends_the_contexts_of_its_process) {
    in_a_process(fail_in_a_kernel);
}

static void watch_another_fail(void) {
    inject("--pid", "1", "xid", "13");
    OK(allocate());
}

CASE(an_exception_of_another_process_ends_nothing_here) {
    in_a_process(watch_another_fail);
}

static void lose_the_gpu(void) {
    spin(UINT64_C(600000000000), NULL);
    inject("--gpu", "0", "lost", NULL);
    CHECK_EQUAL(cuCtxSynchronize(), CUDA_ERROR_UNKNOWN);
    CHECK_EQUAL(allocate(), CUDA_ERROR_UNKNOWN);
    char name[64];
    CHECK_EQUAL(cuDeviceGetName(name, sizeof name, 0), CUDA_ERROR_UNKNOWN);
}

CASE(a_gpu_that_fell_off_the_bus_answers_nothing) {
    in_a_process(lose_the_gpu);
}

static void be_reset(void) {
    inject("--gpu", "0", "reset", NULL);
    CHECK_EQUAL(allocate(), CUDA_ERROR_LAUNCH_FAILED);
}

CASE(a_reset_ends_every_context_on_the_gpu) {
    in_a_process(be_reset);
}

/* --- a GPU that hangs --------------------------------------------------------------------------------------- */

static _Atomic int answered;

static void *ask(void *context) {
    cuCtxSetCurrent(context);
    allocate();
    answered = 1;
    return NULL;
}

static bool is_in_state_d(const char *task) {
    char path[300], line[512];
    snprintf(path, sizeof path, "/proc/self/task/%s/stat", task);
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
    if (fd >= 0)
        close(fd);
    if (length <= 0)
        return false;
    line[length] = 0;
    const char *name_end = strrchr(line, ')');
    return name_end && name_end[2] == 'D';
}

/* Whether some thread of ours waits where no signal reaches it. */
static bool somebody_waits(void) {
    DIR *tasks = opendir("/proc/self/task");
    bool found = false;
    CHECK(tasks != NULL);
    for (struct dirent *entry; !found && (entry = readdir(tasks));)
        found = entry->d_name[0] != '.' && is_in_state_d(entry->d_name);
    closedir(tasks);
    return found;
}

static void hang(void) {
    CUcontext context;
    pthread_t thread;
    OK(cuCtxGetCurrent(&context));
    inject("--gpu", "0", "hang", "1");
    CHECK_EQUAL(pthread_create(&thread, NULL, ask, context), 0);
    for (int i = 0; i < 1000 && !somebody_waits(); i++)
        usleep(5000);
    CHECK(somebody_waits());
    CHECK_EQUAL(answered, 0);
    inject("--gpu", "0", "hang", "0");
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(answered, 1);
    OK(cuCtxSetCurrent(context));
    OK(allocate());
}

CASE(a_gpu_that_hangs_keeps_its_callers_in_the_kernel_until_it_answers) {
    in_a_process(hang);
}

/* --- damage ------------------------------------------------------------------------------------------------- */

static void write_to_a_stuck_bit(void) {
    CUdeviceptr pointer;
    uint32_t words[1024];
    inject("--gpu", "0", "bad-cell", "2048");
    OK(cuMemAlloc_v2(&pointer, BLOCK));
    fill(pointer, 0, 1024, NULL);
    OK(cuMemcpyDtoH_v2(words, pointer, sizeof words));
    for (unsigned i = 0; i < 1024; i++)
        CHECK_EQUAL(words[i], i == 512);
    OK(cuMemsetD32_v2(pointer, 2, 1024));
    OK(cuMemcpyDtoH_v2(words, pointer, sizeof words));
    CHECK_EQUAL(words[512], 3);
    memset(words, 0xff, sizeof words);
    OK(cuMemcpyHtoD_v2(pointer, words, sizeof words));
    OK(cuMemcpyDtoH_v2(words, pointer, sizeof words));
    CHECK_EQUAL(words[512], UINT32_MAX); /* a bit that is stuck at one is no fault in a one */
}

CASE(a_bad_cell_keeps_its_bit_whatever_is_written) {
    in_a_process(write_to_a_stuck_bit);
}

static void add_wrongly_once(void) {
    enum { COUNT = 64 };
    float values[COUNT], sums[COUNT];
    CUdeviceptr a, sum;
    uint64_t count = COUNT;
    for (unsigned i = 0; i < COUNT; i++)
        values[i] = (float)i;
    OK(cuMemAlloc_v2(&a, sizeof values));
    OK(cuMemAlloc_v2(&sum, sizeof sums));
    OK(cuMemcpyHtoD_v2(a, values, sizeof values));
    inject("--gpu", "0", "flip", "1");
    for (unsigned round = 0; round < 2; round++) {
        void *parameters[] = {&a, &a, &sum, &count};
        unsigned wrong = 0;
        OK(cuLaunchKernel(kernel("gpuslice_add"), 1, 1, 1, COUNT, 1, 1, 0, NULL, parameters, NULL));
        OK(cuMemcpyDtoH_v2(sums, sum, sizeof sums));
        for (unsigned i = 0; i < COUNT; i++)
            wrong += sums[i] != 2 * values[i];
        CHECK_EQUAL(wrong, round == 0);
    }
}

CASE(a_flipped_result_is_wrong_once_for_each_that_was_injected) {
    in_a_process(add_wrongly_once);
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
