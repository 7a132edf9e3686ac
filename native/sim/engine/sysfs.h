#ifndef GPUSLICE_SIM_SYSFS_H
#define GPUSLICE_SIM_SYSFS_H

#include "node.h"

/* Writes DIRECTORY/sys: what the kernel's /sys would show of these GPUs' places on PCI Express, and, where NVSwitches
 * join them, of an InfiniBand NIC beside each. -errno. */
int sysfs_write(const char *directory, const struct node_file *node);

#endif
