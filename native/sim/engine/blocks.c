#include "blocks.h"

#include <errno.h>

#include "journal.h"
#include "walls.h"

int blocks_charge(struct node_file *node, unsigned process, unsigned gpu, uint64_t blocks) {
    struct node_gpu_state *state = &node->gpu_states[gpu];
    struct node_process_gpu *holder = &node->processes[process].gpus[gpu];
    uint64_t capacity = node->gpus[gpu].memory_bytes >> BLOCK_SHIFT;
    if (blocks > capacity || state->used_blocks > capacity - blocks)
        return -ENOMEM;
    journal_add(node, &state->used_blocks, blocks);
    journal_add(node, &holder->blocks, blocks);
    if (holder->blocks > holder->blocks_peak)
        journal_put(node, &holder->blocks_peak, holder->blocks);
    return 0;
}

void blocks_refund(struct node_file *node, unsigned process, unsigned gpu, uint64_t blocks) {
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
