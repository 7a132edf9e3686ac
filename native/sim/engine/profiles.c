/* The machines that can be simulated. Figures are the data sheets' and what NVML prints on such a card; a field that
 * is left out is 0. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "node.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define GB UINT64_C(1000000000)

static const struct sim_gpu t4 = {
    .name = "Tesla T4 (simulated)",
    .vbios = "90.04.38.00.03",
    .board_part = "900-2G183-0000-001",
    .pci = {.device_id = 0x1eb810de, .subsystem_id = 0x12a210de},
    .architecture = SIM_TURING,
    .compute_major = 7,
    .compute_minor = 5,
    .memory_bytes = 14914 * MIB,
    .reserved_bytes = 446 * MIB,
    .context_overhead_bytes = 106 * MIB,
    .bar1_bytes = 256 * MIB,
    .memory_bus_bits = 256,
    .l2_bytes = 4 * MIB,
    .sm_count = 40,
    .cores_per_sm = 64,
    .threads_per_sm = 1024,
    .blocks_per_sm = 16,
    .registers_per_sm = 65536,
    .shared_bytes_per_sm = 64 << 10,
    .shared_bytes_per_block_optin = 64 << 10,
    .copy_engines = 3,
    .sm_clock_idle_mhz = 300,
    .sm_clock_mhz = 585,
    .sm_clock_max_mhz = 1590,
    .memory_clock_mhz = 5001,
    .power_idle_mw = 9500,
    .power_limit_mw = 70000,
    .power_min_limit_mw = 60000,
    .temperature_idle_c = 34,
    .temperature_busy_c = 71,
    .temperature_slowdown_c = 93,
    .temperature_shutdown_c = 96,
    .pcie_gen = 3,
    .pcie_width = 16,
    .memory_bandwidth = 120 * GB,
    .host_bandwidth = 12 * GB,
    .has_ecc = 1,
};

static const struct sim_gpu a100_80g = {
    .name = "NVIDIA A100-SXM4-80GB (simulated)",
    .vbios = "92.00.36.00.02",
    .board_part = "692-2G506-0212-002",
    .pci = {.device_id = 0x20b210de, .subsystem_id = 0x147f10de},
    .architecture = SIM_AMPERE,
    .compute_major = 8,
    .compute_minor = 0,
    .memory_bytes = 81152 * MIB,
    .reserved_bytes = 768 * MIB,
    .context_overhead_bytes = 424 * MIB,
    .bar1_bytes = 128 * GIB,
    .memory_bus_bits = 5120,
    .l2_bytes = 40 * MIB,
    .sm_count = 108,
    .cores_per_sm = 64,
    .threads_per_sm = 2048,
    .blocks_per_sm = 32,
    .registers_per_sm = 65536,
    .shared_bytes_per_sm = 164 << 10,
    .shared_bytes_per_block_optin = 163 << 10,
    .copy_engines = 3,
    .sm_clock_idle_mhz = 210,
    .sm_clock_mhz = 1275,
    .sm_clock_max_mhz = 1410,
    .memory_clock_mhz = 1593,
    .power_idle_mw = 62000,
    .power_limit_mw = 400000,
    .power_min_limit_mw = 100000,
    .temperature_idle_c = 31,
    .temperature_busy_c = 64,
    .temperature_slowdown_c = 89,
    .temperature_shutdown_c = 92,
    .pcie_gen = 4,
    .pcie_width = 16,
    .memory_bandwidth = 850 * GB,
    .host_bandwidth = 25 * GB,
    .link_bandwidth = 25 * GB,
    .link_count = 12,
    .link_version = 3,
    .has_ecc = 1,
    .has_mig = 1,
    .has_row_remapping = 1,
    .mig_slices = 7,
};

static const struct sim_gpu h100_80g = {
    .name = "NVIDIA H100 80GB HBM3 (simulated)",
    .vbios = "96.00.74.00.01",
    .board_part = "692-2G520-0200-000",
    .pci = {.device_id = 0x233010de, .subsystem_id = 0x16c110de},
    .architecture = SIM_HOPPER,
    .compute_major = 9,
    .compute_minor = 0,
    .memory_bytes = 80998 * MIB,
    .reserved_bytes = 561 * MIB,
    .context_overhead_bytes = 520 * MIB,
    .bar1_bytes = 128 * GIB,
    .memory_bus_bits = 5120,
    .l2_bytes = 50 * MIB,
    .sm_count = 132,
    .cores_per_sm = 128,
    .threads_per_sm = 2048,
    .blocks_per_sm = 32,
    .registers_per_sm = 65536,
    .shared_bytes_per_sm = 228 << 10,
    .shared_bytes_per_block_optin = 227 << 10,
    .copy_engines = 3,
    .sm_clock_idle_mhz = 345,
    .sm_clock_mhz = 1665,
    .sm_clock_max_mhz = 1980,
    .memory_clock_mhz = 2619,
    .power_idle_mw = 71000,
    .power_limit_mw = 700000,
    .power_min_limit_mw = 200000,
    .temperature_idle_c = 29,
    .temperature_busy_c = 61,
    .temperature_slowdown_c = 90,
    .temperature_shutdown_c = 95,
    .pcie_gen = 5,
    .pcie_width = 16,
    .memory_bandwidth = 1350 * GB,
    .host_bandwidth = 52 * GB,
    .link_bandwidth = 25 * GB,
    .link_count = 18,
    .link_version = 4,
    .has_ecc = 1,
    .has_mig = 1,
    .has_row_remapping = 1,
    .mig_slices = 7,
};

/* An H200 is an H100 with other memory. */
static struct sim_gpu h200(void) {
    struct sim_gpu gpu = h100_80g;
    snprintf(gpu.name, sizeof gpu.name, "NVIDIA H200 (simulated)");
    snprintf(gpu.board_part, sizeof gpu.board_part, "692-2G520-0280-000");
    gpu.pci.device_id = 0x233510de;
    gpu.pci.subsystem_id = 0x18be10de;
    gpu.memory_bytes = 143156 * MIB;
    gpu.reserved_bytes = 615 * MIB;
    gpu.bar1_bytes = 256 * GIB;
    gpu.memory_bus_bits = 6016;
    gpu.memory_clock_mhz = 3201;
    gpu.memory_bandwidth = 1950 * GB;
    return gpu;
}

