#include "elf.h"

#include <stdatomic.h>
#include <string.h>

/* The linker's; hidden, so that reading it takes no relocation. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

#define VERSION_HIDDEN 0x8000u /* in DT_VERSYM: not the default version of the name */

/* glibc writes absolute addresses into the dynamic section of what it loads; the kernel's vDSO is left as it was. */
static const void *dynamic_address(uintptr_t base, uintptr_t value) {
    return (const void *)(value < base ? base + value : value);
}

static void read_dynamic(struct elf_library *library, const ElfW(Dyn) * dynamic) {
    const ElfW(Dyn) *soname = NULL;
    for (const ElfW(Dyn) *entry = dynamic; entry->d_tag != DT_NULL; entry++) {
        const void *address = dynamic_address(library->base, entry->d_un.d_ptr);
        switch (entry->d_tag) {
        case DT_SYMTAB:
            library->symbols = address;
            break;
        case DT_STRTAB:
            library->strings = address;
            break;
        case DT_GNU_HASH:
            library->gnu_hash = address;
            break;
        case DT_HASH:
            library->hash = address;
            break;
        case DT_VERSYM:
            library->versions = address;
            break;
        case DT_SONAME:
            soname = entry;
            break;
        default:
            break;
        }
    }
    if (soname && library->strings)
        library->soname = library->strings + soname->d_un.d_val;
}

static void read_headers(struct elf_library *library, uintptr_t base, const ElfW(Phdr) * headers, size_t count) {
    const ElfW(Dyn) *dynamic = NULL;
    *library = (struct elf_library){.base = base, .start = UINTPTR_MAX, .path = ""};
    for (const ElfW(Phdr) *header = headers; header < headers + count; header++) {
        uintptr_t start = base + header->p_vaddr;
        if (header->p_type == PT_DYNAMIC)
            dynamic = (const ElfW(Dyn) *)start;
        if (header->p_type != PT_LOAD)
            continue;
        if (start < library->start)
            library->start = start;
        if (start + header->p_memsz > library->end)
            library->end = start + header->p_memsz;
    }
    if (dynamic)
        read_dynamic(library, dynamic);
}

const struct elf_library *elf_self(void) {
    static struct elf_library self;
    static atomic_bool known;
    if (!atomic_load_explicit(&known, memory_order_acquire)) {
        struct elf_library found; /* two threads may both read it, and store the same bytes */
        uintptr_t base = (uintptr_t)&__ehdr_start;
        read_headers(&found, base, (const ElfW(Phdr) *)(base + __ehdr_start.e_phoff), __ehdr_start.e_phnum);
        self = found;
        atomic_store_explicit(&known, true, memory_order_release);
    }
    return &self;
}

struct visitor {
    bool (*visit)(const struct elf_library *library, void *data);
    void *data;
};

