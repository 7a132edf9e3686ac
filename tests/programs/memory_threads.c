/* Takes and gives device memory from many threads at once, most of the time at the limit.
 *
 *     memory_threads THREADS STEPS LARGEST [KIND...]     all kinds, or those named
 *
 * Says "busy" when they start and "done" when all is freed again, and waits for a line on standard input after each.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "memory_kinds.h"

#define PIECES_MAX 64

static CUcontext context;
static unsigned long steps;
static size_t largest;
static const struct memory_kind *chosen_kinds[64];
static unsigned chosen_count;

struct worker {
    pthread_t thread;
    unsigned seed;
    struct piece pieces[PIECES_MAX];
    unsigned piece_count;
};

static void take(struct worker *worker) {
    const struct memory_kind *kind = chosen_kinds[(unsigned)rand_r(&worker->seed) % chosen_count];
    size_t bytes = (largest >> (rand_r(&worker->seed) % 12)) / 512 * 512;
    struct piece *piece = &worker->pieces[worker->piece_count];
    if (kind->captures)
        return; /* a capture in global mode forbids the other threads what they do */
    *piece = (struct piece){.kind = kind, .bytes = bytes, .descriptor = -1};
    CUresult result = kind->take(bytes, piece);
    if (result != CUDA_ERROR_OUT_OF_MEMORY)
        must(result, kind->name);
    worker->piece_count += result == CUDA_SUCCESS;
}

static void give(struct worker *worker) {
    unsigned chosen = (unsigned)rand_r(&worker->seed) % worker->piece_count;
    struct piece piece = worker->pieces[chosen];
    must(piece.kind->give(&piece, (unsigned)rand_r(&worker->seed) % piece.kind->ways), piece.kind->name);
    worker->pieces[chosen] = worker->pieces[--worker->piece_count];
}

static void *work(void *argument) {
    struct worker *worker = argument;
    MUST(cuCtxSetCurrent(context));
    for (unsigned long left = steps; left; left--)
        if (worker->piece_count == 0 || (worker->piece_count < PIECES_MAX && rand_r(&worker->seed) % 5 < 3))
            take(worker);
        else
            give(worker);
    while (worker->piece_count)
        give(worker);
    return NULL;
}

static void say(const char *what) {
    size_t free_bytes, total;
    MUST(cuMemGetInfo(&free_bytes, &total));
    printf("{\"when\": \"%s\", \"free\": %zu}\n", what, free_bytes);
    fflush(stdout);
    for (int c = getchar(); c != '\n' && c != EOF;)
        c = getchar();
}

int main(int argc, char **argv) {
    CUdevice device;
    if (argc < 4)
        return 2;
    for (int i = 4; i < argc; i++)
        chosen_kinds[chosen_count++] = memory_kind_named(argv[i]);
    for (unsigned i = 0; argc == 4 && i < memory_kind_count; i++)
        chosen_kinds[chosen_count++] = &memory_kinds[i];
    unsigned thread_count = (unsigned)strtoul(argv[1], NULL, 10);
    struct worker *workers = calloc(thread_count, sizeof *workers);
    steps = strtoul(argv[2], NULL, 10);
    largest = strtoull(argv[3], NULL, 10);
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    memory_kinds_begin();
    say("busy");
    for (unsigned i = 0; workers && i < thread_count; i++) {
        workers[i].seed = i + 1;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            return 3;
    }
    for (unsigned i = 0; workers && i < thread_count; i++)
        pthread_join(workers[i].thread, NULL);
    MUST(cuCtxSynchronize());
    say("done");
    free(workers);
    return 0;
}
