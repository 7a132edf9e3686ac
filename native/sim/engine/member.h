/* A process's place in a node: its entry, the proof that it lives, and the lock. */
#ifndef GPUSLICE_SIM_MEMBER_H
#define GPUSLICE_SIM_MEMBER_H

#include <limits.h>
#include <stdbool.h>

#include "node.h"

struct member {
    struct node_file *node;
    node_owner self;
    unsigned index; /* of the entry */
    void *life;     /* the page that keeps the entry's lock */
    char directory[PATH_MAX];
};

/* Maps the node and claims an entry. An observer is not listed as a process of the node. -EUSERS: none is free.
 * Threads and forked children may all be members of their own. */
int member_join(const char *directory, bool observer, struct member *ret_member);
/* Gives the entry and all it holds back. */
void member_leave(struct member *member);

/* Nothing that waits, and no call-back, between the two. */
void node_lock(struct member *member);
void node_unlock(struct member *member);
/* Wakes whoever sleeps for a forecast: something is over sooner. */
void node_kick(struct node_file *node);

/* Asks the kernel; a few microseconds. `lock_fd`: member_lock_fd(). */
bool owner_alive(const struct node_file *node, node_owner owner, int lock_fd);
/* A descriptor to ask with, or -1; the caller closes it. One is opened for each round of questions because a program
 * may close any descriptor it did not open itself. */
int member_lock_fd(const struct member *member);

static inline struct node_process *member_process(const struct member *member) {
    return &member->node->processes[member->index];
}

uint64_t now_ns(void);

/* reap.c, all under the lock. */
/* Frees what dead processes hold. */
void reap_dead(struct member *member);
/* Ends one process: its work is dropped, its memory freed, its totals kept. */
void reap_process(struct member *member, unsigned index);
/* Only drops its work. */
void reap_work(struct node_file *node, unsigned index);
/* reap_dead, every 2 ms at most, and only when somebody else has unfinished work. */
void reap_if_due(struct member *member, uint64_t now);

#endif
