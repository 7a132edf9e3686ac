/* Linear device memory. Large allocations have blocks of their own; small ones share blocks, cut at 512 bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attach.h"
#include "heap.h"
#include "linear.h"

#define LARGE_BYTES (UINT64_C(1) << 20)
#define PIECE_SHIFT 9
#define PIECES (1u << (BLOCK_SHIFT - PIECE_SHIFT))
#define WORDS (PIECES / 64)

struct small_block {
    struct extent *extent;
    uint64_t used[WORDS], starts[WORDS]; /* one bit a piece */
    uint32_t bytes[PIECES];              /* as asked, at the first piece of each allocation */
    unsigned free_pieces, longest_run;   /* longest_run: no free run is longer than this */
    unsigned place;                      /* in the GPU's list */
};

/* Blocks of small allocations of one GPU. */
static struct small_list {
    struct small_block **blocks;
    unsigned count, capacity;
    unsigned cursor; /* the block that served last */
} lists[SIM_GPUS_MAX];

void linear_begin(void) {
    memset(lists, 0, sizeof lists);
}

/* --- within a block ----------------------------------------------------------------------------------------- */

static bool bit(const uint64_t *map, unsigned i) {
    return map[i / 64] >> (i % 64) & 1;
}

static void mark(uint64_t *map, unsigned from, unsigned count, bool value) {
    for (unsigned i = from; i < from + count;) {
        unsigned in_word = 64 - i % 64 < from + count - i ? 64 - i % 64 : from + count - i;
        uint64_t mask = (in_word == 64 ? ~UINT64_C(0) : (UINT64_C(1) << in_word) - 1) << (i % 64);
        map[i / 64] = value ? map[i / 64] | mask : map[i / 64] & ~mask;
        i += in_word;
    }
}

/* The next piece at or after `from` that is used (or free), PIECES if none. */
static unsigned next(const uint64_t *map, unsigned from, bool value) {
    while (from < PIECES) {
        uint64_t word = (value ? map[from / 64] : ~map[from / 64]) >> (from % 64);
        if (word)
            return from + (unsigned)__builtin_ctzll(word);
        from = (from / 64 + 1) * 64;
    }
    return PIECES;
}

static int cut(struct small_block *block, unsigned pieces, uint64_t bytes, uint64_t *ret_pointer) {
    if (block->longest_run < pieces || block->free_pieces < pieces)
        return -ENOSPC;
    unsigned longest = 0;
    for (unsigned begin = next(block->used, 0, false); begin < PIECES;) {
        unsigned end = next(block->used, begin, true);
        if (end - begin >= pieces) {
            mark(block->used, begin, pieces, true);
            mark(block->starts, begin, 1, true);
            block->bytes[begin] = (uint32_t)bytes;
            block->free_pieces -= pieces;
            *ret_pointer = block->extent->address + ((uint64_t)begin << PIECE_SHIFT);
            return 0;
        }
        longest = end - begin > longest ? end - begin : longest;
        begin = next(block->used, end, false);
    }
    block->longest_run = longest;
    return -ENOSPC;
}

static unsigned pieces_of(uint64_t bytes) {
    return (unsigned)((bytes + (1u << PIECE_SHIFT) - 1) >> PIECE_SHIFT);
}

/* --- blocks of small allocations ---------------------------------------------------------------------------- */

static int add_block(unsigned gpu, struct small_block **ret_block) {
    struct small_list *list = &lists[gpu];
    if (list->count == list->capacity) {
        unsigned capacity = list->capacity ? 2 * list->capacity : 64;
        struct small_block **grown = realloc(list->blocks, capacity * sizeof(struct small_block *));
        if (!grown)
            return -ENOMEM;
        list->blocks = grown;
        list->capacity = capacity;
    }
    struct small_block *block = calloc(1, sizeof *block);
    int result = block ? blocks_take(&engine_self, gpu, 1) : -ENOMEM;
    if (result == 0) {
        result = heap_take(1, 1, &block->extent);
        if (result < 0)
            blocks_give(&engine_self, gpu, 1);
    }
    if (result < 0) {
        free(block);
        return result;
    }
    block->extent->kind = EXTENT_SMALL;
    block->extent->gpu = gpu;
    block->extent->object = block;
    block->free_pieces = block->longest_run = PIECES;
    block->place = list->count;
    list->blocks[list->count++] = block;
    *ret_block = block;
    return 0;
}

