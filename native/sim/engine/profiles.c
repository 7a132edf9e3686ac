/* The machines that can be simulated. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "models.h"
#include "node.h"
#include "uuid.h"

struct profile {
    const char *name;
    const struct sim_gpu *model;
    unsigned gpus;     /* unless told otherwise */
    unsigned switches; /* NVSwitches that join all GPUs; 0: NVLinks join them directly */
    uint8_t buses[8];  /* PCI bus of each GPU; further ones follow the last */
};

static const struct profile profiles[] = {
    {"t4", &model_t4, 1, 0, {0x04}},
    {"2xa100-80g", &model_a100_80g, 2, 0, {0x07, 0x0f}},
    {"dgx-h100", &model_h100_80g, 8, 4, {0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf}},
    {"h200", &model_h200, 1, 4, {0x19}},
    {"2xa100-40g", &model_a100_40g, 2, 0, {0x07, 0x0f}},
    {"dgx-b200", &model_b200, 8, 2, {0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf}},
};
#define PROFILE_COUNT (sizeof profiles / sizeof profiles[0])

const char *profile_name(unsigned i) {
    return i < PROFILE_COUNT ? profiles[i].name : NULL;
}

static void identify(struct sim_gpu *gpu, uint64_t seed, unsigned index) {
    uint64_t half[2] = {uuid_mix(seed * 1024 + index), uuid_mix(~(seed * 1024 + index))};
    uuid_make(half[0], half[1], 4, gpu->uuid_bytes);
    uuid_write("GPU-", gpu->uuid_bytes, gpu->uuid);
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
    for (unsigned p = 0; p < PROFILE_COUNT; p++) {
        const struct profile *profile = &profiles[p];
        if (strcmp(profile->name, name) != 0)
            continue;
        gpus = gpus ? gpus : profile->gpus;
        if (gpus > SIM_GPUS_MAX)
            return -EINVAL;
        for (unsigned i = 0; i < gpus; i++) {
            node->gpus[i] = *profile->model;
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
