#include "uuid.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

void uuid_format(const CUuuid *uuid, char text[UUID_TEXT_BYTES]) {
    char *at = text + sprintf(text, "GPU");
    for (unsigned i = 0; i < sizeof uuid->bytes; i++) {
        bool starts_group = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
        at += sprintf(at, "%s%02x", starts_group ? "-" : "", (unsigned char)uuid->bytes[i]);
    }
}

static const char *without_prefix(const char *text) {
    return strncmp(text, "GPU-", 4) == 0 || strncmp(text, "MIG-", 4) == 0 ? text + 4 : text;
}

bool uuid_equal(const char *a, const char *b) {
    return strcasecmp(without_prefix(a), without_prefix(b)) == 0;
}
