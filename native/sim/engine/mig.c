#include "mig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "journal.h"

#define MEMORY_SLICES 8u
#define SIMULATED " (simulated)"

/* --- what there is ------------------------------------------------------------------------------------------ */

struct node_gpu_instance *mig_gpu_instance(struct node_file *node, unsigned gpu, unsigned id) {
    if (gpu >= node->info.gpu_count || id >= NODE_GPU_INSTANCES)
        return NULL;
    struct node_gpu_instance *instance = &node->mig[gpu].instances[id];
    return instance->profile ? instance : NULL;
}

struct node_compute_instance *mig_compute_instance(struct node_file *node, struct mig_place place) {
    struct node_gpu_instance *instance = mig_gpu_instance(node, place.gpu, place.gpu_instance);
    if (!instance || place.compute_instance >= NODE_COMPUTE_INSTANCES)
        return NULL;
    struct node_compute_instance *compute = &instance->compute[place.compute_instance];
    return compute->slices ? compute : NULL;
}

const struct sim_mig_profile *mig_profile_of(const struct node_file *node, unsigned gpu,
                                             const struct node_gpu_instance *instance) {
    return &node->gpus[gpu].mig_profiles[instance->profile - 1];
}

/* Memory slices that are taken, one bit each. */
static uint32_t taken(struct node_file *node, unsigned gpu) {
    uint32_t slices = 0;
    for (unsigned id = 0; id < NODE_GPU_INSTANCES; id++) {
        const struct node_gpu_instance *instance = mig_gpu_instance(node, gpu, id);
        if (instance)
            slices |= ((1u << mig_profile_of(node, gpu, instance)->size) - 1) << instance->start;
    }
    return slices;
}

static uint32_t compute_taken(const struct node_gpu_instance *instance) {
    uint32_t slices = 0;
    for (unsigned id = 0; id < NODE_COMPUTE_INSTANCES; id++)
        slices |= ((1u << instance->compute[id].slices) - 1) << instance->compute[id].start;
    return slices;
}

bool mig_gpu_used(const struct node_file *node, unsigned gpu) {
    for (uint64_t p = 0; p < node->process_count; p++)
        if (node->processes[p].live && node->processes[p].gpus[gpu].contexts)
            return true;
    return false;
}

bool mig_compute_instance_used(const struct node_file *node, struct mig_place place) {
    for (uint64_t p = 0; p < node->process_count; p++)
        if (node->processes[p].live && node->processes[p].instance == mig_name(place) &&
            node->processes[p].gpus[place.gpu].contexts)
            return true;
    return false;
}

int mig_set_mode(struct node_file *node, unsigned gpu, bool enabled) {
    struct node_mig *mig = &node->mig[gpu];
    bool busy = mig->enabled != enabled && (mig_gpu_used(node, gpu) || taken(node, gpu));
    journal_put(node, &mig->pending, enabled);
    if (!busy)
        journal_put(node, &mig->enabled, enabled);
    journal_commit(node);
    return busy ? -EBUSY : 0;
}

/* --- GPU instances ------------------------------------------------------------------------------------------ */

static unsigned count_of(struct node_file *node, unsigned gpu, const struct sim_mig_profile *profile) {
    unsigned count = 0;
    for (unsigned id = 0; id < NODE_GPU_INSTANCES; id++) {
        const struct node_gpu_instance *instance = mig_gpu_instance(node, gpu, id);
        count += instance && mig_profile_of(node, gpu, instance) == profile;
    }
    return count;
}

/* How many runs of `size` fit into what `slices` leaves, at these starts and at most one at each. */
static unsigned runs(uint32_t slices, uint32_t starts, unsigned size) {
    unsigned count = 0;
    for (unsigned start = 0; start + size <= MEMORY_SLICES; start++) {
        uint32_t run = ((1u << size) - 1) << start;
        if (!(starts >> start & 1) || (slices & run))
            continue;
        slices |= run;
        count++;
    }
    return count;
}

static unsigned least(unsigned a, unsigned b) {
    return a < b ? a : b;
}

