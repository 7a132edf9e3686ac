/* Fills the device in one way until it is refused, then gives everything back.
 *
 *     memory_paths KIND BYTES     KIND as in memory_kinds.c; pieces of BYTES, then of half of it, down to 2 MiB
 *     memory_paths kinds          their names
 *
 * Says what it sees in a line of JSON after the context is there, when it is refused, and when all is free again,
 * and waits for a line on standard input after each, so that somebody can look at the node meanwhile.
 */
#include <stdio.h>
#include <stdlib.h>

#include "memory_kinds.h"

#define BLOCK ((size_t)2 << 20)
#define PIECES_MAX 65536

static struct piece pieces[PIECES_MAX];
static unsigned piece_count;

static void wait_for_line(void) {
    fflush(stdout);
    for (int c = getchar(); c != '\n' && c != EOF;)
        c = getchar();
}

static void say_free(const char *when) {
    size_t free_bytes, total;
    MUST(cuMemGetInfo(&free_bytes, &total));
    printf("{\"when\": \"%s\", \"free\": %zu, \"total\": %zu", when, free_bytes, total);
}

static CUresult fill(const struct memory_kind *kind, size_t bytes, size_t *allocated) {
    for (;;) {
        struct piece *piece = &pieces[piece_count];
        *piece = (struct piece){.kind = kind, .bytes = bytes, .descriptor = -1};
        CUresult result = kind->take(bytes, piece);
        if (result != CUDA_SUCCESS)
            return result;
        *allocated += piece->bytes;
        if (++piece_count == PIECES_MAX)
            return CUDA_ERROR_UNKNOWN;
    }
}

/* In an order and by ways that the seed decides. */
static void give_all(void) {
    while (piece_count) {
        unsigned chosen = (unsigned)rand() % piece_count;
        struct piece *piece = &pieces[chosen];
        must(piece->kind->give(piece, (unsigned)rand() % piece->kind->ways), piece->kind->name);
        pieces[chosen] = pieces[--piece_count];
    }
    MUST(cuCtxSynchronize());
}

static void run(const struct memory_kind *kind, size_t bytes) {
    size_t allocated = 0, least = bytes < BLOCK ? bytes : BLOCK;
    CUresult refused = CUDA_SUCCESS;
    say_free("ready");
    puts("}");
    wait_for_line();
    for (size_t step = bytes; step >= least; step /= 2)
        refused = fill(kind, step, &allocated);
    say_free("full");
    printf(", \"allocated\": %zu, \"refused\": %d}\n", allocated, refused);
    wait_for_line();
    give_all();
    say_free("empty");
    puts("}");
    wait_for_line();
}

int main(int argc, char **argv) {
    CUdevice device;
    CUcontext context;
    if (argc == 2)
        for (unsigned i = 0; i < memory_kind_count; i++)
            puts(memory_kinds[i].name);
    if (argc != 3)
        return argc == 2 ? 0 : 2;
    const struct memory_kind *kind = memory_kind_named(argv[1]);
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    CUresult result = cuDevicePrimaryCtxRetain(&context, device);
    if (result != CUDA_SUCCESS) {
        printf("{\"when\": \"context\", \"refused\": %d}\n", result);
        return 0;
    }
    MUST(cuCtxSetCurrent(context));
    memory_kinds_begin();
    run(kind, strtoull(argv[2], NULL, 10));
    return 0;
}
