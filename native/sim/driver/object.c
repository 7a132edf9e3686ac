/* The memory of what handles point to. It is never given back, and used again only for objects of the same kind, the
 * longest dead first: so that a program that uses a dead handle is told so, as long as that can be known. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define AT_ONCE 32u
#define KINDS (MAGIC_LAST - MAGIC_CONTEXT)

/* A dead object: the first word stays MAGIC_DEAD. */
struct dead {
    uint32_t magic;
    struct dead *next;
};

/* What was allocated at once, so that nothing looks lost to a leak checker. */
struct slab {
    struct slab *next;
    _Alignas(16) unsigned char objects[];
};

static pthread_mutex_t object_lock = PTHREAD_MUTEX_INITIALIZER;
static struct slab *slabs;
static struct {
    struct dead *first, *last;
} graveyards[KINDS];

static void bury(unsigned kind, struct dead *dead) {
    dead->magic = MAGIC_DEAD;
    dead->next = NULL;
    if (graveyards[kind].last)
        graveyards[kind].last->next = dead;
    else
        graveyards[kind].first = dead;
    graveyards[kind].last = dead;
}

static bool add_slab(unsigned kind, size_t bytes) {
    bytes = (bytes + 15) / 16 * 16;
    struct slab *slab = calloc(1, sizeof *slab + AT_ONCE * bytes);
    if (!slab)
        return false;
    slab->next = slabs;
    slabs = slab;
    for (unsigned i = 0; i < AT_ONCE; i++)
        bury(kind, (struct dead *)(slab->objects + i * bytes));
    return true;
}

void *object_new(enum magic magic, size_t bytes) {
    unsigned kind = (unsigned)magic - MAGIC_CONTEXT;
    struct dead *object = NULL;
    pthread_mutex_lock(&object_lock);
    if (graveyards[kind].first || add_slab(kind, bytes)) {
        object = graveyards[kind].first;
        graveyards[kind].first = object->next;
        if (!object->next)
            graveyards[kind].last = NULL;
    }
    pthread_mutex_unlock(&object_lock);
    if (object)
        memset(object, 0, bytes);
    return object;
}

void object_delete(enum magic magic, void *object) {
    if (!object)
        return;
    pthread_mutex_lock(&object_lock);
    bury((unsigned)magic - MAGIC_CONTEXT, object);
    pthread_mutex_unlock(&object_lock);
}