struct profile {
    const char *name;
    unsigned gpus;     /* unless told otherwise */
    unsigned switches; /* NVSwitches that join all GPUs; 0: NVLinks join them directly */
    uint8_t buses[8];  /* PCI bus of each GPU; further ones follow the last */
};

static const struct profile profiles[] = {
    {"t4", 1, 0, {0x04}},
    {"2xa100-80g", 2, 0, {0x07, 0x0f}},
    {"dgx-h100", 8, 4, {0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf}},
    {"h200", 1, 4, {0x19}},
};
#define PROFILE_COUNT (sizeof profiles / sizeof profiles[0])

const char *profile_name(unsigned i) {
    return i < PROFILE_COUNT ? profiles[i].name : NULL;
}

/* splitmix64: well-mixed 64 bits from a seed. */
static uint64_t mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void identify(struct sim_gpu *gpu, uint64_t seed, unsigned index) {
    uint64_t half[2] = {mix(seed * 1024 + index), mix(~(seed * 1024 + index))};
    memcpy(gpu->uuid_bytes, half, sizeof gpu->uuid_bytes);
    uint8_t *b = gpu->uuid_bytes;
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 9562: version 4, */
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80); /* variant 1 */
    snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
             b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    snprintf(gpu->serial, sizeof gpu->serial, "16%011llu", (unsigned long long)(half[0] % UINT64_C(100000000000)));
    gpu->minor = index;
}

static void place(struct sim_gpu *gpu, const struct profile *profile, unsigned index, unsigned gpus) {
    unsigned known = 0;
    while (known < sizeof profile->buses && profile->buses[known])
        known++;
    gpu->pci.bus = index < known ? profile->buses[index] : profile->buses[known - 1] + 8u * (index - known + 1);
    gpu->numa_node = index >= (gpus + 1) / 2 ? 1 : 0; /* two sockets, half of the GPUs at each */
}

/* Through switches every link ends at one; without, the links are dealt out evenly among the other GPUs. */
static void link_up(struct sim_gpu *gpu, const struct profile *profile, unsigned index, unsigned gpus) {
    if (gpus < 2)
        return;
    unsigned each = gpu->link_count / (gpus - 1);
    for (unsigned link = 0; link < gpu->link_count; link++) {
        if (profile->switches) {
            gpu->links[link] = (struct sim_link){SIM_LINK_SWITCH, link % profile->switches};
        } else if (each && link < each * (gpus - 1)) {
            unsigned peer = link / each;
            gpu->links[link] = (struct sim_link){SIM_LINK_GPU, peer < index ? peer : peer + 1};
        }
    }
}

int profile_fill(struct node_file *node, const char *name, unsigned gpus, uint64_t seed) {
    const struct sim_gpu models[PROFILE_COUNT] = {t4, a100_80g, h100_80g, h200()};
    for (unsigned p = 0; p < PROFILE_COUNT; p++) {
        const struct profile *profile = &profiles[p];
        if (strcmp(profile->name, name) != 0)
            continue;
        gpus = gpus ? gpus : profile->gpus;
        if (gpus > SIM_GPUS_MAX)
            return -EINVAL;
        for (unsigned i = 0; i < gpus; i++) {
            node->gpus[i] = models[p];
            identify(&node->gpus[i], seed, i);
            place(&node->gpus[i], profile, i, gpus);
            link_up(&node->gpus[i], profile, i, gpus);
        }
        node->info = (struct sim_node_info){.driver_version = "615.00.00",
                                            .nvml_version = "13.615.00.00",
                                            .cuda_version = 13050,
                                            .gpu_count = gpus,
                                            .switch_count = gpus > 1 ? profile->switches : 0,
                                            .seed = seed};
        snprintf(node->info.profile, sizeof node->info.profile, "%s", name);
        return 0;
    }
    return -EINVAL;
}
