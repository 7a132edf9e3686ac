#include "physical.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attach.h"
#include "blocks.h"
#include "journal.h"
#include "walls.h"

#define ID_SHIFT 16 /* an id is a serial number, then the place in the table of objects */
#define PATH_BYTES (PATH_MAX + 64)
#define BUCKETS 1024u

struct engine_physical {
    uint64_t id, blocks;
    unsigned gpu, references;
    struct engine_physical *next; /* in its bucket */
};

/* What this process holds, by id: a process is one holder, however often it imports. */
static struct engine_physical *held[BUCKETS];
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;

void physical_begin(void) {
    memset(held, 0, sizeof held);
    pthread_mutex_init(&held_lock, NULL);
}

static struct engine_physical **bucket(uint64_t id) {
    return &held[(id ^ id >> ID_SHIFT) % BUCKETS];
}

static struct node_object *object_of(struct node_file *node, uint64_t id) {
    struct node_object *object = &node->objects[(id & ((1u << ID_SHIFT) - 1)) % NODE_OBJECTS];
    return object->id == id ? object : NULL;
}

static void file_of(const struct member *member, uint64_t id, char path[PATH_BYTES]) {
    snprintf(path, PATH_BYTES, "%s/physical-%llu", member->directory, (unsigned long long)id);
}

/* --- objects of the node, under its lock -------------------------------------------------------------------- */

static void object_end(struct member *member, struct node_object *object) {
    char path[PATH_BYTES];
    file_of(member, object->id, path);
    unlink(path);
    journal_put(member->node, &object->id, 0);
}

void object_drop_holder(struct member *member, uint64_t o, unsigned index) {
    struct node_file *node = member->node;
    struct node_object *object = &node->objects[o];
    if (!object->id)
        return;
    unsigned h = 0;
    while (h < NODE_HOLDERS && (!object->holders[h] || owner_index(object->holders[h]) != index))
        h++;
    if (h == NODE_HOLDERS)
        return;
    bool paid = h == 0;
    for (; h + 1 < NODE_HOLDERS; h++)
        journal_put(node, &object->holders[h], object->holders[h + 1]);
    journal_put(node, &object->holders[h], 0);
    if (paid) {
        blocks_refund(node, index, (unsigned)object->gpu, object->blocks);
        if (object->holders[0]) /* what was just given back is there */
            blocks_charge(node, owner_index(object->holders[0]), (unsigned)object->gpu, object->blocks);
    }
    if (!object->holders[0])
        object_end(member, object);
    journal_commit(node);
}

static int object_create(struct member *member, unsigned gpu, uint64_t blocks, uint64_t *ret_id) {
    struct node_file *node = member->node;
    for (unsigned tried = 0; tried < NODE_OBJECTS; tried++) {
        uint64_t o = (node->object_ids + tried) % NODE_OBJECTS; /* the places next in turn are the likeliest free */
        struct node_object *object = &node->objects[o];
        if (object->id)
            continue;
        int result = blocks_charge_new(node, member->index, gpu, blocks);
        if (result < 0)
            return result;
        journal_add(node, &node->object_ids, 1);
        journal_put(node, &object->gpu, gpu);
        journal_put(node, &object->blocks, blocks);
        journal_put(node, &object->holders[0], member->self);
        journal_put(node, &object->id, node->object_ids << ID_SHIFT | o);
        if (o >= node->object_count)
            journal_put(node, &node->object_count, o + 1);
        *ret_id = object->id;
        return 0;
    }
    return -ENOSPC;
}

/* -ENOENT, or -ENOSPC: too many processes hold it. */
static int object_hold(struct member *member, uint64_t id, struct engine_physical *physical) {
    struct node_object *object = object_of(member->node, id);
    if (!object)
        return -ENOENT;
    unsigned h = 0;
    while (h < NODE_HOLDERS && object->holders[h])
        h++;
    if (h == NODE_HOLDERS)
        return -ENOSPC;
    journal_put(member->node, &object->holders[h], member->self);
    *physical =
        (struct engine_physical){.id = id, .blocks = object->blocks, .gpu = (unsigned)object->gpu, .references = 1};
    return 0;
}

/* --- handles of this process -------------------------------------------------------------------------------- */

static void keep(struct engine_physical *physical) {
    physical->next = *bucket(physical->id);
    *bucket(physical->id) = physical;
}

