#include "variants.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The table as it lies in the repository, in pages that are read only when the driver's answer is not plain. */
__asm__(".pushsection .rodata\n"
        "variants_table: .incbin \"" GPUSLICE_CUDA_SYMBOLS "\"\n"
        ".byte 0\n"
        ".popsection\n");
extern const char variants_table[] __attribute__((visibility("hidden")));

static bool ends_with(const char *name, size_t length, const char *suffix) {
    size_t suffix_length = strlen(suffix);
    return length > suffix_length && memcmp(name + length - suffix_length, suffix, suffix_length) == 0;
}

static size_t base_length_of(const char *name) {
    size_t length = strlen(name);
    if (ends_with(name, length, "_ptsz") || ends_with(name, length, "_ptds"))
        length -= strlen("_ptsz");
    if (length > 3 && memcmp(name + length - 3, "_v", 2) == 0)
        length -= strlen("_v2");
    return length;
}

bool variant_same_base(const char *a, const char *b) {
    size_t length = base_length_of(a);
    return strncmp(a, b, length) == 0 && length == base_length_of(b);
}

struct line {
    char name[VARIANT_NAME_BYTES], base[VARIANT_NAME_BYTES], stream[8];
    int version;
};

static bool read_line(const char *text, struct line *line) {
    return sscanf(text, "%63s %63s %d %7s", line->name, line->base, &line->version, line->stream) == 4;
}

bool variant_find(const char *symbol, int cuda_version, bool per_thread_stream, char ret_name[VARIANT_NAME_BYTES]) {
    size_t base_length = base_length_of(symbol);
    int newest = 0;
    for (const char *text = variants_table; *text; text += strcspn(text, "\n") + 1) {
        struct line line;
        if (strncmp(text, symbol, base_length) != 0 || !read_line(text, &line))
            continue;
        bool per_thread = strcmp(line.stream, "none") != 0;
        if (strlen(line.base) != base_length || line.version > cuda_version || (per_thread && !per_thread_stream))
            continue;
        /* A per-thread twin is never older than its legacy one, so of equals the twin is meant. */
        if (line.version > newest || (line.version == newest && per_thread)) {
            newest = line.version;
            memcpy(ret_name, line.name, VARIANT_NAME_BYTES);
        }
    }
    return newest != 0;
}
