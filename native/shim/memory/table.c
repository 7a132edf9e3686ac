#include "memory/table.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 64u

/* Pointers share their low bits and handles are often small numbers: multiplying by 2^64 over the golden ratio
 * spreads both into the high bits. The top 6 pick the shard, the next ones the place. */
static uint64_t hash(uint64_t key) {
    return key * UINT64_C(0x9e3779b97f4a7c15);
}

static struct memory_shard *shard_of(struct memory_table *table, uint64_t key) {
    return &table->shards[hash(key) >> 58];
}

static uint32_t home_of(const struct memory_shard *shard, uint64_t key) {
    return (uint32_t)(hash(key) >> 26) & (shard->capacity - 1);
}

/* The place of `key`, or the free place where it would go. The shard has at least one free place. */
static struct memory_record *locate(const struct memory_shard *shard, uint64_t key) {
    uint32_t place = home_of(shard, key);
    while (shard->records[place].key != 0 && shard->records[place].key != key)
        place = (place + 1) & (shard->capacity - 1);
    return &shard->records[place];
}

static bool grow(struct memory_shard *shard) {
    struct memory_shard larger = {.capacity = shard->capacity ? 2 * shard->capacity : FIRST_CAPACITY};
    larger.records = calloc(larger.capacity, sizeof(*larger.records));
    if (!larger.records)
        return false;
    for (uint32_t i = 0; i < shard->capacity; i++)
        if (shard->records[i].key)
            *locate(&larger, shard->records[i].key) = shard->records[i];
    free(shard->records);
    shard->records = larger.records;
    shard->capacity = larger.capacity;
    return true;
}

/* Keeps a third of the places free, so that probes stay short. */
static bool make_room(struct memory_shard *shard) {
    return shard->used < shard->capacity - shard->capacity / 3 || grow(shard);
}

/* Removes the record at `hole` and moves back whoever had been pushed past it. */
static void close_gap(struct memory_shard *shard, uint32_t hole) {
    uint32_t mask = shard->capacity - 1;
    for (uint32_t place = (hole + 1) & mask; shard->records[place].key != 0; place = (place + 1) & mask) {
        uint32_t home = home_of(shard, shard->records[place].key);
        if (((place - home) & mask) >= ((place - hole) & mask)) {
            shard->records[hole] = shard->records[place];
            hole = place;
        }
    }
    shard->records[hole].key = 0;
    shard->used--;
}

bool memory_table_put(struct memory_table *table, const struct memory_record *record,
                      struct memory_record *ret_replaced) {
    struct memory_shard *shard = shard_of(table, record->key);
    memory_lock_take(&shard->lock);
    bool room = make_room(shard);
    if (room) {
        struct memory_record *place = locate(shard, record->key);
        *ret_replaced = *place;
        shard->used += place->key == 0;
        *place = *record;
    }
    memory_lock_give(&shard->lock);
    return room;
}

bool memory_table_get(struct memory_table *table, uint64_t key, struct memory_record *ret_record) {
    struct memory_shard *shard = shard_of(table, key);
    bool found = false;
    memory_lock_take(&shard->lock);
    if (shard->used) {
        const struct memory_record *place = locate(shard, key);
        found = key != 0 && place->key == key; /* a free place has key 0 */
        if (found && ret_record)
            *ret_record = *place;
    }
    memory_lock_give(&shard->lock);
    return found;
}

bool memory_table_take(struct memory_table *table, uint64_t key, struct memory_record *ret_record) {
    struct memory_shard *shard = shard_of(table, key);
    bool found = false;
    memory_lock_take(&shard->lock);
    if (shard->used) {
        struct memory_record *place = locate(shard, key);
        found = key != 0 && place->key == key;
        if (found) {
            if (ret_record)
                *ret_record = *place;
            close_gap(shard, (uint32_t)(place - shard->records));
        }
    }
    memory_lock_give(&shard->lock);
    return found;
}

int64_t memory_table_count(struct memory_table *table, uint64_t key, int delta, uint16_t *kind) {
    struct memory_shard *shard = shard_of(table, key);
    int64_t count = -1;
    memory_lock_take(&shard->lock);
    if (make_room(shard)) {
        struct memory_record *place = locate(shard, key);
        if (place->key == 0 && delta > 0) {
            *place = (struct memory_record){.key = key, .kind = *kind};
            shard->used++;
        }
        if (place->key == key) {
            place->bytes += (uint64_t)(int64_t)delta;
            count = (int64_t)place->bytes;
            *kind = place->kind;
            if (count == 0)
                close_gap(shard, (uint32_t)(place - shard->records));
        }
    }
    memory_lock_give(&shard->lock);
    return count;
}

/* The next record of `owner` in the shard, taken out. `from` remembers where the last look ended. */
static bool take_next(struct memory_shard *shard, const void *owner, uint32_t *from, struct memory_record *ret_record) {
    bool found = false;
    memory_lock_take(&shard->lock);
    for (; *from < shard->capacity && !found; ++*from) {
        const struct memory_record *place = &shard->records[*from];
        if (place->key == 0 || place->owner != owner)
            continue;
        *ret_record = *place;
        close_gap(shard, *from);
        found = true;
        --*from; /* somebody may have moved into this very place */
    }
    memory_lock_give(&shard->lock);
    return found;
}

void memory_table_take_all(struct memory_table *table, const void *owner,
                           void (*visit)(const struct memory_record *record, void *argument), void *argument) {
    for (unsigned i = 0; i < MEMORY_TABLE_SHARDS; i++) {
        struct memory_record record;
        uint32_t from = 0;
        while (take_next(&table->shards[i], owner, &from, &record))
            visit(&record, argument);
    }
}

void memory_table_reown(struct memory_table *table, const void *owner, void *heir) {
    for (unsigned i = 0; i < MEMORY_TABLE_SHARDS; i++) {
        struct memory_shard *shard = &table->shards[i];
        memory_lock_take(&shard->lock);
        for (uint32_t place = 0; place < shard->capacity; place++)
            if (shard->records[place].key && shard->records[place].owner == owner)
                shard->records[place].owner = heir;
        memory_lock_give(&shard->lock);
    }
}

void memory_table_reset(struct memory_table *table) {
    memset(table, 0, sizeof(*table));
}
