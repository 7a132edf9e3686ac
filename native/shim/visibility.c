#include "visibility.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define VARIABLE "CUDA_VISIBLE_DEVICES="

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

/* Writes the driver's list: room for the name and every share's UUID with its comma. */
static void write_variable(char *variable, const char *user, const struct tenant *tenant) {
    char *end = stpcpy(variable, VARIABLE);
    const char *start = end;
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
        end = stpcpy(stpcpy(end, end == start ? "" : ","), uuid);
        user += length;
        user += strspn(user, " \t");
        user += *user == ',';
    }
}

static bool is_variable(const char *entry) {
    return strncmp(entry, VARIABLE, strlen(VARIABLE)) == 0;
}

bool visibility_narrow(struct visibility *visibility, const struct tenant *tenant) {
    size_t count = 0;
    while (environ && environ[count])
        count++;
    char **ours = malloc((count + 2) * sizeof *ours);
    char *variable = malloc(sizeof VARIABLE + tenant->gpu_count * (GPUSLICE_UUID_BYTES + 1));
    if (!ours || !variable) {
        free(ours);
        free(variable);
        return false;
    }
    write_variable(variable, getenv("CUDA_VISIBLE_DEVICES"), tenant);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!is_variable(environ[i]))
            ours[kept++] = environ[i];
    ours[kept++] = variable;
    ours[kept] = NULL;
    /* The array is exchanged whole, because setenv moves entries under the feet of a thread that calls getenv. */
    *visibility = (struct visibility){environ, ours};
    environ = ours;
    return true;
}

void visibility_restore(const struct visibility *visibility) {
    if (environ == visibility->ours) {
        environ = visibility->environment; /* ours stays allocated: another thread may still be reading it */
        return;
    }
    /* Another thread has called setenv meanwhile, and libc copied our array: undo the one entry. */
    char *variable = NULL;
    for (char **entry = visibility->environment; entry && *entry; entry++)
        if (is_variable(*entry))
            variable = *entry + strlen(VARIABLE);
    if (variable)
        setenv("CUDA_VISIBLE_DEVICES", variable, 1);
    else
        unsetenv("CUDA_VISIBLE_DEVICES");
}
