/* Reading the agent's word: is this a grant of ours, and which limits are in force. */
#include "internal.h"

#include <errno.h>
#include <string.h>

/* CRC-32 (IEEE 802.3, reflected), four bits at a time: a small table, and reads of unchanged limits skip it. */
uint32_t region_limits_checksum(const struct gpuslice_limits *limits) {
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    const unsigned char *bytes = (const unsigned char *)limits;
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < offsetof(struct gpuslice_limits, checksum); i++) {
        crc = table[(crc ^ bytes[i]) & 15] ^ crc >> 4;
        crc = table[(crc ^ (uint32_t)bytes[i] >> 4) & 15] ^ crc >> 4;
    }
    return ~crc;
}

static int check_header(const char *name, bool magic, uint32_t major, uint32_t minor, uint64_t size,
                        uint64_t file_bytes, uint64_t expected, const char **reason) {
    if (!magic)
        *reason = region_reason("the %s file is corrupt: it does not begin with gpuslice's mark", name);
    else if (major != GPUSLICE_ABI_MAJOR)
        *reason = region_reason("the %s file has ABI %u.%u and this library speaks %u.%u: start the program anew with "
                                "a share made by an agent of the same major version",
                                name, major, minor, GPUSLICE_ABI_MAJOR, GPUSLICE_ABI_MINOR);
    else if (size != expected || file_bytes != expected)
        *reason = region_reason("the %s file is corrupt: it has %llu bytes instead of %llu", name,
                                (unsigned long long)file_bytes, (unsigned long long)expected);
    else
        return 0;
    return -EPROTO;
}

int region_check_grant(const struct gpuslice_grant *grant, uint64_t file_bytes, const char **reason) {
    int error = check_header("grant", grant->magic == GPUSLICE_GRANT_MAGIC, grant->abi_major, grant->abi_minor,
                             grant->size, file_bytes, sizeof(*grant), reason);

    if (error)
        return error;
    if (memchr(grant->gpu_uuid, 0, sizeof(grant->gpu_uuid)) && memchr(grant->share_id, 0, sizeof(grant->share_id)))
        return 0;
    *reason = region_reason("the grant file is corrupt: its GPU UUID or share id has no end");
    return -EPROTO;
}

int region_check_usage(const struct gpuslice_usage *usage, uint64_t file_bytes, const char **reason) {
    int error = check_header("usage", usage->magic == GPUSLICE_USAGE_MAGIC, usage->abi_major, usage->abi_minor,
                             usage->size, file_bytes, sizeof(*usage), reason);

    if (error || usage->slot_count == GPUSLICE_SLOTS)
        return error;
    *reason = region_reason("the usage file is corrupt: it speaks of %u slots instead of %u", usage->slot_count,
                            GPUSLICE_SLOTS);
    return -EPROTO;
}

/* The agent may be writing this copy: each word is read whole, and the checksum tells whether they belong together. */
static bool read_copy(const struct gpuslice_limits *shared, struct gpuslice_limits *limits) {
    typedef uint64_t __attribute__((may_alias)) word;
    _Static_assert(sizeof(*shared) % sizeof(word) == 0, "limits are whole words");

    for (size_t i = 0; i < sizeof(*shared) / sizeof(word); i++)
        ((word *)limits)[i] = __atomic_load_n((const word *)shared + i, __ATOMIC_RELAXED);
    return limits->checksum == region_limits_checksum(limits) && limits->memory_bytes != 0;
}

bool gpuslice_limits_read(const struct gpuslice_grant *grant, struct gpuslice_limits *limits) {
    /* A copy can only be torn when the agent resized meanwhile, and then the other one has just come into force. An
     * agent would have to resize twice within every one of these reads for all of them to fail. */
    for (int attempt = 0; attempt < 8; attempt++) {
        /* acquire: the copy is read as it was when the agent stored the index */
        uint32_t index = atomic_load_explicit(&grant->limits_index, memory_order_acquire) ^ (uint32_t)attempt;
        struct gpuslice_limits copy;

        if (read_copy(&grant->limits[index & 1], &copy)) {
            *limits = copy;
            return true;
        }
    }
    return false;
}
