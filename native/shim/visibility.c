#include "visibility.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define VARIABLE "CUDA_VISIBLE_DEVICES"

static const char *uuid_of(const struct tenant *tenant, unsigned index) {
    return tenant->gpus[index].share.grant->gpu_uuid;
}

/* The UUID that one entry of the user's list names, or NULL. */
static const char *named_by(const char *entry, size_t length, const struct tenant *tenant) {
    if (length && isdigit((unsigned char)*entry)) {
        char *end;
        unsigned long index = strtoul(entry, &end, 10);
        return end == entry + length && index < tenant->gpu_count ? uuid_of(tenant, (unsigned)index) : NULL;
    }
    const char *found = NULL;
    for (unsigned i = 0; length > strlen("GPU-") && i < tenant->gpu_count; i++) {
        if (strncasecmp(uuid_of(tenant, i), entry, length) != 0)
            continue;
        if (found)
            return NULL; /* an abbreviation of two */
        found = uuid_of(tenant, i);
    }
    return found;
}

/* Writes the driver's list: room for every share's UUID with its comma. */
static void write_list(char *list, const char *user, const struct tenant *tenant) {
    char *end = list;
    *list = '\0';
    if (!user) {
        for (unsigned i = 0; i < tenant->gpu_count; i++)
            end = stpcpy(stpcpy(end, i ? "," : ""), uuid_of(tenant, i));
        return;
    }
    for (unsigned written = 0; *user && written < tenant->gpu_count; written++) {
        user += strspn(user, " \t");
        size_t length = strcspn(user, ", \t");
        const char *uuid = named_by(user, length, tenant);
        if (!uuid)
            return;
        end = stpcpy(stpcpy(end, end == list ? "" : ","), uuid);
        user += length;
        user += strspn(user, " \t");
        user += *user == ',';
    }
}

bool visibility_narrow(struct environment *change, const struct tenant *tenant) {
    char list[TENANT_GPUS_MAX * (GPUSLICE_UUID_BYTES + 1)];
    write_list(list, getenv(VARIABLE), tenant);
    return environment_set(change, VARIABLE, list);
}
