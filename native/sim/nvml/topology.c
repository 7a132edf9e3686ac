/* NVLink, PCI distance, and the CPUs near a GPU. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "library.h"

bool link_up(const struct sim_gpu *gpu, unsigned link) {
    return gpu->links[link].end != SIM_LINK_NONE && !(gpu_fault(gpu).links_down >> link & 1);
}

/* --- NVLink ------------------------------------------------------------------------------------------------- */

static nvmlReturn_t link_of(nvmlDevice_t device, unsigned link, const void *ret_value, const struct sim_gpu **ret_gpu) {
    nvmlReturn_t result = nvml_gpu(device, ret_gpu);
    if (result != NVML_SUCCESS)
        return result;
    if ((*ret_gpu)->link_count == 0)
        return NVML_ERROR_NOT_SUPPORTED;
    return link < (*ret_gpu)->link_count && ret_value ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, nvmlEnableState_t *active) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = link_of(device, link, active, &gpu);
    if (result == NVML_SUCCESS)
        *active = link_up(gpu, link) ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, unsigned int link, unsigned int *version) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = link_of(device, link, version, &gpu);
    if (result == NVML_SUCCESS)
        *version = gpu->link_version;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, unsigned int link,
                                                  nvmlNvLinkCapability_t capability, unsigned int *value) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = link_of(device, link, value, &gpu);
    if (result == NVML_SUCCESS)
        *value = gpu->links[link].end != SIM_LINK_NONE && capability != NVML_NVLINK_CAP_SLI_BRIDGE;
    return result;
}

/* Switches sit on the buses after 0x80. */
#define SWITCH_BUS 0x81u
#define SWITCH_ID 0x22a310deu

static nvmlReturn_t remote_pci(nvmlDevice_t device, unsigned link, nvmlPciInfo_t *pci) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = link_of(device, link, pci, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    const struct sim_link *end = &gpu->links[link];
    if (end->end == SIM_LINK_NONE)
        return NVML_ERROR_NOT_SUPPORTED;
    if (end->end == SIM_LINK_GPU)
        return nvmlDeviceGetPciInfo_v3(gpu_handle(end->peer), pci);
    *pci = (nvmlPciInfo_t){.bus = SWITCH_BUS + end->peer, .pciDeviceId = SWITCH_ID};
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus & 0xff);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0000:%02X:00.0", pci->bus & 0xff);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci) {
    return remote_pci(device, link, pci);
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci) {
    return remote_pci(device, link, pci);
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link,
                                                        nvmlIntNvLinkDeviceType_t *type) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = link_of(device, link, type, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    *type = gpu->links[link].end == SIM_LINK_GPU      ? NVML_NVLINK_DEVICE_TYPE_GPU
            : gpu->links[link].end == SIM_LINK_SWITCH ? NVML_NVLINK_DEVICE_TYPE_SWITCH
                                                      : NVML_NVLINK_DEVICE_TYPE_UNKNOWN;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned int link,
                                                    nvmlNvLinkErrorCounter_t counter, unsigned long long *value) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = link_of(device, link, value, &gpu);
    if (result == NVML_SUCCESS)
        *value = counter == NVML_NVLINK_ERROR_DL_CRC_FLIT ? gpu_fault(gpu).link_errors[link] : 0;
    return result;
}

static bool linked(const struct sim_gpu *a, const struct sim_gpu *b) {
    for (unsigned l = 0; l < a->link_count; l++)
        if (a->links[l].end == SIM_LINK_SWITCH || (a->links[l].end == SIM_LINK_GPU && a->links[l].peer == gpu_index(b)))
            return true;
    return false;
}

/* --- distance ----------------------------------------------------------------------------------------------- */

static nvmlReturn_t two(nvmlDevice_t device1, nvmlDevice_t device2, const void *ret_value, const struct sim_gpu **ret_a,
                        const struct sim_gpu **ret_b) {
    nvmlReturn_t result = nvml_gpu(device1, ret_a);
    if (result == NVML_SUCCESS)
        result = nvml_gpu(device2, ret_b);
    return result == NVML_SUCCESS && !ret_value ? NVML_ERROR_INVALID_ARGUMENT : result;
}

