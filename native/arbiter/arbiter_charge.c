/* What a share is charged: the time it executed, divided by how many shares executed at once. */
#include <string.h>

#include "arbiter_policy.h"

#define EDGES_MAX (2 * ARBITER_SPANS * 4)

static bool covers(const struct arbiter_share *share, uint64_t from_ns, uint64_t until_ns) {
    for (size_t i = 0; i < ARBITER_SPANS; i++)
        if (share->spans[i].from_ns <= from_ns && until_ns <= share->spans[i].until_ns)
            return true;
    return false;
}

static size_t add_edge(uint64_t *edges, size_t count, uint64_t edge_ns) {
    size_t at = count;
    while (at > 0 && edges[at - 1] > edge_ns) {
        edges[at] = edges[at - 1];
        at--;
    }
    edges[at] = edge_ns;
    return count + 1;
}

/* The points inside `span` where the number of executing shares changes, in order, with both ends. */
static size_t edges_of(const struct arbiter_span *span, const struct arbiter_share *own,
                       struct arbiter_share *const *shares, size_t share_count, uint64_t edges[EDGES_MAX + 2]) {
    size_t count = add_edge(edges, 0, span->from_ns);
    count = add_edge(edges, count, span->until_ns);
    for (size_t i = 0; i < share_count; i++) {
        if (shares[i] == own)
            continue;
        for (size_t s = 0; s < ARBITER_SPANS && count < EDGES_MAX; s++) {
            const struct arbiter_span *other = &shares[i]->spans[s];
            if (other->from_ns > span->from_ns && other->from_ns < span->until_ns)
                count = add_edge(edges, count, other->from_ns);
            if (other->until_ns > span->from_ns && other->until_ns < span->until_ns)
                count = add_edge(edges, count, other->until_ns);
        }
    }
    return count;
}

static void give_back(struct arbiter_share *share, int64_t length) {
    share->balance_ns += length;
    share->overlap_ns += (uint64_t)length;
}

/* One stretch in which the same shares execute throughout: the newcomer pays its part, the others, who had shared it
 * among themselves, get the difference back. */
static void split(struct arbiter_share *own, struct arbiter_share *const *shares, size_t share_count, uint64_t from_ns,
                  uint64_t until_ns) {
    int64_t length = (int64_t)(until_ns - from_ns), others = 0;
    for (size_t i = 0; i < share_count; i++)
        others += shares[i] != own && covers(shares[i], from_ns, until_ns);
    own->balance_ns -= length / (others + 1);
    own->charged_ns += (uint64_t)(length / (others + 1));
    own->overlap_ns += (uint64_t)(length - length / (others + 1));
    if (others == 0)
        return;
    for (size_t i = 0; i < share_count; i++)
        if (shares[i] != own && covers(shares[i], from_ns, until_ns))
            give_back(shares[i], length / others - length / (others + 1));
}

static void remember(struct arbiter_share *share, struct arbiter_span span) {
    struct arbiter_span *newest = &share->spans[ARBITER_SPANS - 1];
    if (newest->until_ns == span.from_ns) {
        newest->until_ns = span.until_ns;
        return;
    }
    memmove(share->spans, share->spans + 1, sizeof(share->spans) - sizeof(share->spans[0]));
    *newest = span;
}

/* The share says two sums; the new part of busy_ns is taken to lie right before covered_until_ns, which is exact
 * while it executes without a break. The two are not read at one moment: what is seen of one before the other waits
 * until both have grown. */
static bool new_span(struct arbiter_share *share, uint64_t now_ns, struct arbiter_span *ret_span) {
    uint64_t busy = share->busy_ns, covered = share->covered_until_ns;
    if (!share->known || busy < share->seen_busy_ns) {
        share->known = true;
        share->seen_busy_ns = busy;
        share->seen_covered_ns = covered <= now_ns ? covered : now_ns;
        return false;
    }
    if (busy == share->seen_busy_ns || covered <= share->seen_covered_ns || covered > now_ns)
        return false;
    uint64_t used = busy - share->seen_busy_ns;
    ret_span->until_ns = covered;
    ret_span->from_ns = covered - (used < covered ? used : covered);
    share->seen_busy_ns = busy;
    share->seen_covered_ns = covered;
    return true;
}

void arbiter_charge(struct arbiter_share *share, struct arbiter_share *const *shares, size_t count, uint64_t now_ns) {
    struct arbiter_span span;
    if (!new_span(share, now_ns, &span))
        return;
    uint64_t edges[EDGES_MAX + 2];
    size_t edge_count = edges_of(&span, share, shares, count, edges);
    for (size_t i = 0; i + 1 < edge_count; i++)
        if (edges[i] < edges[i + 1])
            split(share, shares, count, edges[i], edges[i + 1]);
    remember(share, span);
}