/* Compute slices that no GPU instance has. */
static unsigned compute_left(struct node_file *node, unsigned gpu) {
    unsigned left = node->gpus[gpu].mig_slices;
    for (unsigned id = 0; id < NODE_GPU_INSTANCES; id++) {
        const struct node_gpu_instance *instance = mig_gpu_instance(node, gpu, id);
        if (instance)
            left -= mig_profile_of(node, gpu, instance)->slices;
    }
    return left;
}

unsigned mig_room(struct node_file *node, unsigned gpu, const struct sim_mig_profile *profile) {
    unsigned room = runs(taken(node, gpu), profile->starts, profile->size);
    room = least(room, compute_left(node, gpu) / profile->slices);
    unsigned have = count_of(node, gpu, profile);
    return have >= profile->count ? 0 : least(room, profile->count - have);
}

/* The whole GPU, its halves, quarters, eighths, counted through. */
static unsigned id_at(unsigned start, unsigned size) {
    return MEMORY_SLICES / size - 1 + start / size;
}

int mig_create_gpu_instance(struct node_file *node, unsigned gpu, unsigned profile_index, uint32_t start,
                            unsigned *ret_id) {
    const struct sim_mig_profile *profile = &node->gpus[gpu].mig_profiles[profile_index];
    if (start != MIG_ANYWHERE && (start >= MEMORY_SLICES || !(profile->starts >> start & 1)))
        return -EINVAL;
    if (mig_room(node, gpu, profile) == 0)
        return -ENOSPC;
    uint32_t slices = taken(node, gpu);
    for (unsigned at = MEMORY_SLICES; at-- > 0;) {
        uint32_t run = ((1u << profile->size) - 1) << at;
        if ((start != MIG_ANYWHERE && at != start) || !(profile->starts >> at & 1) || (slices & run))
            continue;
        struct node_gpu_instance *instance = &node->mig[gpu].instances[id_at(at, profile->size)];
        journal_put(node, &instance->start, at);
        journal_put(node, &instance->used_blocks, 0);
        journal_put(node, &instance->profile, profile_index + 1);
        journal_commit(node);
        *ret_id = id_at(at, profile->size);
        return 0;
    }
    return -ENOSPC;
}

int mig_destroy_gpu_instance(struct node_file *node, unsigned gpu, unsigned id) {
    struct node_gpu_instance *instance = mig_gpu_instance(node, gpu, id);
    if (!instance)
        return -ENOENT;
    if (compute_taken(instance))
        return -EBUSY;
    journal_put(node, &instance->profile, 0);
    journal_commit(node);
    return 0;
}

/* --- compute instances -------------------------------------------------------------------------------------- */

uint32_t mig_compute_starts(const struct sim_mig_profile *profile, unsigned slices) {
    static const uint32_t starts[] = {0, 0x7f, 0x15, 0x11, 0x01, 0, 0, 0x01};
    if (slices >= sizeof starts / sizeof starts[0] || slices > profile->slices || (slices == 3 && profile->slices == 4))
        return 0;
    uint32_t fits = (1u << (profile->slices - slices + 1)) - 1;
    return starts[slices] & fits;
}

unsigned mig_compute_room(struct node_file *node, unsigned gpu, unsigned gpu_instance, unsigned slices) {
    const struct node_gpu_instance *instance = mig_gpu_instance(node, gpu, gpu_instance);
    if (!instance)
        return 0;
    return runs(compute_taken(instance), mig_compute_starts(mig_profile_of(node, gpu, instance), slices), slices);
}

/* A whole GPU instance may have more SMs than its slices add up to. */
unsigned mig_compute_sms(const struct sim_gpu *gpu, const struct sim_mig_profile *profile, unsigned slices) {
    return slices == profile->slices ? profile->sm_count : slices * gpu->mig_profiles[0].sm_count;
}

int mig_create_compute_instance(struct node_file *node, unsigned gpu, unsigned gpu_instance, unsigned slices,
                                uint32_t start, unsigned *ret_id) {
    struct node_gpu_instance *instance = mig_gpu_instance(node, gpu, gpu_instance);
    if (!instance)
        return -ENOENT;
    uint32_t starts = mig_compute_starts(mig_profile_of(node, gpu, instance), slices);
    if (starts == 0 || (start != MIG_ANYWHERE && (start >= MEMORY_SLICES || !(starts >> start & 1))))
        return -EINVAL;
    unsigned id = 0;
    while (id < NODE_COMPUTE_INSTANCES && instance->compute[id].slices)
        id++;
    for (unsigned at = 0; at < MEMORY_SLICES && id < NODE_COMPUTE_INSTANCES; at++) {
        uint32_t run = ((1u << slices) - 1) << at;
        if ((start != MIG_ANYWHERE && at != start) || !(starts >> at & 1) || (compute_taken(instance) & run))
            continue;
        journal_put(node, &instance->compute[id].start, at);
        journal_put(node, &instance->compute[id].slices, slices);
        journal_commit(node);
        *ret_id = id;
        return 0;
    }
    return -ENOSPC;
}

