#include "node.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kmsg.h"

#define LOADED_PRIORITY 5 /* kernel, notice */

static int refuse(char *reason, int error, const char *what, const char *subject) {
    snprintf(reason, 256, "%s %.160s: %s.", what, subject, strerror(error));
    return -error;
}

/* Written whole before it takes its name: whoever finds a node finds a complete one. */
static int write_node(int directory, const char *profile, unsigned gpus, uint64_t seed, const char *driver) {
    int fd = openat(directory, NODE_FILE ".new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return -errno;
    int result = 0;
    struct node_file *node = MAP_FAILED;
    if (fchmod(fd, 0666) < 0 || ftruncate(fd, sizeof(struct node_file)) < 0)
        result = -errno;
    if (result == 0) {
        node = mmap(NULL, sizeof(struct node_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        result = node == MAP_FAILED ? -errno : profile_fill(node, profile, gpus, seed);
    }
    if (result == 0 && driver) {
        snprintf(node->info.driver_version, sizeof node->info.driver_version, "%s", driver);
        snprintf(node->info.nvml_version, sizeof node->info.nvml_version, "13.%.28s", driver);
    }
    if (result == 0) {
        node->magic = NODE_MAGIC;
        node->version = NODE_VERSION;
        node->size_check = (uint32_t)sizeof(struct node_file);
        if (linkat(directory, NODE_FILE ".new", directory, NODE_FILE, 0) < 0)
            result = -errno;
    }
    if (node != MAP_FAILED)
        munmap(node, sizeof(struct node_file));
    unlinkat(directory, NODE_FILE ".new", 0);
    close(fd);
    return result;
}

/* With what the driver says when it is loaded. */
static int write_kernel_log(const char *directory) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/" KMSG_FILE, directory) >= (int)sizeof path)
        return -ENAMETOOLONG;
    int result = sim_kmsg_create(path);
    return result < 0 ? result : sim_kmsg_append(path, LOADED_PRIORITY, "NVRM: loading the simulated kernel module");
}

static void no_profile(const char *profile, char *reason) {
    int length = snprintf(reason, 256, "there is no profile '%.64s', only", profile);
    for (unsigned i = 0; profile_name(i); i++)
        length += snprintf(reason + length, 256 - (size_t)length, "%s %s", i ? "," : "", profile_name(i));
    snprintf(reason + length, 256 - (size_t)length, ".");
}

int node_create(const char *directory, const char *profile, unsigned gpus, uint64_t seed, const char *driver,
                char *reason) {
    /* Containers of any uid keep exported memory in files of their own there; mkdir() heeds the umask. */
    if (mkdir(directory, 0777) == 0)
        chmod(directory, 0777);
    else if (errno != EEXIST)
        return refuse(reason, errno, "cannot make the node directory", directory);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return refuse(reason, errno, "cannot open the node directory", directory);
    int result = write_node(fd, profile, gpus, seed, driver);
    if (result == 0)
        result = write_kernel_log(directory);
    close(fd);
    if (result == -EINVAL)
        no_profile(profile, reason);
    else if (result == -EEXIST)
        snprintf(reason, 256, "%.200s holds a simulated node already.", directory);
    else if (result < 0)
        return refuse(reason, -result, "cannot write a node into", directory);
    return result;
}

void node_explain(const char *directory, int error, char reason[256]) {
    char path[PATH_MAX];
    struct {
        uint64_t magic;
        uint32_t version;
    } head = {0};
    snprintf(path, sizeof path, "%s/" NODE_FILE, directory);
    int fd = error == -EPROTO ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        if (read(fd, &head, sizeof head) != (ssize_t)sizeof head)
            head.magic = 0;
        close(fd);
    }
    if (error == -ENOENT)
        snprintf(reason, 256, "%.200s holds no simulated node.", directory);
    else if (head.magic == NODE_MAGIC)
        snprintf(reason, 256,
                 "%.120s holds a simulated node of another gpuslice (layout %u, this one knows %u): make it anew.",
                 directory, head.version, NODE_VERSION);
    else if (error == -EPROTO)
        snprintf(reason, 256, "%.200s holds a file 'node' that is no simulated node.", directory);
    else
        refuse(reason, -error, "cannot open the simulated node in", directory);
}

int node_map(const char *directory, struct node_file **ret_node) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/" NODE_FILE, directory) >= (int)sizeof path)
        return -ENAMETOOLONG;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat status;
    int result = fstat(fd, &status) < 0 ? -errno : 0;
    if (result == 0 && status.st_size != (off_t)sizeof(struct node_file))
        result = -EPROTO;
    struct node_file *node = MAP_FAILED;
    if (result == 0) {
        node = mmap(NULL, sizeof(struct node_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (node == MAP_FAILED)
            result = -errno;
    }
    close(fd);
    if (result == 0 && (node->magic != NODE_MAGIC || node->version != NODE_VERSION ||
                        node->size_check != (uint32_t)sizeof(struct node_file))) {
        munmap(node, sizeof(struct node_file));
        result = -EPROTO;
    }
    if (result == 0)
        *ret_node = node;
    return result;
}
