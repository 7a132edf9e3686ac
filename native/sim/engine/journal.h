/* An undo log for what is written under the node's lock. A process may be killed between any two stores; whoever
 * takes the lock after it puts back the old words and finds the state as it was at the last commit. The same makes
 * a forecast: walk the timeline ahead, note the time, roll back.
 *
 * The words are ordinary memory: the next owner sees the dead one's stores because the kernel ended that process in
 * between. Only the compiler must keep their order. */
#ifndef GPUSLICE_SIM_JOURNAL_H
#define GPUSLICE_SIM_JOURNAL_H

#include <stdlib.h>

#include "node.h"

#ifdef JOURNAL_FAULTS
void journal_fault(void); /* tests: may kill the process here */
#else
static inline void journal_fault(void) {}
#endif

static inline void journal_order(void) {
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void journal_put(struct node_file *node, uint64_t *word, uint64_t value) {
    if (node->journal_length >= NODE_JOURNAL) /* a change that never commits: better to end than to corrupt a node */
        abort();
    struct node_journal_entry *entry = &node->journal[node->journal_length];
    entry->offset = (uint64_t)((char *)word - (char *)node);
    entry->old = *word;
    journal_order();
    journal_fault();
    node->journal_length++;
    journal_order();
    journal_fault();
    *word = value;
    journal_order();
    journal_fault();
}

static inline void journal_add(struct node_file *node, uint64_t *word, uint64_t amount) {
    journal_put(node, word, *word + amount);
}

static inline void journal_commit(struct node_file *node) {
    journal_order();
    node->journal_length = 0;
    journal_order();
}

/* Whether `words` more can be put before the next commit. */
static inline int journal_has_room(const struct node_file *node, uint64_t words) {
    return node->journal_length + words <= NODE_JOURNAL;
}

static inline void journal_roll_back(struct node_file *node) {
    while (node->journal_length > 0) {
        const struct node_journal_entry *entry = &node->journal[node->journal_length - 1];
        *(uint64_t *)((char *)node + entry->offset) = entry->old;
        journal_order();
        journal_fault();
        node->journal_length--;
        journal_order();
    }
}

#endif