/* Each GPU has a root port of its own: one socket is one NUMA node. */
static nvmlGpuTopologyLevel_t distance(const struct sim_gpu *a, const struct sim_gpu *b) {
    if (a == b)
        return NVML_TOPOLOGY_INTERNAL;
    return a->numa_node == b->numa_node ? NVML_TOPOLOGY_NODE : NVML_TOPOLOGY_SYSTEM;
}

EXPORT nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t device1, nvmlDevice_t device2,
                                                        nvmlGpuTopologyLevel_t *level) {
    const struct sim_gpu *a, *b;
    nvmlReturn_t result = two(device1, device2, level, &a, &b);
    if (result == NVML_SUCCESS)
        *level = distance(a, b);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, nvmlGpuTopologyLevel_t level,
                                                     unsigned int *count, nvmlDevice_t *devices) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned room = *count, found = 0;
    for (unsigned i = 0; i < nvml_self.node->info.gpu_count; i++) {
        if (i == gpu_index(gpu) || distance(gpu, &nvml_self.node->gpus[i]) != level)
            continue;
        if (devices && found < room)
            devices[found] = gpu_handle(i);
        found++;
    }
    *count = found;
    return found > room && devices ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t device1, nvmlDevice_t device2, nvmlGpuP2PCapsIndex_t index,
                                           nvmlGpuP2PStatus_t *status) {
    const struct sim_gpu *a, *b;
    nvmlReturn_t result = two(device1, device2, status, &a, &b);
    if (result != NVML_SUCCESS)
        return result;
    bool needs_link = index == NVML_P2P_CAPS_INDEX_NVLINK || index == NVML_P2P_CAPS_INDEX_ATOMICS;
    *status = !needs_link || linked(a, b) ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t device1, nvmlDevice_t device2, int *same) {
    const struct sim_gpu *a, *b;
    nvmlReturn_t result = two(device1, device2, same, &a, &b);
    if (result == NVML_SUCCESS)
        *same = a == b;
    return result;
}

/* --- CPUs --------------------------------------------------------------------------------------------------- */

static unsigned numa_nodes(void) {
    unsigned nodes = 1;
    for (unsigned i = 0; i < nvml_self.node->info.gpu_count; i++)
        if (nvml_self.node->gpus[i].numa_node >= nodes)
            nodes = nvml_self.node->gpus[i].numa_node + 1;
    return nodes;
}

static void set_bits(unsigned long *set, unsigned words, unsigned from, unsigned to) {
    const unsigned bits = 8 * sizeof *set;
    memset(set, 0, words * sizeof *set);
    for (unsigned bit = from; bit < to && bit / bits < words; bit++)
        set[bit / bits] |= 1ul << bit % bits;
}

/* The machine's CPUs, dealt out to the simulated NUMA nodes. */
static nvmlReturn_t cpus(nvmlDevice_t device, unsigned words, unsigned long *set) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!set || words == 0)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned count = (unsigned)sysconf(_SC_NPROCESSORS_CONF), nodes = numa_nodes();
    if (count < nodes) /* too few to deal out: all are near */
        set_bits(set, words, 0, count);
    else
        set_bits(set, words, gpu->numa_node * count / nodes, (gpu->numa_node + 1) * count / nodes);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int words, unsigned long *set) {
    return cpus(device, words, set);
}

EXPORT nvmlReturn_t nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, unsigned int words, unsigned long *set,
                                                        nvmlAffinityScope_t scope) {
    (void)scope; /* a socket is one NUMA node */
    return cpus(device, words, set);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned int words, unsigned long *set,
                                                nvmlAffinityScope_t scope) {
    (void)scope;
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!set || words == 0)
        return NVML_ERROR_INVALID_ARGUMENT;
    set_bits(set, words, gpu->numa_node, gpu->numa_node + 1);
    return NVML_SUCCESS;
}
