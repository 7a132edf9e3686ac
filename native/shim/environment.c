#include "environment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The value in this entry, or NULL: it is another variable's. */
static char *value_in(char *entry, const char *name) {
    size_t length = strlen(name);
    return strncmp(entry, name, length) == 0 && entry[length] == '=' ? entry + length + 1 : NULL;
}

bool environment_set(struct environment *change, const char *name, const char *value) {
    size_t count = 0, kept = 0, entry_bytes = strlen(name) + strlen(value) + 2;
    while (environ && environ[count])
        count++;
    char **entries = malloc((count + 2) * sizeof *entries);
    char *entry = malloc(entry_bytes);
    if (!entries || !entry) {
        free(entries);
        free(entry);
        return false;
    }
    snprintf(entry, entry_bytes, "%s=%s", name, value);
    for (size_t i = 0; i < count; i++)
        if (!value_in(environ[i], name))
            entries[kept++] = environ[i];
    entries[kept++] = entry;
    entries[kept] = NULL;
    *change = (struct environment){environ, entries, name};
    environ = entries;
    return true;
}

void environment_restore(const struct environment *change) {
    if (environ == change->after) {
        environ = change->before; /* ours stays allocated: another thread may still be reading it */
        return;
    }
    /* Another thread has called setenv meanwhile, and libc copied our array: undo the one entry. */
    char *value = NULL;
    for (char **entry = change->before; entry && *entry && !value; entry++)
        value = value_in(*entry, change->name);
    if (value)
        setenv(change->name, value, 1);
    else
        unsetenv(change->name);
}
