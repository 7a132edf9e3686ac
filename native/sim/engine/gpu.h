/* What a simulated GPU and its node are: the part that never changes after the node is made. Plain data that lies in
 * the node file, filled from a profile (profiles.c). */
#ifndef GPUSLICE_SIM_GPU_H
#define GPUSLICE_SIM_GPU_H

#include <stdint.h>

#define SIM_GPUS_MAX 16u
#define SIM_LINKS_MAX 18u /* NVLinks of one GPU */
#define SIM_MIG_PROFILES 8u

enum sim_architecture { SIM_TURING = 6, SIM_AMPERE = 7, SIM_HOPPER = 9, SIM_BLACKWELL = 10 }; /* NVML_DEVICE_ARCH_* */

/* Where an NVLink ends. */
enum sim_link_end { SIM_LINK_NONE = 0, SIM_LINK_GPU = 1, SIM_LINK_SWITCH = 2 };

struct sim_pci {
    uint32_t domain, bus, device;
    uint32_t device_id;    /* device << 16 | vendor, as NVML's pciDeviceId */
    uint32_t subsystem_id; /* likewise */
};

struct sim_link {
    uint32_t end;  /* enum sim_link_end */
    uint32_t peer; /* index of the GPU or the switch at the other end */
};

/* Names a compute instance, that is a MIG device, by the GPU's index and the ids of the instances. */
struct mig_place {
    unsigned gpu, gpu_instance, compute_instance;
};

/* One way to cut a GPU instance out of a GPU. */
struct sim_mig_profile {
    char name[16];    /* "1g.10gb+me" */
    uint32_t profile; /* NVML_GPU_INSTANCE_PROFILE_* */
    uint32_t id;      /* the number that nvidia-smi takes */
    uint32_t count;   /* how many a GPU can have */
    uint32_t slices;  /* of compute */
    uint32_t size;    /* memory slices */
    uint32_t starts;  /* where it may begin: bit i for memory slice i */
    uint32_t sm_count, copy_engines, decoders, jpegs, ofas;
    uint64_t memory_mib;
};

struct sim_gpu {
    char name[96]; /* ends in "(simulated)" */
    char uuid[48]; /* "GPU-8-4-4-4-12", the same for the same node seed and index */
    uint8_t uuid_bytes[16];
    char serial[32];
    char vbios[32];
    char board_part[32];
    struct sim_pci pci;
    uint32_t minor; /* of /dev/nvidiaN */
    uint32_t numa_node;
    uint32_t architecture; /* enum sim_architecture */
    uint32_t compute_major, compute_minor;

    uint64_t memory_bytes;           /* what CUDA calls total; NVML adds reserved_bytes */
    uint64_t reserved_bytes;         /* the driver's own, never allocatable */
    uint64_t context_overhead_bytes; /* what a context costs; whole blocks */
    uint64_t bar1_bytes;
    uint32_t memory_bus_bits;
    uint32_t l2_bytes;

    uint32_t sm_count;
    uint32_t cores_per_sm;
    uint32_t threads_per_sm, blocks_per_sm, registers_per_sm;
    uint32_t shared_bytes_per_sm, shared_bytes_per_block_optin;
    uint32_t copy_engines;

    uint32_t sm_clock_idle_mhz, sm_clock_mhz, sm_clock_max_mhz; /* idle, base, boost */
    uint32_t memory_clock_mhz;
    uint32_t power_idle_mw, power_limit_mw, power_min_limit_mw;
    uint32_t temperature_idle_c, temperature_busy_c, temperature_slowdown_c, temperature_shutdown_c;

    uint32_t pcie_gen, pcie_width;
    uint64_t memory_bandwidth; /* bytes a second: copies on the device */
    uint64_t host_bandwidth;   /* bytes a second: host copies, each direction */
    uint64_t link_bandwidth;   /* bytes a second of one NVLink, each direction */
    uint32_t link_count;
    uint32_t link_version;
    struct sim_link links[SIM_LINKS_MAX];

    uint32_t has_ecc, has_row_remapping; /* 0 or 1 */
    uint32_t mig_slices;                 /* compute slices when MIG is on; 0: it has no MIG */
    uint32_t mig_profile_count;
    struct sim_mig_profile mig_profiles[SIM_MIG_PROFILES];
};

struct sim_node_info {
    char profile[32];
    char driver_version[32];
    char nvml_version[32];
    uint32_t cuda_version; /* 13050: CUDA 13.5 */
    uint32_t gpu_count;
    uint32_t switch_count; /* NVSwitches */
    uint32_t reserved0;
    uint64_t seed;
    uint64_t reserved[8];
};

#endif
