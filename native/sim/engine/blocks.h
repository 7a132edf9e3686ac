/* Physical memory: how many blocks of each GPU each process holds. The one place where memory is counted, and where
 * the kernel's wall stands (walls.h). */
#ifndef GPUSLICE_SIM_BLOCKS_H
#define GPUSLICE_SIM_BLOCKS_H

#include "member.h"

#define BLOCK_SHIFT 21 /* 2 MiB */

static inline uint64_t blocks_of(uint64_t bytes) {
    return (bytes >> BLOCK_SHIFT) + ((bytes & ((UINT64_C(1) << BLOCK_SHIFT) - 1)) != 0);
}

/* Takes the lock. -ENOMEM: the card is full, or what the process's cgroup may hold; the dead already looked for. */
int blocks_take(struct member *member, unsigned gpu, uint64_t blocks);
void blocks_give(struct member *member, unsigned gpu, uint64_t blocks);

/* Under the lock, for a process by its index: what everybody together has taken of the GPU, or of the instance of it
 * that the process sees. */
uint64_t blocks_used(struct node_file *node, unsigned process, unsigned gpu);
/* Under walls_lock(). -ENOMEM; -ENODEV: its instance is gone, or the GPU is cut into some. */
int blocks_charge_new(struct node_file *node, unsigned process, unsigned gpu, uint64_t blocks);
/* Under the lock, for a process by its index: whatever its cgroup may hold, for it is given what is there already.
 * The same errors. */
int blocks_charge(struct node_file *node, unsigned process, unsigned gpu, uint64_t blocks);
void blocks_refund(struct node_file *node, unsigned process, unsigned gpu, uint64_t blocks);

#endif