static int visit_headers(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    const struct visitor *visitor = data;
    struct elf_library library;
    read_headers(&library, info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
    if (info->dlpi_name)
        library.path = info->dlpi_name;
    return library.symbols && visitor->visit(&library, visitor->data);
}

bool elf_each(bool (*visit)(const struct elf_library *library, void *data), void *data) {
    struct visitor visitor = {visit, data};
    return dl_iterate_phdr(visit_headers, &visitor) != 0;
}

struct search {
    const char *soname;
    struct elf_library *found;
};

static bool has_soname(const struct elf_library *library, void *data) {
    const struct search *search = data;
    if (!library->soname || strcmp(library->soname, search->soname) != 0 || library->base == elf_self()->base)
        return false;
    *search->found = *library;
    return true;
}

bool elf_find(const char *soname, struct elf_library *ret_library) {
    struct search search = {soname, ret_library};
    return elf_each(has_soname, &search);
}

static bool defines(const struct elf_library *library, uint32_t index, const char *name) {
    const ElfW(Sym) *symbol = &library->symbols[index];
    return symbol->st_shndx != SHN_UNDEF && symbol->st_value != 0 &&
           strcmp(library->strings + symbol->st_name, name) == 0;
}

static bool is_default_version(const struct elf_library *library, uint32_t index) {
    return !library->versions || !(library->versions[index] & VERSION_HIDDEN);
}

/* The walks return the default version of the name, else any version, else 0: symbol 0 is never a definition. */
static uint32_t gnu_hash_index(const struct elf_library *library, const char *name) {
    uint32_t hash = 5381;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        hash = hash * 33 + *c;

    const uint32_t bucket_count = library->gnu_hash[0], first_symbol = library->gnu_hash[1];
    const uint32_t bloom_words = library->gnu_hash[2], bloom_shift = library->gnu_hash[3];
    const ElfW(Addr) *bloom = (const ElfW(Addr) *)&library->gnu_hash[4];
    const uint32_t *buckets = (const uint32_t *)&bloom[bloom_words];
    const uint32_t *chains = &buckets[bucket_count];
    const uint32_t bits = 8 * sizeof(ElfW(Addr));

    ElfW(Addr) word = bloom[hash / bits % bloom_words];
    if (!(word >> hash % bits & word >> (hash >> bloom_shift) % bits & 1))
        return 0;
    uint32_t index = buckets[hash % bucket_count], other_version = 0;
    if (index < first_symbol)
        return 0;
    for (;; index++) {
        uint32_t chain = chains[index - first_symbol];
        if ((chain | 1) == (hash | 1) && defines(library, index, name)) {
            if (is_default_version(library, index))
                return index;
            other_version = index;
        }
        if (chain & 1)
            return other_version;
    }
}

static uint32_t sysv_hash_index(const struct elf_library *library, const char *name) {
    uint32_t hash = 0;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
        hash = (hash << 4) + *c;
        hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
    }
    const uint32_t bucket_count = library->hash[0];
    const uint32_t *buckets = &library->hash[2], *chains = &buckets[bucket_count];
    uint32_t other_version = 0;
    for (uint32_t index = buckets[hash % bucket_count]; index; index = chains[index]) {
        if (!defines(library, index, name))
            continue;
        if (is_default_version(library, index))
            return index;
        other_version = index;
    }
    return other_version;
}

void *elf_symbol(const struct elf_library *library, const char *name) {
    uint32_t index = 0;
    if (library->gnu_hash)
        index = gnu_hash_index(library, name);
    else if (library->hash)
        index = sysv_hash_index(library, name);
    return index ? (void *)(library->base + library->symbols[index].st_value) : NULL;
}

static uint32_t symbol_count(const struct elf_library *library) {
    if (!library->gnu_hash)
        return library->hash ? library->hash[1] : 0;
    /* The last chain ends with the last symbol. */
    const uint32_t bucket_count = library->gnu_hash[0], first_symbol = library->gnu_hash[1];
    const uint32_t *buckets = (const uint32_t *)((const ElfW(Addr) *)&library->gnu_hash[4] + library->gnu_hash[2]);
    const uint32_t *chains = &buckets[bucket_count];
    uint32_t last = 0;
    for (uint32_t i = 0; i < bucket_count; i++)
        last = buckets[i] > last ? buckets[i] : last;
    if (last < first_symbol)
        return first_symbol;
    while (!(chains[last - first_symbol] & 1))
        last++;
    return last + 1;
}

bool elf_exports(const struct elf_library *library, const void *address) {
    uint32_t count = symbol_count(library);
    for (uint32_t i = 1; i < count; i++)
        if (library->symbols[i].st_shndx != SHN_UNDEF && library->symbols[i].st_value &&
            library->base + library->symbols[i].st_value == (uintptr_t)address)
            return true;
    return false;
}

void *elf_libc_symbol(const char *name) {
    static const char sonames[][16] = {"libc.so.6", "libdl.so.2", "libpthread.so.0"};
    for (unsigned i = 0; i < sizeof sonames / sizeof *sonames; i++) {
        struct elf_library library;
        void *address = elf_find(sonames[i], &library) ? elf_symbol(&library, name) : NULL;
        if (address)
            return address;
    }
    return NULL;
}
