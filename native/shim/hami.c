#include "hami.h"

#include <errno.h>
#include <gpuslice/agent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "hami_files.h"
#include "uuid.h"

#define MEMORY_LIMIT "CUDA_DEVICE_MEMORY_LIMIT"
#define SM_LIMIT "CUDA_DEVICE_SM_LIMIT"

/* The variable for one device, or else the one for all, or NULL. */
static const char *limit_of(const char *name, unsigned index) {
    char one[64];
    snprintf(one, sizeof one, "%s_%u", name, index);
    const char *value = getenv(one);
    return value ? value : getenv(name);
}

bool hami_requested(void) {
    const char *disabled = getenv("CUDA_DISABLE_CONTROL");
    if (disabled && strcasecmp(disabled, "true") == 0)
        return false;
    if (getenv(MEMORY_LIMIT) || getenv(SM_LIMIT))
        return true;
    for (unsigned i = 0; i < TENANT_GPUS_MAX; i++)
        if (limit_of(MEMORY_LIMIT, i) || limit_of(SM_LIMIT, i))
            return true;
    return false;
}

/* "1024m", "2g", "512k" or bytes; 0 means no limit. */
static bool parse_size(const char *text, uint64_t *ret_bytes) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    static const char suffixes[] = "kmg";
    const char *suffix = *end ? strchr(suffixes, *end | 0x20) : NULL;
    unsigned shift = suffix ? 10 * (unsigned)(suffix - suffixes + 1) : 0;
    *ret_bytes = (uint64_t)number << shift;
    return errno == 0 && end != text && *text != '-' && end[suffix != NULL] == '\0' && *ret_bytes >> shift == number;
}

static bool parse_percent(const char *text, uint32_t *ret_percent) {
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    *ret_percent = number == 0 || number > 100 ? 100 : (uint32_t)number; /* 0 means no limit */
    return end != text && *end == '\0' && *text != '-';
}

/* A process tree alone has nobody to yield to, so HAMi's `default` and `force` both mean the cap. */
static bool is_uncapped(void) {
    const char *policy = getenv("GPU_CORE_UTILIZATION_POLICY");
    return policy && strcasecmp(policy, "disable") == 0;
}

static int read_limits(unsigned index, uint64_t total_bytes, struct gpuslice_share_limits *ret_limits) {
    const char *memory = limit_of(MEMORY_LIMIT, index), *cores = limit_of(SM_LIMIT, index);
    const char *priority = getenv("CUDA_TASK_PRIORITY");
    *ret_limits = (struct gpuslice_share_limits){
        .memory_bytes = total_bytes,
        .cores = 100,
        .weight = 1,
        .policy = GPUSLICE_POLICY_HARD,
        .priority = priority && strcmp(priority, "0") == 0 ? GPUSLICE_PRIORITY_HIGH : GPUSLICE_PRIORITY_LOW,
    };
    uint64_t memory_bytes = 0;
    if (memory && !parse_size(memory, &memory_bytes)) {
        tenant_complain(MEMORY_LIMIT "=%s is no size: write a number with k, m or g", memory);
        return -EINVAL;
    }
    if (memory_bytes && memory_bytes < ret_limits->memory_bytes)
        ret_limits->memory_bytes = memory_bytes;
    if (cores && !parse_percent(cores, &ret_limits->cores)) {
        tenant_complain(SM_LIMIT "=%s is no percentage: write a number from 0 to 100", cores);
        return -EINVAL;
    }
    if (is_uncapped())
        ret_limits->cores = 100;
    return 0;
}

int hami_prepare(void) {
    struct gpuslice_share_limits limits;
    for (unsigned i = 0; i < TENANT_GPUS_MAX; i++) {
        int error = read_limits(i, UINT64_MAX, &limits);
        if (error)
            return error;
    }
    return hami_files_prepare();
}

static int open_device(struct tenant *tenant, unsigned index, const char *uuid, uint64_t total_bytes) {
    struct gpuslice_share_limits limits;
    for (unsigned i = 0; i < tenant->gpu_count; i++)
        if (uuid_equal(tenant->gpus[i].share.grant->gpu_uuid, uuid))
            return 0;
    int error = tenant->gpu_count < TENANT_GPUS_MAX ? read_limits(index, total_bytes, &limits) : -E2BIG;
    if (!error)
        error = hami_files_open(uuid, &limits, &tenant->gpus[tenant->gpu_count].share);
    if (error)
        return error;
    tenant->gpus[tenant->gpu_count++].device = -1;
    return 0;
}

int hami_open_device(struct tenant *tenant, unsigned index, const char *uuid, uint64_t total_bytes) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* cuInit and nvmlInit may come at once */
    pthread_mutex_lock(&lock);
    int error = open_device(tenant, index, uuid, total_bytes);
    pthread_mutex_unlock(&lock);
    return error;
}
