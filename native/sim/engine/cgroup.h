/* Control groups, as the kernel shows them in their file systems. Version 1 counts as well: on a real node the driver
 * takes version 2 alone, but what is simulated here needs nothing of the kernel beyond the tree and who is in it. */
#ifndef GPUSLICE_SIM_CGROUP_H
#define GPUSLICE_SIM_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#define CGROUP_PATH 1024

/* One life of a cgroup: the kernel gives an inode number of these file systems to nobody else. */
struct cgroup {
    uint64_t device, inode;
    uint64_t root_length; /* of `path`: where the file system is mounted */
    char path[CGROUP_PATH];
};

/* -errno of the path; -EINVAL: it is no cgroup; -ENAMETOOLONG. */
int cgroup_identify(const char *path, struct cgroup *ret_cgroup);

/* A descriptor of its directory. It is looked for where it was, then below `trees` (or NULL), where somebody may have
 * mounted all of /sys/fs/cgroup for a process in a container: what is there otherwise begins at the container itself.
 * -ENOENT: gone, or out of sight. */
int cgroup_open(const struct cgroup *cgroup, const char *trees);

/* Calls visit() for every process in it and below, by the pid that the caller's pid namespace has for it, until one
 * returns false. False: one did. Closes the descriptor. */
bool cgroup_visit(int directory, bool (*visit)(uint64_t pid, void *argument), void *argument);

/* Changes with every move of the calling process to another cgroup. */
uint64_t cgroup_own_place(void);

#endif
