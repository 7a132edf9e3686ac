#include "walls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blocks.h"
#include "journal.h"

#define FIRST_DRIVER_WITH_WALLS 615

bool walls_supported(const struct node_file *node) {
    return strtoul(node->info.driver_version, NULL, 10) >= FIRST_DRIVER_WITH_WALLS;
}

static bool stands_behind(const struct node_process *process, unsigned wall) {
    return process->walls[wall / 64] >> (wall % 64) & 1;
}

static void put_behind(struct node_file *node, struct node_process *process, unsigned wall, bool behind) {
    uint64_t *word = &process->walls[wall / 64], bit = UINT64_C(1) << (wall % 64);
    if (behind != stands_behind(process, wall))
        journal_put(node, word, *word ^ bit);
}

/* --- where the calling process stands ----------------------------------------------------------------------- */

static bool is_another(uint64_t pid, void *self) {
    return pid != *(const uint64_t *)self;
}

static bool are_we_in(const struct member *member, const struct node_wall *wall) {
    char trees[PATH_MAX + sizeof "/" NODE_CGROUPS];
    snprintf(trees, sizeof trees, "%s/" NODE_CGROUPS, member->directory);
    int directory = cgroup_open(&wall->cgroup, trees);
    uint64_t self = (uint64_t)getpid();
    return directory >= 0 && !cgroup_visit(directory, is_another, &self);
}

/* The oldest wall that we have not looked at from this place of ours. */
static const struct node_wall *unknown_wall(const struct member *member) {
    const struct node_file *node = member->node;
    const struct node_wall *oldest = NULL;
    for (unsigned w = 0; w < node->wall_count; w++) {
        const struct node_wall *wall = &node->walls[w];
        if (wall->cgroup.inode && wall->since > member_process(member)->walls_seen &&
            (!oldest || wall->since < oldest->since))
            oldest = wall;
    }
    return oldest;
}

/* Somewhere else: everything is to be looked at again. */
static void arrive(struct member *member, uint64_t place) {
    struct node_process *process = member_process(member);
    journal_put(member->node, &process->place, place);
    journal_put(member->node, &process->walls_seen, 0);
    journal_commit(member->node);
}

void walls_lock(struct member *member) {
    struct node_file *node = member->node;
    struct node_process *process = member_process(member);
    node_lock(member);
    if (node->walls_made == 0)
        return;
    node_unlock(member);
    uint64_t place = cgroup_own_place(); /* files are not read under the lock */
    node_lock(member);
    if (place != process->place)
        arrive(member, place);
    for (const struct node_wall *wall; (wall = unknown_wall(member));) {
        const struct node_wall looked_at = *wall;
        node_unlock(member);
        bool behind = are_we_in(member, &looked_at);
        node_lock(member);
        /* Another thread saw us move, or the wall is gone and perhaps another one is there. */
        bool outdated = process->place != place || wall->since != looked_at.since;
        place = process->place;
        if (outdated)
            continue;
        put_behind(node, process, (unsigned)(wall - node->walls), behind);
        journal_put(node, &process->walls_seen, looked_at.since);
        journal_commit(node);
    }
}

/* --- what is behind a wall ---------------------------------------------------------------------------------- */

static uint64_t held_behind(const struct node_file *node, unsigned wall, unsigned gpu) {
    uint64_t blocks = 0;
    for (unsigned p = 0; p < node->process_count; p++)
        if (node->processes[p].live && stands_behind(&node->processes[p], wall))
            blocks += node->processes[p].gpus[gpu].blocks;
    return blocks;
}

bool walls_allow(const struct node_file *node, unsigned process, unsigned gpu, uint64_t blocks) {
    for (unsigned w = 0; w < node->wall_count; w++) {
        const struct node_wall *wall = &node->walls[w];
        if (!wall->cgroup.inode || wall->hard_bytes[gpu] == WALL_NONE || !stands_behind(&node->processes[process], w))
            continue;
        if (held_behind(node, w, gpu) + blocks > wall->hard_bytes[gpu] >> BLOCK_SHIFT)
            return false;
    }
    return true;
}

/* --- the walls ---------------------------------------------------------------------------------------------- */

static struct node_wall *wall_of(struct node_file *node, const struct cgroup *cgroup) {
    for (unsigned w = 0; w < node->wall_count; w++)
        if (node->walls[w].cgroup.inode == cgroup->inode && node->walls[w].cgroup.device == cgroup->device)
            return &node->walls[w];
    return NULL;
}

