#include "models.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define GB UINT64_C(1000000000)

/* Figures are the data sheets' and what NVML prints on such a card; a field that is left out is 0. */

const struct sim_gpu model_t4 = {
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

/* GPU instances: the same seven on every GPU that is cut into 7 compute and 8 memory slices. Where each may begin is
 * what `nvidia-smi mig -lgipp` prints, its sizes what `nvidia-smi mig -lgip` prints. */
#define ONE .profile = 0, .id = 19, .count = 7, .slices = 1, .size = 1, .starts = 0x7f
#define ONE_MEDIA .profile = 7, .id = 20, .count = 1, .slices = 1, .size = 1, .starts = 0x7f
#define ONE_DOUBLE .profile = 9, .id = 15, .count = 4, .slices = 1, .size = 2, .starts = 0x55
#define TWO .profile = 1, .id = 14, .count = 3, .slices = 2, .size = 2, .starts = 0x15
#define THREE .profile = 2, .id = 9, .count = 2, .slices = 3, .size = 4, .starts = 0x11
#define FOUR .profile = 3, .id = 5, .count = 1, .slices = 4, .size = 4, .starts = 0x01
#define SEVEN .profile = 4, .id = 0, .count = 1, .slices = 7, .size = 8, .starts = 0x01
#define HAS(sms, copies, decoders_, jpegs_, ofas_, mib)                                                                \
    .sm_count = (sms), .copy_engines = (copies), .decoders = (decoders_), .jpegs = (jpegs_), .ofas = (ofas_),          \
    .memory_mib = (mib)

#define GA100                                                                                                          \
    .architecture = SIM_AMPERE, .compute_major = 8, .compute_minor = 0, .context_overhead_bytes = 424 * MIB,           \
    .l2_bytes = 40 * MIB, .sm_count = 108, .cores_per_sm = 64, .threads_per_sm = 2048, .blocks_per_sm = 32,            \
    .registers_per_sm = 65536, .shared_bytes_per_sm = 164 << 10, .shared_bytes_per_block_optin = 163 << 10,            \
    .copy_engines = 3, .sm_clock_idle_mhz = 210, .sm_clock_mhz = 1275, .sm_clock_max_mhz = 1410,                       \
    .power_idle_mw = 62000, .power_min_limit_mw = 100000, .temperature_idle_c = 31, .temperature_busy_c = 64,          \
    .temperature_slowdown_c = 89, .temperature_shutdown_c = 92, .pcie_gen = 4, .pcie_width = 16,                       \
    .host_bandwidth = 25 * GB, .link_bandwidth = 25 * GB, .link_count = 12, .link_version = 3, .has_ecc = 1,           \
    .has_row_remapping = 1

const struct sim_gpu model_a100_40g = {
    GA100,
    .name = "NVIDIA A100-SXM4-40GB (simulated)",
    .vbios = "92.00.19.00.10",
    .board_part = "692-2G506-0200-002",
    .pci = {.device_id = 0x20b010de, .subsystem_id = 0x144e10de},
    .memory_bytes = 40326 * MIB,
    .reserved_bytes = 634 * MIB,
    .bar1_bytes = 64 * GIB,
    .memory_bus_bits = 5120,
    .memory_clock_mhz = 1215,
    .memory_bandwidth = 650 * GB,
    .power_limit_mw = 400000,
    .mig_slices = 7,
    .mig_profile_count = 7,
    .mig_profiles =
        {
            {"1g.5gb", ONE, HAS(14, 1, 0, 0, 0, 4864)},
            {"1g.5gb+me", ONE_MEDIA, HAS(14, 1, 1, 1, 1, 4864)},
            {"1g.10gb", ONE_DOUBLE, HAS(14, 1, 1, 0, 0, 9856)},
            {"2g.10gb", TWO, HAS(28, 2, 1, 0, 0, 9856)},
            {"3g.20gb", THREE, HAS(42, 3, 2, 0, 0, 19968)},
            {"4g.20gb", FOUR, HAS(56, 4, 2, 0, 0, 19968)},
            {"7g.40gb", SEVEN, HAS(98, 7, 5, 1, 1, 40192)},
        },
};

const struct sim_gpu model_a100_80g = {
    GA100,
    .name = "NVIDIA A100-SXM4-80GB (simulated)",
    .vbios = "92.00.36.00.02",
    .board_part = "692-2G506-0212-002",
    .pci = {.device_id = 0x20b210de, .subsystem_id = 0x147f10de},
    .memory_bytes = 81152 * MIB,
    .reserved_bytes = 768 * MIB,
    .bar1_bytes = 128 * GIB,
    .memory_bus_bits = 5120,
    .memory_clock_mhz = 1593,
    .memory_bandwidth = 850 * GB,
    .power_limit_mw = 400000,
    .mig_slices = 7,
    .mig_profile_count = 7,
    .mig_profiles =
        {
            {"1g.10gb", ONE, HAS(14, 1, 0, 0, 0, 9728)},
            {"1g.10gb+me", ONE_MEDIA, HAS(14, 1, 1, 1, 1, 9728)},
            {"1g.20gb", ONE_DOUBLE, HAS(14, 1, 1, 0, 0, 19968)},
            {"2g.20gb", TWO, HAS(28, 2, 1, 0, 0, 19968)},
            {"3g.40gb", THREE, HAS(42, 3, 2, 0, 0, 40192)},
            {"4g.40gb", FOUR, HAS(56, 4, 2, 0, 0, 40192)},
            {"7g.80gb", SEVEN, HAS(98, 7, 5, 1, 1, 80896)},
        },
};

#define GH100                                                                                                          \
    .architecture = SIM_HOPPER, .compute_major = 9, .compute_minor = 0, .context_overhead_bytes = 520 * MIB,           \
    .l2_bytes = 50 * MIB, .sm_count = 132, .cores_per_sm = 128, .threads_per_sm = 2048, .blocks_per_sm = 32,           \
    .registers_per_sm = 65536, .shared_bytes_per_sm = 228 << 10, .shared_bytes_per_block_optin = 227 << 10,            \
    .copy_engines = 3, .sm_clock_idle_mhz = 345, .sm_clock_mhz = 1665, .sm_clock_max_mhz = 1980,                       \
    .power_idle_mw = 71000, .power_min_limit_mw = 200000, .temperature_idle_c = 29, .temperature_busy_c = 61,          \
    .temperature_slowdown_c = 90, .temperature_shutdown_c = 95, .pcie_gen = 5, .pcie_width = 16,                       \
    .host_bandwidth = 52 * GB, .link_bandwidth = 25 * GB, .link_count = 18, .link_version = 4, .has_ecc = 1,           \
    .has_row_remapping = 1

const struct sim_gpu model_h100_80g = {
    GH100,
    .name = "NVIDIA H100 80GB HBM3 (simulated)",
    .vbios = "96.00.74.00.01",
    .board_part = "692-2G520-0200-000",
    .pci = {.device_id = 0x233010de, .subsystem_id = 0x16c110de},
    .memory_bytes = 80998 * MIB,
    .reserved_bytes = 561 * MIB,
    .bar1_bytes = 128 * GIB,
    .memory_bus_bits = 5120,
    .memory_clock_mhz = 2619,
    .memory_bandwidth = 1350 * GB,
    .power_limit_mw = 700000,
    .mig_slices = 7,
    .mig_profile_count = 7,
    .mig_profiles =
        {
            {"1g.10gb", ONE, HAS(16, 1, 1, 1, 0, 9984)},
            {"1g.10gb+me", ONE_MEDIA, HAS(16, 1, 1, 1, 1, 9984)},
            {"1g.20gb", ONE_DOUBLE, HAS(26, 1, 1, 1, 0, 20096)},
            {"2g.20gb", TWO, HAS(32, 2, 2, 2, 0, 20096)},
            {"3g.40gb", THREE, HAS(60, 3, 3, 3, 0, 40448)},
            {"4g.40gb", FOUR, HAS(64, 4, 4, 4, 0, 40448)},
            {"7g.80gb", SEVEN, HAS(132, 8, 7, 7, 1, 81152)},
        },
};

/* An H200 is an H100 with other memory. */
const struct sim_gpu model_h200 = {
    GH100,
    .name = "NVIDIA H200 (simulated)",
    .vbios = "96.00.74.00.01",
    .board_part = "692-2G520-0280-000",
    .pci = {.device_id = 0x233510de, .subsystem_id = 0x18be10de},
    .memory_bytes = 143156 * MIB,
    .reserved_bytes = 615 * MIB,
    .bar1_bytes = 256 * GIB,
    .memory_bus_bits = 6016,
    .memory_clock_mhz = 3201,
    .memory_bandwidth = 1950 * GB,
    .power_limit_mw = 700000,
    .mig_slices = 7,
    .mig_profile_count = 7,
    .mig_profiles =
        {
            {"1g.18gb", ONE, HAS(16, 1, 1, 1, 0, 16384)},
            {"1g.18gb+me", ONE_MEDIA, HAS(16, 1, 1, 1, 1, 16384)},
            {"1g.35gb", ONE_DOUBLE, HAS(26, 1, 1, 1, 0, 33024)},
            {"2g.35gb", TWO, HAS(32, 2, 2, 2, 0, 33024)},
            {"3g.71gb", THREE, HAS(60, 3, 3, 3, 0, 71168)},
            {"4g.71gb", FOUR, HAS(64, 4, 4, 4, 0, 71168)},
            {"7g.141gb", SEVEN, HAS(132, 8, 7, 7, 1, 143360)},
        },
};

const struct sim_gpu model_b200 = {
    .architecture = SIM_BLACKWELL,
    .compute_major = 10,
    .compute_minor = 0,
    .context_overhead_bytes = 600 * MIB,
    .l2_bytes = 126 * MIB,
    .sm_count = 148,
    .cores_per_sm = 128,
    .threads_per_sm = 2048,
    .blocks_per_sm = 32,
    .registers_per_sm = 65536,
    .shared_bytes_per_sm = 228 << 10,
    .shared_bytes_per_block_optin = 227 << 10,
    .copy_engines = 3,
    .sm_clock_idle_mhz = 120,
    .sm_clock_mhz = 1665,
    .sm_clock_max_mhz = 1965,
    .power_idle_mw = 142000,
    .power_min_limit_mw = 200000,
    .temperature_idle_c = 30,
    .temperature_busy_c = 62,
    .temperature_slowdown_c = 90,
    .temperature_shutdown_c = 95,
    .pcie_gen = 5,
    .pcie_width = 16,
    .host_bandwidth = 55 * GB,
    .link_bandwidth = 50 * GB,
    .link_count = 18,
    .link_version = 5,
    .has_ecc = 1,
    .has_row_remapping = 1,
    .name = "NVIDIA B200 (simulated)",
    .vbios = "97.00.82.00.2F",
    .board_part = "692-2G525-0220-002",
    .pci = {.device_id = 0x290110de, .subsystem_id = 0x199910de},
    .memory_bytes = 182642 * MIB,
    .reserved_bytes = 717 * MIB,
    .bar1_bytes = 256 * GIB,
    .memory_bus_bits = 7680,
    .memory_clock_mhz = 3996,
    .memory_bandwidth = 3200 * GB,
    .power_limit_mw = 1000000,
    .mig_slices = 7,
    .mig_profile_count = 7,
    .mig_profiles =
        {
            {"1g.23gb", ONE, HAS(18, 2, 1, 1, 0, 22528)},
            {"1g.23gb+me", ONE_MEDIA, HAS(18, 2, 1, 1, 1, 22528)},
            {"1g.45gb", ONE_DOUBLE, HAS(30, 2, 1, 1, 0, 45312)},
            {"2g.45gb", TWO, HAS(36, 4, 2, 2, 0, 45312)},
            {"3g.90gb", THREE, HAS(70, 6, 3, 3, 0, 91136)},
            {"4g.90gb", FOUR, HAS(72, 8, 4, 4, 0, 91136)},
            {"7g.180gb", SEVEN, HAS(148, 16, 7, 7, 1, 182784)},
        },
};
