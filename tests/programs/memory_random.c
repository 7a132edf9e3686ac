/* Takes and gives device memory in every legal way, in an order that a seed decides.
 *
 *     memory_random SEED STEPS LARGEST [KIND...]     all kinds, or those named
 *
 * After each step it says what it did in a line of JSON and waits for a line on standard input, so that somebody can
 * compare what is charged with what the node holds.
 */
#include <stdio.h>
#include <stdlib.h>

#include "memory_kinds.h"

#define PIECES_MAX 256

static struct piece pieces[PIECES_MAX];
static unsigned piece_count;
static size_t largest;
static const struct memory_kind *chosen_kinds[64];
static unsigned chosen_count;

static void say(const char *verb, const char *kind, size_t bytes, CUresult result) {
    size_t free_bytes, total;
    MUST(cuMemGetInfo(&free_bytes, &total));
    printf("{\"did\": \"%s %s\", \"bytes\": %zu, \"result\": %d, \"free\": %zu}\n", verb, kind, bytes, result,
           free_bytes);
    fflush(stdout);
    for (int c = getchar(); c != '\n' && c != EOF;)
        c = getchar();
}

/* From 512 bytes up, small sizes as often as large ones. */
static size_t some_bytes(void) {
    size_t bytes = largest >> (rand() % 18);
    bytes = bytes / 2 + (size_t)rand() % (bytes / 2 + 1);
    return bytes < 8192 ? 8192 : bytes / 512 * 512;
}

static void take(void) {
    const struct memory_kind *kind = chosen_kinds[(unsigned)rand() % chosen_count];
    struct piece *piece = &pieces[piece_count];
    *piece = (struct piece){.kind = kind, .bytes = some_bytes(), .descriptor = -1};
    size_t bytes = piece->bytes;
    CUresult result = kind->take(bytes, piece);
    if (result != CUDA_ERROR_OUT_OF_MEMORY)
        must(result, kind->name);
    piece_count += result == CUDA_SUCCESS;
    say("take", kind->name, bytes, result);
}

static void give(void) {
    unsigned chosen = (unsigned)rand() % piece_count;
    struct piece piece = pieces[chosen];
    must(piece.kind->give(&piece, (unsigned)rand() % piece.kind->ways), piece.kind->name);
    pieces[chosen] = pieces[--piece_count];
    say("give", piece.kind->name, piece.bytes, CUDA_SUCCESS);
}

int main(int argc, char **argv) {
    CUdevice device;
    CUcontext context;
    if (argc < 4)
        return 2;
    for (int i = 4; i < argc; i++)
        chosen_kinds[chosen_count++] = memory_kind_named(argv[i]);
    for (unsigned i = 0; argc == 4 && i < memory_kind_count; i++)
        chosen_kinds[chosen_count++] = &memory_kinds[i];
    srand((unsigned)strtoul(argv[1], NULL, 10));
    largest = strtoull(argv[3], NULL, 10);
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    memory_kinds_begin();
    for (unsigned long left = strtoul(argv[2], NULL, 10); left; left--)
        if (piece_count == 0 || (piece_count < PIECES_MAX && rand() % 5 < 3))
            take();
        else
            give();
    while (piece_count)
        give();
    return 0;
}