static void take_down(struct node_file *node, struct node_wall *wall) {
    for (unsigned p = 0; p < node->process_count; p++)
        put_behind(node, &node->processes[p], (unsigned)(wall - node->walls), false);
    journal_put(node, &wall->cgroup.inode, 0);
    journal_commit(node);
}

/* Only who sees where the file system is mounted can tell. */
static bool is_removed(const struct cgroup *cgroup) {
    char root[CGROUP_PATH];
    struct stat status;
    snprintf(root, sizeof root, "%.*s", (int)cgroup->root_length, cgroup->path);
    if (stat(root, &status) < 0 || status.st_dev != cgroup->device)
        return false;
    return stat(cgroup->path, &status) < 0 ? errno == ENOENT : status.st_ino != cgroup->inode;
}

/* Whoever removes a cgroup removes its limits. Files are not read under the lock. */
static void take_down_removed(struct member *member) {
    struct node_file *node = member->node;
    for (unsigned w = 0; w < node->wall_count; w++) {
        node_lock(member);
        const struct node_wall wall = node->walls[w];
        node_unlock(member);
        if (!wall.cgroup.inode || !is_removed(&wall.cgroup))
            continue;
        node_lock(member);
        if (node->walls[w].since == wall.since && node->walls[w].cgroup.inode)
            take_down(node, &node->walls[w]);
        node_unlock(member);
    }
}

static struct node_wall *put_up(struct node_file *node, const struct cgroup *cgroup) {
    unsigned w = 0;
    while (w < node->wall_count && node->walls[w].cgroup.inode)
        w++;
    if (w == NODE_WALLS)
        return NULL;
    struct node_wall *wall = &node->walls[w];
    for (unsigned g = 0; g < SIM_GPUS_MAX; g++) {
        journal_put(node, &wall->soft_bytes[g], 0);
        journal_put(node, &wall->hard_bytes[g], WALL_NONE);
    }
    memcpy(wall->cgroup.path, cgroup->path, sizeof wall->cgroup.path); /* of no meaning without the inode */
    journal_put(node, &wall->cgroup.root_length, cgroup->root_length);
    journal_put(node, &wall->cgroup.device, cgroup->device);
    journal_add(node, &node->walls_made, 1);
    journal_put(node, &wall->since, node->walls_made);
    journal_put(node, &wall->cgroup.inode, cgroup->inode);
    if (w == node->wall_count)
        journal_add(node, &node->wall_count, 1);
    return wall;
}

static bool limits_nothing(const struct node_wall *wall) {
    for (unsigned g = 0; g < SIM_GPUS_MAX; g++)
        if (wall->soft_bytes[g] != 0 || wall->hard_bytes[g] != WALL_NONE)
            return false;
    return true;
}

int walls_set(struct member *member, const struct cgroup *cgroup, unsigned gpu, uint64_t soft, uint64_t hard) {
    struct node_file *node = member->node;
    int result = 0;
    take_down_removed(member);
    node_lock(member);
    struct node_wall *wall = wall_of(node, cgroup);
    if (!wall)
        wall = put_up(node, cgroup);
    if (wall) {
        journal_put(node, &wall->soft_bytes[gpu], soft);
        journal_put(node, &wall->hard_bytes[gpu], hard);
        if (limits_nothing(wall))
            take_down(node, wall);
    } else {
        result = -ENOSPC;
    }
    node_unlock(member);
    return result;
}

int walls_get(struct member *member, const struct cgroup *cgroup, unsigned gpu, struct wall_limits *ret_limits) {
    struct node_file *node = member->node;
    node_lock(member);
    reap_dead(member);
    const struct node_wall *wall = wall_of(node, cgroup);
    if (wall)
        *ret_limits = (struct wall_limits){wall->soft_bytes[gpu], wall->hard_bytes[gpu],
                                           held_behind(node, (unsigned)(wall - node->walls), gpu) << BLOCK_SHIFT};
    node_unlock(member);
    return wall ? 0 : -ENOENT;
}

void walls_enlist(struct member *member, const struct cgroup *cgroup, uint64_t pid, uint64_t pid_namespace) {
    struct node_file *node = member->node;
    node_lock(member);
    const struct node_wall *wall = wall_of(node, cgroup);
    for (unsigned p = 0; wall && p < node->process_count; p++) {
        struct node_process *process = &node->processes[p];
        if (process->live && process->pid == pid && process->pid_namespace == pid_namespace)
            put_behind(node, process, (unsigned)(wall - node->walls), true);
    }
    node_unlock(member);
}