static void drop_block(struct small_block *block) {
    unsigned gpu = block->extent->gpu;
    struct small_list *list = &lists[gpu];
    struct small_block *last = list->blocks[--list->count];
    list->blocks[block->place] = last;
    last->place = block->place;
    heap_give(block->extent);
    free(block);
    blocks_give(&engine_self, gpu, 1);
}

static int alloc_small(unsigned gpu, uint64_t bytes, uint64_t *ret_pointer) {
    struct small_list *list = &lists[gpu];
    for (unsigned tried = 0; tried < list->count; tried++) {
        unsigned i = (list->cursor + tried) % list->count;
        if (cut(list->blocks[i], pieces_of(bytes), bytes, ret_pointer) == 0) {
            list->cursor = i;
            return 0;
        }
    }
    struct small_block *block;
    int result = add_block(gpu, &block);
    if (result < 0)
        return result;
    list->cursor = block->place;
    return cut(block, pieces_of(bytes), bytes, ret_pointer);
}

static int free_small(struct small_block *block, uint64_t pointer) {
    uint64_t offset = pointer - block->extent->address;
    unsigned piece = (unsigned)(offset >> PIECE_SHIFT);
    if (offset & ((1u << PIECE_SHIFT) - 1) || !bit(block->starts, piece))
        return -EINVAL;
    unsigned pieces = pieces_of(block->bytes[piece]);
    mark(block->starts, piece, 1, false);
    mark(block->used, piece, pieces, false);
    block->free_pieces += pieces;
    block->longest_run = block->free_pieces;
    lists[block->extent->gpu].cursor = block->place;
    if (block->free_pieces == PIECES)
        drop_block(block);
    return 0;
}

/* --- blocks of one allocation ------------------------------------------------------------------------------- */

static int alloc_large(unsigned gpu, uint64_t bytes, uint64_t *ret_pointer) {
    uint64_t blocks = blocks_of(bytes);
    int result = blocks_take(&engine_self, gpu, blocks);
    if (result < 0)
        return result;
    struct extent *extent;
    result = heap_take(blocks, 1, &extent);
    if (result < 0) {
        blocks_give(&engine_self, gpu, blocks);
        return result;
    }
    extent->kind = EXTENT_LARGE;
    extent->gpu = gpu;
    extent->bytes = bytes;
    *ret_pointer = extent->address;
    return 0;
}

static int free_large(struct extent *extent, uint64_t pointer) {
    if (pointer != extent->address)
        return -EINVAL;
    uint64_t blocks = extent->blocks;
    heap_give(extent);
    blocks_give(&engine_self, extent->gpu, blocks);
    return 0;
}

int engine_memory_alloc(unsigned gpu, uint64_t bytes, uint64_t *ret_pointer) {
    if (!gpu_exists(gpu))
        return -ENODEV;
    if (bytes == 0)
        return -EINVAL;
    pthread_mutex_lock(&heap_lock);
    int result = bytes < LARGE_BYTES ? alloc_small(gpu, bytes, ret_pointer) : alloc_large(gpu, bytes, ret_pointer);
    pthread_mutex_unlock(&heap_lock);
    return result;
}

int engine_memory_free(uint64_t pointer) {
    pthread_mutex_lock(&heap_lock);
    struct extent *extent = heap_find(pointer);
    int result = -EINVAL;
    if (extent && extent->kind == EXTENT_SMALL)
        result = free_small(extent->object, pointer);
    else if (extent && extent->kind == EXTENT_LARGE)
        result = free_large(extent, pointer);
    pthread_mutex_unlock(&heap_lock);
    return result;
}

int small_find(const struct extent *extent, uint64_t pointer, struct engine_range *ret_range) {
    const struct small_block *block = extent->object;
    unsigned piece = (unsigned)((pointer - extent->address) >> PIECE_SHIFT);
    unsigned word = piece / 64;
    uint64_t before = block->starts[word] & (~UINT64_C(0) >> (63 - piece % 64));
    while (!before && word > 0)
        before = block->starts[--word];
    if (!before)
        return -ENOENT;
    unsigned begin = word * 64 + 63 - (unsigned)__builtin_clzll(before);
    if (piece >= begin + pieces_of(block->bytes[begin]))
        return -ENOENT;
    *ret_range = (struct engine_range){.kind = ENGINE_RANGE_LINEAR,
                                       .gpu = extent->gpu,
                                       .base = extent->address + ((uint64_t)begin << PIECE_SHIFT),
                                       .bytes = block->bytes[begin]};
    return 0;
}
