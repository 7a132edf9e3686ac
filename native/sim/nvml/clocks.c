/* Clocks, power, temperature: they follow how busy the GPU is, in a straight line. */
#include "library.h"

static double between(double idle, double busy, double share) {
    return idle + (busy - idle) * share;
}

/* --- clocks ------------------------------------------------------------------------------------------------- */

static unsigned sm_clock(const struct sim_gpu *gpu) {
    return gpu_moment(gpu).busy > 0 ? gpu->sm_clock_max_mhz : gpu->sm_clock_idle_mhz;
}

static nvmlReturn_t clock_of(nvmlDevice_t device, nvmlClockType_t type, bool highest, unsigned *ret_mhz) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!ret_mhz || (unsigned)type >= NVML_CLOCK_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned sm = highest ? gpu->sm_clock_max_mhz : sm_clock(gpu);
    *ret_mhz = type == NVML_CLOCK_MEM ? gpu->memory_clock_mhz : type == NVML_CLOCK_VIDEO ? sm * 9 / 10 : sm;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    return clock_of(device, type, false, mhz);
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    return clock_of(device, type, true, mhz);
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxCustomerBoostClock(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    return clock_of(device, type, true, mhz);
}

EXPORT nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    return clock_of(device, type, true, mhz);
}

EXPORT nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
                                                          unsigned int *mhz) {
    return clock_of(device, type, true, mhz);
}

EXPORT nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id, unsigned int *mhz) {
    return clock_of(device, type, id != NVML_CLOCK_ID_CURRENT, mhz);
}

static nvmlReturn_t one_clock(nvmlDevice_t device, nvmlClockType_t type, unsigned *count, unsigned *mhz) {
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    bool room = *count >= 1 && mhz;
    *count = 1;
    return room ? clock_of(device, type, true, mhz) : NVML_ERROR_INSUFFICIENT_SIZE;
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned int *count, unsigned int *mhz) {
    return one_clock(device, NVML_CLOCK_MEM, count, mhz);
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned int memory_mhz,
                                                         unsigned int *count, unsigned int *mhz) {
    (void)memory_mhz; /* there is one memory clock */
    return one_clock(device, NVML_CLOCK_GRAPHICS, count, mhz);
}

/* Data-center GPUs since Ampere stay in P0 while idle. */
static nvmlPstates_t pstate(const struct sim_gpu *gpu) {
    return gpu->architecture > SIM_TURING || gpu_moment(gpu).busy > 0 ? NVML_PSTATE_0 : NVML_PSTATE_8;
}

static unsigned long long event_reasons(const struct sim_gpu *gpu) {
    unsigned long long slowed = gpu_fault(gpu).clock_reasons;
    unsigned long long idle = nvmlClocksEventReasonNone;
    if (gpu_moment(gpu).busy == 0)
        idle = nvmlClocksEventReasonGpuIdle;
    return slowed ? slowed : idle;
}

#define EVENT_REASONS                                                                                                  \
    (nvmlClocksEventReasonGpuIdle | nvmlClocksEventReasonApplicationsClocksSetting | nvmlClocksEventReasonSwPowerCap | \
     nvmlClocksThrottleReasonHwSlowdown | nvmlClocksEventReasonSyncBoost | nvmlClocksEventReasonSwThermalSlowdown |    \
     nvmlClocksThrottleReasonHwThermalSlowdown | nvmlClocksThrottleReasonHwPowerBrakeSlowdown)

GETTER(nvmlDeviceGetPerformanceState, nvmlPstates_t, pstate(gpu))
GETTER(nvmlDeviceGetPowerState, nvmlPstates_t, pstate(gpu))
GETTER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, event_reasons(gpu))
GETTER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, event_reasons(gpu))
GETTER(nvmlDeviceGetSupportedClocksEventReasons, unsigned long long, EVENT_REASONS)
GETTER(nvmlDeviceGetSupportedClocksThrottleReasons, unsigned long long, EVENT_REASONS)
GETTER(nvmlDeviceGetAdaptiveClockInfoStatus, unsigned int, NVML_ADAPTIVE_CLOCKING_INFO_STATUS_ENABLED)

