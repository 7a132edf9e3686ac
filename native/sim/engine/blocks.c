#include "blocks.h"

#include <errno.h>

#include "journal.h"
#include "mig.h"
#include "walls.h"

/* The GPU instance that a process's memory on a GPU is of. NULL: none, or it is gone. */
static struct node_gpu_instance *instance_of(struct node_file *node, unsigned process, unsigned gpu) {
    uint64_t name = node->processes[process].instance;
    struct mig_place place = mig_place(name);
    return name && place.gpu == gpu ? mig_gpu_instance(node, gpu, place.gpu_instance) : NULL;
}

uint64_t blocks_used(struct node_file *node, unsigned process, unsigned gpu) {
    const struct node_gpu_instance *instance = instance_of(node, process, gpu);
    return instance ? instance->used_blocks : node->gpu_states[gpu].used_blocks;
}

int blocks_charge(struct node_file *node, unsigned process, unsigned gpu, uint64_t blocks) {
    struct node_gpu_state *state = &node->gpu_states[gpu];
    struct node_process_gpu *holder = &node->processes[process].gpus[gpu];
    struct node_gpu_instance *instance = instance_of(node, process, gpu);
    if (!instance && node->mig[gpu].enabled) /* as a whole it is not there for programs */
        return -ENODEV;
    uint64_t bytes = instance ? mig_profile_of(node, gpu, instance)->memory_mib << 20 : node->gpus[gpu].memory_bytes;
    uint64_t capacity = bytes >> BLOCK_SHIFT, used = instance ? instance->used_blocks : state->used_blocks;
    if (blocks > capacity || used > capacity - blocks)
        return -ENOMEM;
    if (instance)
        journal_add(node, &instance->used_blocks, blocks);
    journal_add(node, &state->used_blocks, blocks);
    journal_add(node, &holder->blocks, blocks);
    if (holder->blocks > holder->blocks_peak)
        journal_put(node, &holder->blocks_peak, holder->blocks);
    return 0;
}

void blocks_refund(struct node_file *node, unsigned process, unsigned gpu, uint64_t blocks) {
    struct node_gpu_instance *instance = instance_of(node, process, gpu);
    if (instance)
        journal_put(node, &instance->used_blocks, instance->used_blocks - blocks);
    journal_put(node, &node->gpu_states[gpu].used_blocks, node->gpu_states[gpu].used_blocks - blocks);
    uint64_t *held = &node->processes[process].gpus[gpu].blocks;
    journal_put(node, held, *held - blocks);
}

int blocks_charge_new(struct node_file *node, unsigned process, unsigned gpu, uint64_t blocks) {
    return walls_allow(node, process, gpu, blocks) ? blocks_charge(node, process, gpu, blocks) : -ENOMEM;
}

int blocks_take(struct member *member, unsigned gpu, uint64_t blocks) {
    walls_lock(member);
    int result = blocks_charge_new(member->node, member->index, gpu, blocks);
    if (result < 0) {
        reap_dead(member);
        result = blocks_charge_new(member->node, member->index, gpu, blocks);
    }
    node_unlock(member);
    return result;
}

void blocks_give(struct member *member, unsigned gpu, uint64_t blocks) {
    node_lock(member);
    blocks_refund(member->node, member->index, gpu, blocks);
    node_unlock(member);
}
