/* Tickets under a number that all processes of the node know. */
#include <errno.h>

#include "attach.h"
#include "journal.h"

static struct node_shared_ticket *at(uint32_t id) {
    struct node_shared_ticket *shared = &engine_self.node->shared_tickets[id % NODE_SHARED_TICKETS];
    return id < NODE_SHARED_TICKETS && shared->owner ? shared : NULL;
}

int engine_shared_ticket_create(uint32_t *ret_id) {
    int result = -ENOSPC;
    node_lock(&engine_self);
    for (uint32_t id = 0; id < NODE_SHARED_TICKETS && result < 0; id++) {
        struct node_shared_ticket *shared = &engine_self.node->shared_tickets[id];
        if (shared->owner)
            continue;
        *shared = (struct node_shared_ticket){0}; /* of no meaning until `owner` */
        if (id >= engine_self.node->shared_ticket_count)
            journal_put(engine_self.node, &engine_self.node->shared_ticket_count, id + 1);
        journal_put(engine_self.node, &shared->owner, engine_self.self);
        *ret_id = id;
        result = 0;
    }
    node_unlock(&engine_self);
    return result;
}

int engine_shared_ticket_put(uint32_t id, struct engine_ticket ticket, const struct engine_times *times) {
    node_lock(&engine_self);
    struct node_shared_ticket *shared = at(id);
    if (shared) {
        journal_put(engine_self.node, &shared->channel_generation, (uint64_t)ticket.channel << 32 | ticket.generation);
        journal_put(engine_self.node, &shared->sequence, ticket.sequence);
        journal_put(engine_self.node, &shared->start_ns, times ? times->start_ns : 0);
        journal_put(engine_self.node, &shared->end_ns, times ? times->end_ns : 0);
    }
    node_unlock(&engine_self);
    return shared ? 0 : -ENOENT;
}

int engine_shared_ticket_get(uint32_t id, struct engine_ticket *ret_ticket, struct engine_times *ret_times) {
    node_lock(&engine_self);
    const struct node_shared_ticket *shared = at(id);
    if (shared) {
        *ret_ticket = (struct engine_ticket){(uint32_t)(shared->channel_generation >> 32),
                                             (uint32_t)shared->channel_generation, shared->sequence};
        if (ret_times)
            *ret_times = (struct engine_times){shared->start_ns, shared->end_ns};
    }
    node_unlock(&engine_self);
    return shared ? 0 : -ENOENT;
}

void engine_shared_ticket_destroy(uint32_t id) {
    node_lock(&engine_self);
    struct node_shared_ticket *shared = at(id);
    if (shared)
        journal_put(engine_self.node, &shared->owner, 0);
    node_unlock(&engine_self);
}
