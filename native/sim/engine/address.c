/* Address reservations and what is mapped in them; and what lies at an address. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "attach.h"
#include "heap.h"
#include "linear.h"
#include "physical.h"

struct mapping {
    uint64_t address, blocks;
    struct engine_physical *physical;
};

/* The object of an EXTENT_RESERVED: the mapping at each of its blocks, or NULL. */
struct reservation {
    uint64_t mapped_blocks;
    struct mapping *at[];
};

static bool whole_blocks(uint64_t address, uint64_t bytes) {
    return bytes > 0 && bytes % ENGINE_BLOCK_BYTES == 0 && address % ENGINE_BLOCK_BYTES == 0;
}

int engine_address_reserve(uint64_t bytes, uint64_t alignment, uint64_t hint, uint64_t *ret_address) {
    uint64_t aligned_blocks = alignment > ENGINE_BLOCK_BYTES ? alignment >> BLOCK_SHIFT : 1;
    if (!whole_blocks(0, bytes) || (alignment & (alignment - 1)))
        return -EINVAL;
    uint64_t blocks = bytes >> BLOCK_SHIFT;
    struct reservation *reservation = calloc(1, sizeof *reservation + blocks * sizeof(struct mapping *));
    if (!reservation)
        return -ENOMEM;
    pthread_mutex_lock(&heap_lock);
    struct extent *extent = NULL;
    int result = -EBUSY;
    if (hint && whole_blocks(hint, bytes) && (hint >> BLOCK_SHIFT) % aligned_blocks == 0)
        result = heap_take_at(hint, blocks, &extent);
    if (result < 0)
        result = heap_take(blocks, aligned_blocks, &extent);
    if (result == 0) {
        extent->kind = EXTENT_RESERVED;
        extent->bytes = bytes;
        extent->object = reservation;
        *ret_address = extent->address;
    }
    pthread_mutex_unlock(&heap_lock);
    if (result < 0)
        free(reservation);
    return result;
}

static int free_reservation(uint64_t address, uint64_t bytes) {
    struct extent *extent = heap_find(address);
    if (!extent || extent->kind != EXTENT_RESERVED || extent->address != address || extent->bytes != bytes)
        return -EINVAL;
    struct reservation *reservation = extent->object;
    if (reservation->mapped_blocks)
        return -EBUSY;
    heap_give(extent);
    free(reservation);
    return 0;
}

int engine_address_free(uint64_t address, uint64_t bytes) {
    pthread_mutex_lock(&heap_lock);
    int result = free_reservation(address, bytes);
    pthread_mutex_unlock(&heap_lock);
    return result;
}

/* The reservation that holds all of the range. */
static struct reservation *covering(uint64_t address, uint64_t bytes, uint64_t *ret_first) {
    struct extent *extent = heap_find(address);
    if (!whole_blocks(address, bytes) || !extent || extent->kind != EXTENT_RESERVED ||
        bytes > extent->address + extent->bytes - address)
        return NULL;
    *ret_first = (address - extent->address) >> BLOCK_SHIFT;
    return extent->object;
}