EXPORT nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, nvmlPerfPolicyType_t policy,
                                                 nvmlViolationTime_t *time) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!time || (unsigned)policy >= NVML_PERF_POLICY_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    *time = (nvmlViolationTime_t){.referenceTime = gpu_moment(gpu).now_ns / 1000};
    return NVML_SUCCESS;
}

/* --- power -------------------------------------------------------------------------------------------------- */

#define BUSY_POWER_SHARE 0.85 /* of the limit, while a GPU is busy all the time */

static unsigned power_mw(const struct sim_gpu *gpu) {
    return (unsigned)between(gpu->power_idle_mw, gpu->power_limit_mw * BUSY_POWER_SHARE, gpu_moment(gpu).busy);
}

/* Since boot, as if it had idled before the node was made. */
static unsigned long long energy_mj(const struct sim_gpu *gpu) {
    struct gpu_moment moment = gpu_moment(gpu);
    double idle = (double)moment.now_ns * gpu->power_idle_mw;
    double extra = (double)moment.busy_ns * (gpu->power_limit_mw * BUSY_POWER_SHARE - gpu->power_idle_mw);
    return (unsigned long long)((idle + extra) / 1e9);
}

GETTER(nvmlDeviceGetPowerUsage, unsigned int, power_mw(gpu))
GETTER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, energy_mj(gpu))
GETTER(nvmlDeviceGetPowerManagementMode, nvmlEnableState_t, NVML_FEATURE_ENABLED)
GETTER(nvmlDeviceGetPowerManagementLimit, unsigned int, gpu->power_limit_mw)
GETTER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, gpu->power_limit_mw)
GETTER(nvmlDeviceGetEnforcedPowerLimit, unsigned int, gpu->power_limit_mw)
GETTER(nvmlDeviceGetPowerSource, nvmlPowerSource_t, NVML_POWER_SOURCE_AC)
GETTER_PAIR(true, nvmlDeviceGetPowerManagementLimitConstraints, unsigned int, gpu->power_min_limit_mw,
            gpu->power_limit_mw)

/* --- temperature -------------------------------------------------------------------------------------------- */

static unsigned temperature_c(const struct sim_gpu *gpu) {
    return (unsigned)between(gpu->temperature_idle_c, gpu->temperature_busy_c, gpu_moment(gpu).busy);
}

nvmlReturn_t gpu_temperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned *celsius) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!celsius || sensor != NVML_TEMPERATURE_GPU)
        return NVML_ERROR_INVALID_ARGUMENT;
    *celsius = temperature_c(gpu);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor,
                                             unsigned int *celsius) {
    return gpu_temperature(device, sensor, celsius);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature) {
    if (!temperature)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (temperature->version != nvmlTemperature_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    unsigned celsius;
    nvmlReturn_t result = gpu_temperature(device, temperature->sensorType, &celsius);
    if (result == NVML_SUCCESS)
        temperature->temperature = (int)celsius;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t threshold,
                                                      unsigned int *celsius) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!celsius || (unsigned)threshold >= NVML_TEMPERATURE_THRESHOLD_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    switch (threshold) {
    case NVML_TEMPERATURE_THRESHOLD_SHUTDOWN:
        *celsius = gpu->temperature_shutdown_c;
        return NVML_SUCCESS;
    case NVML_TEMPERATURE_THRESHOLD_SLOWDOWN:
        *celsius = gpu->temperature_slowdown_c;
        return NVML_SUCCESS;
    case NVML_TEMPERATURE_THRESHOLD_MEM_MAX:
        *celsius = gpu->temperature_slowdown_c + 6;
        return NVML_SUCCESS;
    case NVML_TEMPERATURE_THRESHOLD_GPU_MAX:
        *celsius = gpu->temperature_slowdown_c - 4;
        return NVML_SUCCESS;
    default:
        return NVML_ERROR_NOT_SUPPORTED;
    }
}

EXPORT nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, nvmlMarginTemperature_t *margin) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!margin)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (margin->version != nvmlMarginTemperature_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    margin->marginTemperature = (int)gpu->temperature_slowdown_c - 4 - (int)temperature_c(gpu);
    return NVML_SUCCESS;
}

/* No profile has a fan: these cards are cooled by the server's. */
