/* What injected faults do to this process. */
#include <errno.h>

#include "attach.h"
#include "blocks.h"
#include "faults.h"
#include "journal.h"
#include "pids.h"

static uint64_t look(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static bool trouble(void) {
    return atomic_load_explicit(&engine_self.node->trouble, memory_order_relaxed);
}

int engine_gpu_fault(unsigned gpu) {
    if (!trouble())
        return 0;
    while (fault_condition(engine_self.node, gpu) == FAULT_HUNG)
        fault_hang(engine_self.node, gpu);
    if (fault_condition(engine_self.node, gpu) != FAULT_NONE)
        return -ENODEV;
    return (int)look(&member_process(&engine_self)->gpus[gpu].xid);
}

bool engine_gpu_found(unsigned gpu) {
    enum fault_condition condition = fault_condition(engine_self.node, gpu);
    return condition != FAULT_LOST && condition != FAULT_MISSING;
}

/* The driver knows the host's pid. A process in a container knows only its own, and then none is told. */
void engine_gpu_report(unsigned gpu, unsigned code) {
    const struct node_process *self = member_process(&engine_self);
    uint64_t pid = self->pid_namespace == PID_HOST_NAMESPACE ? self->pid : 0;
    fault_xid(&engine_self, &(struct xid){.gpu = gpu,
                                          .code = code,
                                          .pid = pid,
                                          .gpu_instance = FAULT_ANY,
                                          .compute_instance = FAULT_ANY,
                                          .unfelt = true});
}

/* Offsets count from the beginning of an allocation: physical addresses are not modelled. */
void engine_memory_written(unsigned gpu, uint64_t address, uint64_t bytes) {
    struct engine_range range;
    uint64_t cell = trouble() ? look(&engine_self.node->faults[gpu].bad_cell) : 0;
    if (cell == 0 || engine_memory_find(address, &range) < 0 || range.kind == ENGINE_RANGE_RESERVED)
        return;
    uint64_t stuck = range.base + cell - 1;
    if (stuck >= address && stuck - address < bytes)
        *(volatile uint8_t *)stuck |= 1;
}

uint32_t engine_result_flip(unsigned gpu) {
    struct node_file *node = engine_self.node;
    if (!trouble() || look(&node->faults[gpu].flipped) == 0)
        return 0;
    node_lock(&engine_self);
    uint64_t left = node->faults[gpu].flipped;
    if (left > 0)
        journal_put(node, &node->faults[gpu].flipped, left - 1);
    node_unlock(&engine_self);
    return left > 0 ? 1u << 20 : 0;
}