int mig_destroy_compute_instance(struct node_file *node, struct mig_place place) {
    struct node_compute_instance *compute = mig_compute_instance(node, place);
    if (!compute)
        return -ENOENT;
    if (mig_compute_instance_used(node, place))
        return -EBUSY;
    journal_put(node, &compute->slices, 0);
    journal_commit(node);
    return 0;
}

/* --- devices ------------------------------------------------------------------------------------------------ */

bool mig_device_at(struct node_file *node, unsigned gpu, unsigned index, struct mig_place *ret_place) {
    for (unsigned g = 0; g < NODE_GPU_INSTANCES; g++) {
        for (unsigned c = 0; c < NODE_COMPUTE_INSTANCES; c++) {
            struct mig_place place = {gpu, g, c};
            if (!mig_compute_instance(node, place) || index-- > 0)
                continue;
            *ret_place = place;
            return true;
        }
    }
    return false;
}

void mig_identify(const struct node_file *node, struct mig_place place, uint8_t bytes[16], char text[UUID_TEXT]) {
    uint64_t half[2];
    memcpy(half, node->gpus[place.gpu].uuid_bytes, sizeof half);
    uuid_make(uuid_mix(half[0] ^ mig_name(place)), uuid_mix(half[1] + mig_name(place)), 5, bytes);
    uuid_write("MIG-", bytes, text);
}

static bool has_name(const struct node_file *node, struct mig_place place, const char *name) {
    char text[UUID_TEXT], old[96];
    uint8_t bytes[16];
    mig_identify(node, place, bytes, text);
    snprintf(old, sizeof old, "MIG-%s/%u/%u", node->gpus[place.gpu].uuid, place.gpu_instance, place.compute_instance);
    return strcasecmp(name, text) == 0 || strcasecmp(name, old) == 0;
}

bool mig_device_named(struct node_file *node, const char *name, struct mig_place *ret_place) {
    for (unsigned gpu = 0; gpu < node->info.gpu_count; gpu++)
        for (unsigned i = 0; mig_device_at(node, gpu, i, ret_place); i++)
            if (has_name(node, *ret_place, name))
                return true;
    return false;
}

struct sim_gpu mig_view(struct node_file *node, struct mig_place place) {
    struct sim_gpu view = node->gpus[place.gpu];
    const struct node_gpu_instance *instance = mig_gpu_instance(node, place.gpu, place.gpu_instance);
    const struct node_compute_instance *compute = mig_compute_instance(node, place);
    const struct sim_mig_profile *profile = mig_profile_of(node, place.gpu, instance);
    size_t name = strlen(view.name);
    if (name > strlen(SIMULATED) && strcmp(view.name + name - strlen(SIMULATED), SIMULATED) == 0)
        name -= strlen(SIMULATED);
    char part[8] = "";
    if (compute->slices != profile->slices)
        snprintf(part, sizeof part, "%uc.", (unsigned)compute->slices % 10);
    snprintf(view.name + name, sizeof view.name - name, " MIG %s%.15s" SIMULATED, part, profile->name);
    mig_identify(node, place, view.uuid_bytes, view.uuid);
    view.memory_bytes = profile->memory_mib << 20;
    view.reserved_bytes = 0;
    view.sm_count = mig_compute_sms(&node->gpus[place.gpu], profile, (unsigned)compute->slices);
    view.copy_engines = profile->copy_engines;
    view.l2_bytes = view.l2_bytes / MEMORY_SLICES * profile->size;
    view.memory_bandwidth = view.memory_bandwidth / MEMORY_SLICES * profile->size;
    view.link_count = 0; /* no instance reaches another GPU */
    return view;
}
