/* What is left of a process that ended. All under the node's lock. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "blocks.h"
#include "journal.h"
#include "member.h"
#include "physical.h"
#include "timeline.h"

#define CHECK_NS 2000000

/* So that the truth about it can still be read. */
static void remember(struct node_file *node, const struct node_process *process) {
    struct node_ended *ended = &node->ended[node->ended_count % NODE_ENDED];
    memset(ended, 0, sizeof *ended);
    ended->pid = process->pid;
    ended->pid_namespace = process->pid_namespace;
    ended->start_time = process->start_time;
    ended->ended_ns = node->timeline.now_ns;
    memcpy(ended->name, process->name, sizeof ended->name);
    for (unsigned g = 0; g < node->info.gpu_count; g++) {
        ended->gpus[g].blocks_peak = process->gpus[g].blocks_peak;
        ended->gpus[g].busy = process->gpus[g].busy;
        ended->gpus[g].active = process->gpus[g].active;
    }
    journal_add(node, &node->ended_count, 1);
}

void reap_work(struct node_file *node, unsigned index) {
    for (uint32_t c = 0; c < node->channel_count; c++)
        if (node->channels[c].owner && owner_index(node->channels[c].owner) == index)
            timeline_close(node, c);
}

void reap_process(struct member *member, unsigned index) {
    struct node_file *node = member->node;
    struct node_process *process = &node->processes[index];
    reap_work(node, index);
    for (uint64_t o = 0; o < node->object_count; o++)
        object_drop_holder(member, o, index);
    for (uint64_t t = 0; t < node->shared_ticket_count; t++) {
        if (node->shared_tickets[t].owner && owner_index(node->shared_tickets[t].owner) == index)
            journal_put(node, &node->shared_tickets[t].owner, 0);
        journal_commit(node);
    }
    for (unsigned g = 0; g < node->info.gpu_count; g++) {
        blocks_refund(node, index, g, process->gpus[g].blocks);
        journal_put(node, &process->gpus[g].contexts, 0);
    }
    if (!process->observer)
        remember(node, process);
    journal_put(node, &process->live, 0);
    journal_commit(node);
}

void reap_dead(struct member *member) {
    struct node_file *node = member->node;
    bool any = false;
    int fd = -1;
    for (unsigned i = 0; i < node->process_count; i++) {
        struct node_process *process = &node->processes[i];
        if (!process->live || i == member->index)
            continue;
        if (fd < 0 && (fd = member_lock_fd(member)) < 0)
            return;
        if (owner_alive(node, owner_of(process->generation, i), fd))
            continue;
        reap_process(member, i);
        any = true;
    }
    if (fd >= 0)
        close(fd);
    if (any)
        node_kick(node);
}

void reap_if_due(struct member *member, uint64_t now) {
    struct node_file *node = member->node;
    if (now < node->timeline.checked_ns + CHECK_NS)
        return;
    journal_put(node, &node->timeline.checked_ns, now);
    journal_commit(node);
    for (uint64_t link = node->timeline.busy_head; link; link = node->channels[link - 1].next) {
        if (owner_index(node->channels[link - 1].owner) != member->index) {
            reap_dead(member);
            return;
        }
    }
}
