/* The simulated node's PCI Express tree, as files that look like /sys.
 *
 * Each GPU hangs, with its NIC, on a switch below a root port of its own, as in a DGX. Derived from how such machines
 * are built, captured from none:
 *
 *   pciDDDD:(B-4) / (B-4):01.0 root port / (B-3):00.0 upstream port / (B-2):00.0 downstream port / B:00.0 the GPU
 *                                                                   / (B-2):01.0 downstream port / (B-1):00.0 the NIC
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sysfs.h"

#define CLASS_3D_CONTROLLER "0x030200"
#define CLASS_INFINIBAND "0x020700"

static int make_directories(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int result = mkdir(path, 0755);
        *slash = '/';
        if (result < 0 && errno != EEXIST)
            return -errno;
    }
    return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int write_file(const char *directory, const char *name, const char *text) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    FILE *file = fopen(path, "we");
    if (!file)
        return -errno;
    int written = fprintf(file, "%s\n", text);
    return fclose(file) == 0 && written > 0 ? 0 : -EIO;
}

/* Where the devices on this GPU's switch lie; `port` tells the downstream ports apart. */
static int device_path(char *path, const char *root, const struct sim_gpu *gpu, unsigned port) {
    unsigned domain = gpu->pci.domain, bus = gpu->pci.bus;
    int length = snprintf(
        path, PATH_MAX, "%s/sys/devices/pci%04x:%02x/%04x:%02x:01.0/%04x:%02x:00.0/%04x:%02x:%02x.0/%04x:%02x:00.0",
        root, domain, bus - 4, domain, bus - 4, domain, bus - 3, domain, bus - 2, port, domain, port ? bus - 1 : bus);
    return length < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int write_device(const char *root, const struct sim_gpu *gpu, unsigned port, const char *pci_class) {
    char path[PATH_MAX], link[PATH_MAX], numa_node[12];
    int result = device_path(path, root, gpu, port);
    if (result == 0)
        result = make_directories(path);
    snprintf(numa_node, sizeof numa_node, "%u", gpu->numa_node);
    if (result == 0)
        result = write_file(path, "numa_node", numa_node);
    if (result == 0)
        result = write_file(path, "class", pci_class);
    if (result < 0)
        return result;
    int length = snprintf(link, sizeof link, "%s/sys/bus/pci/devices%s", root, strrchr(path, '/'));
    if (length >= (int)sizeof link)
        return -ENAMETOOLONG;
    return symlink(path, link) < 0 ? -errno : 0;
}

static int write_nic(const char *root, const struct sim_gpu *gpu, unsigned index) {
    char device[PATH_MAX], port[PATH_MAX], link[PATH_MAX];
    int result = write_device(root, gpu, 1, CLASS_INFINIBAND);
    if (result == 0)
        result = device_path(device, root, gpu, 1);
    if (result < 0)
        return result;
    if (snprintf(port, sizeof port, "%s/sys/class/infiniband/mlx5_%u/ports/1", root, index) >= (int)sizeof port ||
        snprintf(link, sizeof link, "%s/sys/class/infiniband/mlx5_%u/device", root, index) >= (int)sizeof link)
        return -ENAMETOOLONG;
    result = make_directories(port);
    if (result == 0)
        result = write_file(port, "link_layer", "InfiniBand");
    if (result == 0 && symlink(device, link) < 0)
        result = -errno;
    return result;
}

int sysfs_write(const char *directory, const struct node_file *node) {
    char root[PATH_MAX], devices[PATH_MAX];
    if (!realpath(directory, root))
        return -errno;
    if (snprintf(devices, sizeof devices, "%s/sys/bus/pci/devices", root) >= (int)sizeof devices)
        return -ENAMETOOLONG;
    int result = make_directories(devices);
    for (unsigned i = 0; i < node->info.gpu_count && result == 0; i++) {
        result = write_device(root, &node->gpus[i], 0, CLASS_3D_CONTROLLER);
        if (result == 0 && node->info.switch_count > 0)
            result = write_nic(root, &node->gpus[i], i);
    }
    return result;
}