static int map_bytes(const struct mapping *mapping, uint64_t offset) {
    int fd = physical_open(mapping->physical);
    if (fd < 0)
        return fd;
    size_t bytes = mapping->blocks << BLOCK_SHIFT;
    void *where =
        mmap((void *)mapping->address, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
    int result = where == MAP_FAILED ? -errno : 0;
    close(fd);
    if (result == 0) {
        madvise(where, bytes, MADV_DONTFORK);
        madvise(where, bytes, MADV_DONTDUMP);
    }
    return result;
}

static int map(uint64_t address, uint64_t bytes, struct engine_physical *physical, uint64_t offset) {
    uint64_t first, blocks = bytes >> BLOCK_SHIFT;
    struct reservation *reservation = covering(address, bytes, &first);
    if (!reservation || !whole_blocks(offset, bytes) || offset > engine_physical_bytes(physical) ||
        bytes > engine_physical_bytes(physical) - offset)
        return -EINVAL;
    for (uint64_t b = first; b < first + blocks; b++)
        if (reservation->at[b])
            return -EBUSY;
    struct mapping *mapping = malloc(sizeof *mapping);
    if (!mapping)
        return -ENOMEM;
    *mapping = (struct mapping){address, blocks, physical};
    int result = map_bytes(mapping, offset);
    if (result < 0) {
        free(mapping);
        return result;
    }
    engine_physical_retain(physical);
    for (uint64_t b = first; b < first + blocks; b++)
        reservation->at[b] = mapping;
    reservation->mapped_blocks += blocks;
    return 0;
}

int engine_address_map(uint64_t address, uint64_t bytes, struct engine_physical *physical, uint64_t offset) {
    pthread_mutex_lock(&heap_lock);
    int result = map(address, bytes, physical, offset);
    pthread_mutex_unlock(&heap_lock);
    return result;
}

static void unmap_one(struct reservation *reservation, struct mapping *mapping, uint64_t first) {
    size_t bytes = mapping->blocks << BLOCK_SHIFT;
    void *where = mmap((void *)mapping->address, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (where != MAP_FAILED) {
        madvise(where, bytes, MADV_DONTFORK);
        madvise(where, bytes, MADV_DONTDUMP);
    }
    for (uint64_t b = first; b < first + mapping->blocks; b++)
        reservation->at[b] = NULL;
    reservation->mapped_blocks -= mapping->blocks;
    engine_physical_release(mapping->physical);
    free(mapping);
}

static int unmap(uint64_t address, uint64_t bytes) {
    uint64_t first, blocks = bytes >> BLOCK_SHIFT;
    struct reservation *reservation = covering(address, bytes, &first);
    if (!reservation)
        return -EINVAL;
    for (uint64_t b = first; b < first + blocks; b++) {
        const struct mapping *mapping = reservation->at[b];
        if (!mapping || mapping->address < address ||
            mapping->address + (mapping->blocks << BLOCK_SHIFT) > address + bytes)
            return -EINVAL;
    }
    for (uint64_t b = first; b < first + blocks;) {
        uint64_t length = reservation->at[b]->blocks;
        unmap_one(reservation, reservation->at[b], b);
        b += length;
    }
    return 0;
}

int engine_address_unmap(uint64_t address, uint64_t bytes) {
    pthread_mutex_lock(&heap_lock);
    int result = unmap(address, bytes);
    pthread_mutex_unlock(&heap_lock);
    return result;
}

static struct engine_range reserved_range(const struct extent *extent, uint64_t pointer) {
    const struct reservation *reservation = extent->object;
    const struct mapping *mapping = reservation->at[(pointer - extent->address) >> BLOCK_SHIFT];
    if (!mapping)
        return (struct engine_range){.kind = ENGINE_RANGE_RESERVED, .base = extent->address, .bytes = extent->bytes};
    return (struct engine_range){.kind = ENGINE_RANGE_MAPPED,
                                 .gpu = engine_physical_gpu(mapping->physical),
                                 .base = mapping->address,
                                 .bytes = mapping->blocks << BLOCK_SHIFT,
                                 .physical = mapping->physical};
}

int engine_memory_find(uint64_t pointer, struct engine_range *ret_range) {
    pthread_mutex_lock(&heap_lock);
    const struct extent *extent = heap_find(pointer);
    int result = extent ? 0 : -ENOENT;
    if (extent && extent->kind == EXTENT_SMALL) {
        result = small_find(extent, pointer, ret_range);
    } else if (extent && extent->kind == EXTENT_RESERVED) {
        *ret_range = reserved_range(extent, pointer);
    } else if (extent && pointer - extent->address < extent->bytes) {
        *ret_range = (struct engine_range){
            .kind = ENGINE_RANGE_LINEAR, .gpu = extent->gpu, .base = extent->address, .bytes = extent->bytes};
    } else {
        result = -ENOENT;
    }
    pthread_mutex_unlock(&heap_lock);
    return result;
}
