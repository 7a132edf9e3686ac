/* Fat binaries: a header, then entries that are each PTX or a cubin for one architecture. The best one is taken: the
 * newest cubin that runs here, else the newest PTX. LZ4 entries are unpacked; zstd ones count as not there. */
#include <stdlib.h>
#include <string.h>

#include "image.h"

enum { ENTRY_PTX = 1, ENTRY_ELF = 2 };
#define ENTRY_LZ4 UINT64_C(0x2000)
#define ENTRY_ZSTD UINT64_C(0x8000)

struct fatbin_header {
    uint32_t magic;
    uint16_t version, header_bytes;
    uint64_t bytes; /* after the header */
};

struct fatbin_entry {
    uint16_t kind, version;
    uint32_t header_bytes;
    uint64_t bytes; /* after the entry's header */
    uint32_t compressed_bytes, reserved0;
    uint16_t minor, major;
    uint32_t architecture;
    uint32_t name_offset, name_bytes;
    uint64_t flags;
    uint64_t reserved1;
    uint64_t unpacked_bytes;
};

/* An LZ4 length: four bits, continued by bytes as long as they are 255. */
static bool lz4_length(const unsigned char **at, const unsigned char *end, size_t *length) {
    if (*length != 15)
        return true;
    unsigned char byte;
    do {
        if (*at == end)
            return false;
        byte = *(*at)++;
        *length += byte;
    } while (byte == 255);
    return true;
}

static bool lz4_unpack(const unsigned char *at, size_t bytes, unsigned char *out, size_t capacity) {
    const unsigned char *end = at + bytes;
    size_t filled = 0;
    while (at < end) {
        size_t literals = *at >> 4, match = *at & 15;
        at++;
        if (!lz4_length(&at, end, &literals))
            return false;
        if (literals > (size_t)(end - at) || literals > capacity - filled)
            return false;
        memcpy(out + filled, at, literals);
        at += literals;
        filled += literals;
        if (at == end)
            break;
        if (end - at < 2)
            return false;
        size_t distance = (size_t)(at[0] | at[1] << 8);
        at += 2;
        if (!lz4_length(&at, end, &match))
            return false;
        match += 4;
        if (!distance || distance > filled || match > capacity - filled)
            return false;
        for (; match; match--, filled++)
            out[filled] = out[filled - distance]; /* it may overlap itself */
    }
    return filled == capacity;
}

static enum image_status parse_entry(const struct fatbin_entry *entry, uint32_t capability, struct image *image) {
    const unsigned char *payload = (const unsigned char *)entry + entry->header_bytes;
    size_t bytes = entry->bytes;
    unsigned char *unpacked = NULL;
    if (entry->flags & ENTRY_LZ4) {
        bytes = entry->unpacked_bytes;
        unpacked = malloc(bytes + 1);
        if (!unpacked)
            return IMAGE_NO_MEMORY;
        unpacked[bytes] = '\0';
        if (!lz4_unpack(payload, entry->compressed_bytes, unpacked, bytes)) {
            free(unpacked);
            return IMAGE_MALFORMED;
        }
        payload = unpacked;
    }
    enum image_status status =
        entry->kind == ENTRY_ELF
            ? image_parse_elf(payload, bytes, capability, image)
            : image_parse_ptx((const char *)payload, strnlen((const char *)payload, bytes), capability, image);
    free(unpacked);
    return status;
}

static bool runs(const struct fatbin_entry *entry, uint32_t capability) {
    if (entry->flags & ENTRY_ZSTD || entry->architecture > capability)
        return false;
    return entry->kind == ENTRY_PTX || (entry->kind == ENTRY_ELF && entry->architecture / 10 == capability / 10);
}

enum image_status image_parse_fatbin(const void *data, size_t bytes, uint32_t capability, struct image *image) {
    const struct fatbin_header *header = data;
    if (bytes && (bytes < sizeof *header || header->bytes > bytes - header->header_bytes))
        return IMAGE_MALFORMED;
    const unsigned char *at = (const unsigned char *)data + header->header_bytes, *end = at + header->bytes;
    const struct fatbin_entry *best = NULL;
    while ((size_t)(end - at) >= sizeof *best) {
        const struct fatbin_entry *entry = (const void *)at;
        if (entry->header_bytes < sizeof *entry || entry->bytes > (size_t)(end - at) - entry->header_bytes)
            return IMAGE_MALFORMED;
        if (runs(entry, capability) && (!best || entry->kind > best->kind ||
                                        (entry->kind == best->kind && entry->architecture > best->architecture)))
            best = entry;
        at += entry->header_bytes + entry->bytes;
    }
    return best ? parse_entry(best, capability, image) : IMAGE_WRONG_TARGET;
}