int engine_physical_create(unsigned gpu, uint64_t bytes, struct engine_physical **ret_physical) {
    if (!gpu_exists(gpu))
        return -ENODEV;
    if (bytes == 0 || bytes % ENGINE_BLOCK_BYTES)
        return -EINVAL;
    struct engine_physical *physical = calloc(1, sizeof *physical);
    if (!physical)
        return -ENOMEM;
    *physical = (struct engine_physical){.blocks = blocks_of(bytes), .gpu = gpu, .references = 1};
    walls_lock(&engine_self);
    int result = object_create(&engine_self, gpu, physical->blocks, &physical->id);
    if (result < 0) {
        reap_dead(&engine_self);
        result = object_create(&engine_self, gpu, physical->blocks, &physical->id);
    }
    node_unlock(&engine_self);
    if (result < 0) {
        free(physical);
        return result;
    }
    pthread_mutex_lock(&held_lock);
    keep(physical);
    pthread_mutex_unlock(&held_lock);
    *ret_physical = physical;
    return 0;
}

void engine_physical_retain(struct engine_physical *physical) {
    pthread_mutex_lock(&held_lock);
    physical->references++;
    pthread_mutex_unlock(&held_lock);
}

void engine_physical_release(struct engine_physical *physical) {
    pthread_mutex_lock(&held_lock);
    bool last = --physical->references == 0;
    if (last) {
        struct engine_physical **link = bucket(physical->id);
        while (*link != physical)
            link = &(*link)->next;
        *link = physical->next;
        node_lock(&engine_self);
        object_drop_holder(&engine_self, physical->id & ((1u << ID_SHIFT) - 1), engine_self.index);
        node_unlock(&engine_self);
    }
    pthread_mutex_unlock(&held_lock);
    if (last)
        free(physical);
}

unsigned engine_physical_gpu(const struct engine_physical *physical) {
    return physical->gpu;
}

uint64_t engine_physical_bytes(const struct engine_physical *physical) {
    return physical->blocks << BLOCK_SHIFT;
}

uint64_t engine_physical_id(const struct engine_physical *physical) {
    return physical->id;
}

static int import(uint64_t id, struct engine_physical **ret_physical) {
    for (struct engine_physical *physical = *bucket(id); physical; physical = physical->next) {
        if (physical->id == id) {
            physical->references++;
            *ret_physical = physical;
            return 0;
        }
    }
    struct engine_physical *physical = calloc(1, sizeof *physical);
    if (!physical)
        return -ENOMEM;
    node_lock(&engine_self);
    int result = object_hold(&engine_self, id, physical);
    if (result == -ENOSPC) {
        reap_dead(&engine_self);
        result = object_hold(&engine_self, id, physical);
    }
    node_unlock(&engine_self);
    if (result < 0) {
        free(physical);
        return result;
    }
    keep(physical);
    *ret_physical = physical;
    return 0;
}

int engine_physical_import(uint64_t id, struct engine_physical **ret_physical) {
    pthread_mutex_lock(&held_lock);
    int result = import(id, ret_physical);
    pthread_mutex_unlock(&held_lock);
    return result;
}

/* --- the bytes ---------------------------------------------------------------------------------------------- */

int physical_open(const struct engine_physical *physical) {
    char path[PATH_BYTES];
    file_of(&engine_self, physical->id, path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return -errno;
    (void)fchmod(fd, 0666); /* who imports it may be of another uid; open() heeds the umask */
    /* sparse, and the same length whoever comes first */
    if (ftruncate(fd, (off_t)(physical->blocks << BLOCK_SHIFT)) < 0) {
        int result = -errno;
        close(fd);
        return result;
    }
    return fd;
}

int engine_physical_export_fd(struct engine_physical *physical, int *ret_fd) {
    int fd = physical_open(physical);
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

int engine_physical_import_fd(int fd, struct engine_physical **ret_physical) {
    char link[64], target[PATH_MAX] = "", path[PATH_BYTES];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, target, sizeof target - 1) < 0)
        return -EBADF;
    /* the name says which, the inode that it is this node's: the exporter may see the node elsewhere */
    unsigned long long id = 0;
    const char *name = strrchr(target, '/');
    struct stat given, ours;
    if (!name || sscanf(name, "/physical-%llu", &id) != 1)
        return -EINVAL;
    file_of(&engine_self, id, path);
    if (fstat(fd, &given) < 0 || stat(path, &ours) < 0 || given.st_ino != ours.st_ino || given.st_dev != ours.st_dev)
        return -EINVAL;
    return engine_physical_import(id, ret_physical);
}
