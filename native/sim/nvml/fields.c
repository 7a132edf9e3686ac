/* nvmlDeviceGetFieldValues: many values by number. */
#include <time.h>

#include "library.h"

/* What counts errors, retries or throttled time on a GPU that has had none. */
static bool counts_trouble(unsigned field) {
    static const struct {
        unsigned first, last;
    } ranges[] = {
        {NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_L0, NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL},
        {NVML_FI_DEV_PERF_POLICY_POWER, NVML_FI_DEV_PERF_POLICY_TOTAL_BASE_CLOCKS},
        {NVML_FI_DEV_PCIE_REPLAY_COUNTER, NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_L11},
        {NVML_FI_DEV_NVLINK_ECC_DATA_ERROR_COUNT_L0, NVML_FI_DEV_NVLINK_ERROR_DL_CRC},
        {NVML_FI_DEV_PCIE_L0_TO_RECOVERY_COUNTER, NVML_FI_DEV_C2C_LINK_COUNT},
        {NVML_FI_DEV_PCIE_COUNT_CORRECTABLE_ERRORS, NVML_FI_DEV_PCIE_COUNT_LANE_ERROR},
        {NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN},
    };
    for (unsigned i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (field >= ranges[i].first && field <= ranges[i].last)
            return true;
    return false;
}

static bool in(unsigned field, unsigned first, unsigned last) {
    return field >= first && field <= last;
}

/* NVML_ERROR_NOT_SUPPORTED: none of these. */
static nvmlReturn_t link_field(const struct sim_gpu *gpu, unsigned field, unsigned link, unsigned *ret_value) {
    if (gpu->link_count == 0)
        return NVML_ERROR_NOT_SUPPORTED;
    unsigned active = 0, to_switch = 0;
    for (unsigned l = 0; l < gpu->link_count; l++) {
        active += link_up(gpu, l);
        to_switch += gpu->links[l].end == SIM_LINK_SWITCH;
    }
    unsigned speed = (unsigned)(gpu->link_bandwidth / 1000000);
    bool up = link < gpu->link_count && link_up(gpu, link);
    if (in(field, NVML_FI_DEV_NVLINK_SPEED_MBPS_L0, NVML_FI_DEV_NVLINK_SPEED_MBPS_L5))
        *ret_value = field - NVML_FI_DEV_NVLINK_SPEED_MBPS_L0 < active ? speed : 0;
    else if (in(field, NVML_FI_DEV_NVLINK_SPEED_MBPS_L6, NVML_FI_DEV_NVLINK_SPEED_MBPS_L11))
        *ret_value = field - NVML_FI_DEV_NVLINK_SPEED_MBPS_L6 + 6 < active ? speed : 0;
    else if (field == NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON)
        *ret_value = active ? speed : 0;
    else if (field == NVML_FI_DEV_NVLINK_LINK_COUNT)
        *ret_value = gpu->link_count;
    else if (field == NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT)
        *ret_value = to_switch;
    else if (field == NVML_FI_DEV_NVLINK_GET_SPEED)
        *ret_value = up ? speed : 0;
    else if (field == NVML_FI_DEV_NVLINK_GET_STATE)
        *ret_value = up ? NVML_NVLINK_STATE_ACTIVE : NVML_NVLINK_STATE_INACTIVE;
    else if (field == NVML_FI_DEV_NVLINK_GET_VERSION)
        *ret_value = gpu->link_version;
    else
        return NVML_ERROR_NOT_SUPPORTED;
    return NVML_SUCCESS;
}

static nvmlReturn_t memory_health_field(const struct sim_gpu *gpu, unsigned field, unsigned *ret_value) {
    struct node_fault fault = gpu_fault(gpu);
    const struct {
        unsigned field;
        uint64_t value;
        unsigned needed;
    } counted[] = {
        {NVML_FI_DEV_ECC_SBE_VOL_TOTAL, fault.corrected, gpu->has_ecc},
        {NVML_FI_DEV_ECC_DBE_VOL_TOTAL, fault.uncorrected, gpu->has_ecc},
        {NVML_FI_DEV_ECC_SBE_AGG_TOTAL, fault.corrected_ever, gpu->has_ecc},
        {NVML_FI_DEV_ECC_DBE_AGG_TOTAL, fault.uncorrected_ever, gpu->has_ecc},
        {NVML_FI_DEV_REMAPPED_COR, fault.remapped_corrected, gpu->has_row_remapping},
        {NVML_FI_DEV_REMAPPED_UNC, fault.remapped_uncorrected, gpu->has_row_remapping},
        {NVML_FI_DEV_REMAPPED_PENDING, fault.remap_pending, gpu->has_row_remapping},
        {NVML_FI_DEV_REMAPPED_FAILURE, fault.remap_failed, gpu->has_row_remapping},
        {NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, fault.recovery_action, 1},
        {NVML_FI_DEV_PCIE_REPLAY_COUNTER, fault.pcie_replays, 1},
    };
    for (unsigned i = 0; i < sizeof counted / sizeof counted[0]; i++) {
        if (counted[i].field != field || !counted[i].needed)
            continue;
        *ret_value = (unsigned)counted[i].value;
        return NVML_SUCCESS;
    }
    if (field == NVML_FI_DEV_ECC_CURRENT || field == NVML_FI_DEV_ECC_PENDING)
        *ret_value = gpu->has_ecc;
    else if (in(field, NVML_FI_DEV_ECC_SBE_VOL_TOTAL, NVML_FI_DEV_ECC_DBE_AGG_CBU) && gpu->has_ecc)
        *ret_value = 0;
    else if (in(field, NVML_FI_DEV_RETIRED_SBE, NVML_FI_DEV_RETIRED_PENDING) && !gpu->has_row_remapping)
        *ret_value = 0;
    else if ((in(field, NVML_FI_DEV_REMAPPED_COR, NVML_FI_DEV_REMAPPED_FAILURE) ||
              in(field, NVML_FI_DEV_REMAPPED_ROWS_COR_INACTIVE, NVML_FI_DEV_REMAPPED_ROWS_UNC_INACTIVE)) &&
             gpu->has_row_remapping)
        *ret_value = 0;
    else
        return NVML_ERROR_NOT_SUPPORTED;
    return NVML_SUCCESS;
}

static nvmlReturn_t power_field(nvmlDevice_t device, const struct sim_gpu *gpu, unsigned field, unsigned *ret_value) {
    switch (field) {
    case NVML_FI_DEV_POWER_AVERAGE:
    case NVML_FI_DEV_POWER_INSTANT:
        return nvmlDeviceGetPowerUsage(device, ret_value);
    case NVML_FI_DEV_POWER_MIN_LIMIT:
        *ret_value = gpu->power_min_limit_mw;
        return NVML_SUCCESS;
    case NVML_FI_DEV_POWER_MAX_LIMIT:
    case NVML_FI_DEV_POWER_DEFAULT_LIMIT:
    case NVML_FI_DEV_POWER_CURRENT_LIMIT:
    case NVML_FI_DEV_POWER_REQUESTED_LIMIT:
        *ret_value = gpu->power_limit_mw;
        return NVML_SUCCESS;
    case NVML_FI_DEV_MEMORY_TEMP:
        return gpu_temperature(device, NVML_TEMPERATURE_GPU, ret_value);
    default:
        return NVML_ERROR_NOT_SUPPORTED;
    }
}

static void read_field(nvmlDevice_t device, const struct sim_gpu *gpu, nvmlFieldValue_t *field) {
    unsigned value = 0;
    field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
    field->value = (nvmlValue_t){0};
    if (field->fieldId == NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION || field->fieldId == NVML_FI_DEV_ENERGY) {
        field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
        field->nvmlReturn = nvmlDeviceGetTotalEnergyConsumption(device, &field->value.ullVal);
        return;
    }
    field->nvmlReturn = link_field(gpu, field->fieldId, field->scopeId, &value);
    if (field->nvmlReturn == NVML_ERROR_NOT_SUPPORTED)
        field->nvmlReturn = memory_health_field(gpu, field->fieldId, &value);
    if (field->nvmlReturn == NVML_ERROR_NOT_SUPPORTED)
        field->nvmlReturn = power_field(device, gpu, field->fieldId, &value);
    if (field->nvmlReturn == NVML_ERROR_NOT_SUPPORTED && counts_trouble(field->fieldId)) {
        field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
        field->nvmlReturn = NVML_SUCCESS;
        return;
    }
    field->value.uiVal = value;
}

EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (count <= 0 || !values)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; i < count; i++) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        values[i].timestamp = (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
        values[i].latencyUsec = 0;
        read_field(device, gpu, &values[i]);
    }
    return NVML_SUCCESS;
}
