#include "heap.h"

#include <errno.h>
#include <sys/mman.h>

#include "attach.h"

#define LARGEST (UINT64_C(4) << 40)  /* addresses, not memory */
#define SMALLEST (UINT64_C(1) << 36) /* where the address space is limited (ulimit -v) */
#define BLOCK_BYTES (UINT64_C(1) << BLOCK_SHIFT)

pthread_mutex_t heap_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t base, block_count;
static uint32_t *first_of;     /* of each block: 1 + index of the first block of its extent, 0 when free */
static struct extent *extents; /* by the index of their first block */
static uint64_t cursor;        /* next fit: where to look first */

static void *reserve(uint64_t bytes) {
    /* NORESERVE: the kernel counts what is touched, not what could be */
    void *range = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED)
        return NULL;
    madvise(range, bytes, MADV_DONTFORK); /* a child has no GPU memory, and fork() must not copy its page tables */
    madvise(range, bytes, MADV_DONTDUMP);
    return range;
}

int heap_begin(void) {
    pthread_mutex_init(&heap_lock, NULL);
    for (uint64_t bytes = LARGEST; bytes >= SMALLEST; bytes /= 4) {
        char *range = reserve(bytes + BLOCK_BYTES);
        block_count = bytes >> BLOCK_SHIFT;
        first_of = reserve(block_count * sizeof *first_of);
        extents = reserve(block_count * sizeof *extents);
        if (range && first_of && extents) {
            base = ((uint64_t)range + BLOCK_BYTES - 1) & ~(BLOCK_BYTES - 1);
            cursor = 0;
            return 0;
        }
        if (range)
            munmap(range, bytes + BLOCK_BYTES);
        if (first_of)
            munmap(first_of, block_count * sizeof *first_of);
        if (extents)
            munmap(extents, block_count * sizeof *extents);
    }
    return -ENOMEM;
}

/* The first aligned run of free blocks that begins in [from, to), or `to`. */
static uint64_t find_run(uint64_t from, uint64_t to, uint64_t blocks, uint64_t alignment) {
    uint64_t begin = from;
    for (;;) {
        uint64_t address_block = (base >> BLOCK_SHIFT) + begin;
        begin += ((address_block + alignment - 1) & ~(alignment - 1)) - address_block;
        if (begin >= to || blocks > block_count - begin)
            return to;
        uint64_t end = begin;
        while (end < begin + blocks && first_of[end] == 0)
            end++;
        if (end == begin + blocks)
            return begin;
        struct extent *obstacle = &extents[first_of[end] - 1];
        begin = (uint64_t)(obstacle - extents) + obstacle->blocks;
    }
}

static struct extent *take(uint64_t begin, uint64_t blocks) {
    for (uint64_t block = begin; block < begin + blocks; block++)
        first_of[block] = (uint32_t)begin + 1;
    extents[begin] = (struct extent){.address = base + (begin << BLOCK_SHIFT), .blocks = blocks};
    return &extents[begin];
}

int heap_take(uint64_t blocks, uint64_t alignment, struct extent **ret_extent) {
    uint64_t begin = find_run(cursor, block_count, blocks, alignment);
    if (begin == block_count) {
        begin = find_run(0, cursor, blocks, alignment);
        if (begin == cursor)
            return -ENOMEM;
    }
    cursor = begin + blocks;
    *ret_extent = take(begin, blocks);
    return 0;
}

int heap_take_at(uint64_t address, uint64_t blocks, struct extent **ret_extent) {
    uint64_t begin = (address - base) >> BLOCK_SHIFT;
    if (address < base || begin >= block_count || blocks > block_count - begin ||
        find_run(begin, begin + 1, blocks, 1) != begin)
        return -EBUSY;
    *ret_extent = take(begin, blocks);
    return 0;
}

void heap_give(struct extent *extent) {
    uint64_t begin = (uint64_t)(extent - extents), blocks = extent->blocks;
    madvise((void *)extent->address, blocks << BLOCK_SHIFT, MADV_DONTNEED);
    for (uint64_t block = begin; block < begin + blocks; block++)
        first_of[block] = 0;
    extent->kind = EXTENT_FREE;
    if (cursor == begin + blocks) /* the newest: its addresses are the next to be used */
        cursor = begin;
}

struct extent *heap_find(uint64_t address) {
    uint64_t block = (address - base) >> BLOCK_SHIFT;
    if (address < base || block >= block_count || first_of[block] == 0)
        return NULL;
    return &extents[first_of[block] - 1];
}
