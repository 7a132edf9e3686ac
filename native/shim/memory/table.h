/* Who is charged for what: a hash table from a pointer or a handle to its record.
 *
 * O(1), sharded, open addressing with linear probing; a removal closes the gap, so there are no tombstones and the
 * cost does not grow with the history. Each shard has its own lock, held for a few probes and never over a call of
 * the driver. Key 0 is no key.
 */
#ifndef GPUSLICE_SHIM_MEMORY_TABLE_H
#define GPUSLICE_SHIM_MEMORY_TABLE_H

#include <gpuslice/region.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/lock.h"

#define MEMORY_TABLE_SHARDS 64u

struct memory_record {
    uint64_t key;
    uint64_t bytes; /* as asked of the driver, or a count; what it means is the table owner's */
    void *owner;    /* what it vanishes with: the context it was allocated in, or NULL */
    uint16_t gpu;   /* index of struct memory_gpu */
    uint16_t kind;  /* enum gpuslice_memory_kind */
    uint32_t flags; /* the table owner's */
};

struct memory_shard {
    _Alignas(GPUSLICE_CACHE_LINE) struct memory_lock lock;
    uint32_t used;
    uint32_t capacity; /* a power of two, or 0 before the first insertion */
    struct memory_record *records;
};

struct memory_table {
    struct memory_shard shards[MEMORY_TABLE_SHARDS];
};

/* False when the host has no memory for it; the table is then unchanged. A record that was there under this key is
 * replaced and handed back in `ret_replaced` (its key is 0 when there was none). */
bool memory_table_put(struct memory_table *table, const struct memory_record *record,
                      struct memory_record *ret_replaced);
/* False when there is no such key. `ret_record` may be NULL. */
bool memory_table_get(struct memory_table *table, uint64_t key, struct memory_record *ret_record);
bool memory_table_take(struct memory_table *table, uint64_t key, struct memory_record *ret_record);

/* Counting: `bytes` is a count, a key that reaches 0 is gone. Returns the count that results; -1 when a new key finds
 * no host memory, or when a key that is not there is lowered. A new key keeps `*kind`, and `*kind` becomes what the key
 * keeps. */
int64_t memory_table_count(struct memory_table *table, uint64_t key, int delta, uint16_t *kind);

/* Takes every record of `owner` out and hands each to `visit`, outside the locks. For the death of a context: it
 * looks at the whole table. */
void memory_table_take_all(struct memory_table *table, const void *owner,
                           void (*visit)(const struct memory_record *record, void *argument), void *argument);

/* Every record of `owner` belongs to `heir` from now on. Looks at the whole table. */
void memory_table_reown(struct memory_table *table, const void *owner, void *heir);

/* In a forked child: everything is forgotten and every lock is free. Nothing is given back to malloc, because a thread
 * of the parent may have been in the middle of a change. */
void memory_table_reset(struct memory_table *table);

#endif
