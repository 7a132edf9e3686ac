/* The simulated kernel's wall: what the processes of a cgroup, and of those below it, may hold together on a GPU.
 *
 * Who is in a cgroup is asked of the machine's own kernel, by the process that wants memory, at every allocation as
 * long as the node has any wall: a container's namespaces hide its place, and no environment or library is trusted
 * with it. The soft limit is kept and shown; nothing here evicts memory. */
#ifndef GPUSLICE_SIM_WALLS_H
#define GPUSLICE_SIM_WALLS_H

#include "cgroup.h"
#include "member.h"

#define WALL_NONE UINT64_MAX

struct wall_limits {
    uint64_t soft_bytes, hard_bytes, used_bytes;
};

/* Whether the node's driver is one that has walls: r615 or newer. */
bool walls_supported(const struct node_file *node);

/* Takes the lock, and then knows behind which walls the calling process stands. */
void walls_lock(struct member *member);
/* Under the lock: whether a process may take so much more. */
bool walls_allow(const struct node_file *node, unsigned process, unsigned gpu, uint64_t blocks);

/* Soft 0 and hard WALL_NONE on every GPU: the wall is gone. -ENOSPC: the node has walls enough. */
int walls_set(struct member *member, const struct cgroup *cgroup, unsigned gpu, uint64_t soft, uint64_t hard);
/* -ENOENT: there is no wall. */
int walls_get(struct member *member, const struct cgroup *cgroup, unsigned gpu, struct wall_limits *ret_limits);
/* Says that a process, by its own pid and pid namespace, is in the cgroup, before it allocates again. */
void walls_enlist(struct member *member, const struct cgroup *cgroup, uint64_t pid, uint64_t pid_namespace);

#endif
