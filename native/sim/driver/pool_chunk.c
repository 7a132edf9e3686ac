#include "pool_chunk.h"

#include <errno.h>
#include <stdlib.h>

/* As driver 580 grows them, on an H200. */
#define POOL_GROWTH_BYTES (UINT64_C(32) << 20)

static uint64_t round_up(uint64_t bytes, uint64_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

static void link_free(struct piece *piece) {
    struct pool *pool = piece->chunk->pool;
    piece->free = true;
    piece->previous_free = NULL;
    piece->next_free = pool->free_pieces;
    if (piece->next_free)
        piece->next_free->previous_free = piece;
    pool->free_pieces = piece;
}

static void unlink_free(struct piece *piece) {
    piece->free = false;
    if (piece->previous_free)
        piece->previous_free->next_free = piece->next_free;
    else
        piece->chunk->pool->free_pieces = piece->next_free;
    if (piece->next_free)
        piece->next_free->previous_free = piece->previous_free;
}

int pool_grow(struct pool *pool, uint64_t bytes) {
    uint64_t size = round_up(bytes, POOL_GROWTH_BYTES);
    if (pool->properties.maxSize && pool->reserved + size > round_up(pool->properties.maxSize, POOL_GROWTH_BYTES))
        return -ENOMEM;
    struct chunk *chunk = calloc(1, sizeof *chunk);
    struct piece *piece = calloc(1, sizeof *piece);
    int error = chunk && piece ? engine_memory_alloc(pool->gpu, size, &chunk->base) : -ENOMEM;
    if (error) {
        free(chunk);
        free(piece);
        return error;
    }
    chunk->pool = pool;
    chunk->bytes = size;
    chunk->pieces = piece;
    chunk->next = pool->chunks;
    pool->chunks = chunk;
    *piece = (struct piece){.chunk = chunk, .base = chunk->base, .bytes = size};
    link_free(piece);
    pool->reserved += size;
    if (pool->reserved > pool->reserved_high)
        pool->reserved_high = pool->reserved;
    return 0;
}

static bool is_over(struct piece *piece) {
    if (!piece->freed_after.sequence)
        return true;
    if (engine_ticket_query(piece->freed_after) != 1)
        return false;
    piece->freed_after = (struct engine_ticket){0};
    return true;
}

/* Splits what `piece` has beyond `bytes` off as a free piece of its own; when memory is short, it keeps it. */
static void split(struct piece *piece, uint64_t bytes) {
    if (piece->bytes == bytes)
        return;
    struct piece *rest = malloc(sizeof *rest);
    if (!rest)
        return;
    *rest = *piece;
    rest->base += bytes;
    rest->bytes -= bytes;
    rest->lower = piece;
    if (rest->higher)
        rest->higher->lower = rest;
    piece->higher = rest;
    piece->bytes = bytes;
    link_free(rest);
}

struct piece *piece_take(struct pool *pool, uint64_t bytes, unsigned long long stream_id) {
    bytes = round_up(bytes, ENGINE_ALIGNMENT);
    for (struct piece *piece = pool->free_pieces; piece; piece = piece->next_free) {
        if (piece->bytes < bytes || (piece->freed_by != stream_id && !is_over(piece)))
            continue;
        unlink_free(piece);
        split(piece, bytes);
        pool->used += piece->bytes;
        if (pool->used > pool->used_high)
            pool->used_high = pool->used;
        return piece;
    }
    return NULL;
}

/* Joins a free piece with its higher neighbour if nothing stands against it. */
static bool join(struct piece *piece) {
    struct piece *higher = piece->higher;
    if (!higher || !piece->free || !higher->free)
        return false;
    bool same = piece->freed_by == higher->freed_by;
    if (!same && (!is_over(piece) || !is_over(higher)))
        return false;
    unlink_free(higher);
    /* Of one stream: the later free stands for both. */
    if (higher->freed_after.sequence > piece->freed_after.sequence)
        piece->freed_after = higher->freed_after;
    piece->bytes += higher->bytes;
    piece->higher = higher->higher;
    if (piece->higher)
        piece->higher->lower = piece;
    free(higher);
    return true;
}

void piece_give(struct piece *piece, struct engine_ticket after, unsigned long long stream_id) {
    piece->chunk->pool->used -= piece->bytes;
    piece->freed_after = after;
    piece->freed_by = stream_id;
    link_free(piece);
    join(piece);
    if (piece->lower)
        join(piece->lower);
}

static void release(struct chunk *chunk) {
    struct pool *pool = chunk->pool;
    unlink_free(chunk->pieces);
    free(chunk->pieces);
    engine_memory_free(chunk->base);
    pool->reserved -= chunk->bytes;
    free(chunk);
}

static void end(struct pool *pool) {
    for (struct pool **link = &pools; *link; link = &(*link)->next)
        if (*link == pool) {
            *link = pool->next;
            break;
        }
    pool->magic = MAGIC_DEAD;
    object_delete(MAGIC_POOL, pool);
}

bool pool_trim(struct pool *pool, uint64_t keep) {
    bool more = false;
    for (struct chunk **link = &pool->chunks; *link && pool->reserved > keep;) {
        struct chunk *chunk = *link;
        for (struct piece *piece = chunk->pieces; piece;)
            if (!join(piece))
                piece = piece->higher;
        if (!chunk->pieces->free || chunk->pieces->higher || !is_over(chunk->pieces)) {
            for (struct piece *piece = chunk->pieces; piece && !more; piece = piece->higher)
                more = piece->free && !is_over(piece);
            link = &chunk->next;
            continue;
        }
        *link = chunk->next;
        release(chunk);
    }
    if (pool->dying && !pool->chunks)
        end(pool);
    return more;
}
