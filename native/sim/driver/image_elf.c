/* ELF cubins. Kernels are the functions whose symbol says "entry"; .nv.info.NAME lists a kernel's parameters and
 * .nv.info the registers; variables are the objects of .nv.global, .nv.global.init and .nv.constant3. */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"

#define STO_CUDA_ENTRY 0x10
#define INFO_FORMAT_SIZED 4

enum info_attribute {
    INFO_MAX_THREADS = 0x05,
    INFO_FRAME_SIZE = 0x11,
    INFO_PARAMETER = 0x17,
    INFO_REGISTERS = 0x2f,
};

struct elf {
    const unsigned char *data;
    size_t bytes;
    const Elf64_Ehdr *header;
    const Elf64_Shdr *sections;
    const char *names;
    size_t names_bytes;
};

static bool within(const struct elf *elf, uint64_t offset, uint64_t bytes) {
    return offset <= elf->bytes && bytes <= elf->bytes - offset;
}

size_t image_elf_bytes(const void *data) {
    const Elf64_Ehdr *header = data;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
        return 0;
    size_t end = header->e_shoff + (size_t)header->e_shnum * sizeof(Elf64_Shdr);
    size_t program_end = header->e_phoff + (size_t)header->e_phnum * sizeof(Elf64_Phdr);
    const Elf64_Shdr *sections = (const void *)((const unsigned char *)data + header->e_shoff);
    for (size_t i = 0; header->e_shoff && i < header->e_shnum; i++) {
        size_t last = sections[i].sh_offset + (sections[i].sh_type == SHT_NOBITS ? 0 : sections[i].sh_size);
        if (last > end)
            end = last;
    }
    return end > program_end ? end : program_end;
}

static bool open_elf(struct elf *elf, const void *data, size_t bytes) {
    *elf = (struct elf){.data = data, .bytes = bytes, .header = data};
    const Elf64_Ehdr *header = elf->header;
    if (bytes < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    if (header->e_machine != EM_CUDA || header->e_shstrndx >= header->e_shnum)
        return false;
    if (!within(elf, header->e_shoff, (uint64_t)header->e_shnum * sizeof(Elf64_Shdr)))
        return false;
    elf->sections = (const void *)(elf->data + header->e_shoff);
    for (size_t i = 0; i < header->e_shnum; i++) {
        const Elf64_Shdr *section = &elf->sections[i];
        if (section->sh_type != SHT_NOBITS && !within(elf, section->sh_offset, section->sh_size))
            return false;
    }
    const Elf64_Shdr *names = &elf->sections[header->e_shstrndx];
    elf->names = (const char *)elf->data + names->sh_offset;
    elf->names_bytes = names->sh_size;
    return names->sh_size && elf->names[names->sh_size - 1] == '\0';
}

static const char *section_name(const struct elf *elf, size_t index) {
    if (index >= elf->header->e_shnum || elf->sections[index].sh_name >= elf->names_bytes)
        return "";
    return elf->names + elf->sections[index].sh_name;
}

/* ABI 8 (CUDA 13) keeps the architecture one byte higher than ABI 7. */
static uint32_t target_of(const Elf64_Ehdr *header) {
    return header->e_ident[EI_ABIVERSION] >= 8 ? header->e_flags >> 8 & 0xffff : header->e_flags & 0xff;
}

static uint32_t word_at(const unsigned char *data, size_t index) {
    uint32_t word;
    memcpy(&word, data + index * sizeof word, sizeof word);
    return word;
}

/* Calls `take` for each sized attribute of an .nv.info section. */
typedef bool take_info(void *context, enum info_attribute attribute, const unsigned char *value, size_t bytes);
static bool read_info(const struct elf *elf, const Elf64_Shdr *section, take_info *take, void *context) {
    const unsigned char *at = elf->data + section->sh_offset, *end = at + section->sh_size;
    while (end - at >= 4) {
        size_t bytes = at[0] == INFO_FORMAT_SIZED ? (size_t)(at[2] | at[3] << 8) : 0;
        if (bytes > (size_t)(end - at) - 4)
            return false;
        if (bytes && !take(context, at[1], at + 4, bytes))
            return false;
        at += 4 + bytes;
    }
    return true;
}

static bool take_kernel_info(void *context, enum info_attribute attribute, const unsigned char *value, size_t bytes) {
    struct image_function *function = context;
    if (attribute == INFO_PARAMETER && bytes >= 12)
        return image_add_parameter(function, word_at(value, 1) >> 16, word_at(value, 2) >> 18);
    if (attribute == INFO_MAX_THREADS && bytes >= 12)
        function->max_threads = word_at(value, 0) * word_at(value, 1) * word_at(value, 2);
    return true;
}

struct symbols {
    const Elf64_Sym *table;
    size_t count;
    const char *names;
    size_t names_bytes;
    struct image *image;
};

static bool take_module_info(void *context, enum info_attribute attribute, const unsigned char *value, size_t bytes) {
    const struct symbols *symbols = context;
    if ((attribute != INFO_REGISTERS && attribute != INFO_FRAME_SIZE) || bytes < 8)
        return true;
    uint32_t symbol = word_at(value, 0);
    if (symbol >= symbols->count)
        return false;
    const char *name = symbols->names + symbols->table[symbol].st_name;
    struct image_function *function = image_find_function(symbols->image, name, strlen(name));
    if (!function)
        return true;
    *(attribute == INFO_REGISTERS ? &function->registers : &function->local_bytes) = word_at(value, 1);
    return true;
}

static bool find_symbols(const struct elf *elf, struct symbols *symbols) {
    for (size_t i = 0; i < elf->header->e_shnum; i++) {
        const Elf64_Shdr *section = &elf->sections[i];
        if (section->sh_type != SHT_SYMTAB || section->sh_link >= elf->header->e_shnum)
            continue;
        const Elf64_Shdr *names = &elf->sections[section->sh_link];
        symbols->table = (const void *)(elf->data + section->sh_offset);
        symbols->count = section->sh_size / sizeof(Elf64_Sym);
        symbols->names = (const char *)elf->data + names->sh_offset;
        symbols->names_bytes = names->sh_size;
        for (size_t s = 0; s < symbols->count; s++)
            if (symbols->table[s].st_name >= names->sh_size)
                return false;
        return names->sh_size && symbols->names[names->sh_size - 1] == '\0';
    }
    return false;
}

static bool add_kernel(const struct elf *elf, struct image *image, const char *name, uint64_t code_bytes) {
    struct image_function *function = image_add_function(image, name, strlen(name));
    if (!function)
        return false;
    function->ptx_version = target_of(elf->header);
    image->code_bytes += code_bytes;
    for (size_t i = 0; i < elf->header->e_shnum; i++) {
        const char *section = section_name(elf, i);
        if (!strncmp(section, ".nv.shared.", 11) && !strcmp(section + 11, name))
            function->shared_bytes = (uint32_t)elf->sections[i].sh_size;
        if (!strncmp(section, ".nv.info.", 9) && !strcmp(section + 9, name) &&
            !read_info(elf, &elf->sections[i], take_kernel_info, function))
            return false;
    }
    return true;
}

static bool add_variable(const struct elf *elf, struct image *image, const char *name, const Elf64_Sym *symbol) {
    const char *section = section_name(elf, symbol->st_shndx);
    bool zeros = !strcmp(section, ".nv.global");
    if (!zeros && strcmp(section, ".nv.global.init") != 0 && strcmp(section, ".nv.constant3") != 0)
        return true;
    struct image_variable *variable = image_add_variable(image, name, strlen(name), symbol->st_size);
    if (!variable || zeros)
        return variable;
    uint64_t offset = elf->sections[symbol->st_shndx].sh_offset + symbol->st_value;
    if (!within(elf, offset, symbol->st_size))
        return false;
    variable->initial = malloc(symbol->st_size ? symbol->st_size : 1);
    if (variable->initial)
        memcpy(variable->initial, elf->data + offset, symbol->st_size);
    return variable->initial;
}

static int by_offset(const void *a, const void *b) {
    const struct image_parameter *left = a, *right = b;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

enum image_status image_parse_elf(const void *data, size_t bytes, uint32_t capability, struct image *image) {
    struct elf elf;
    struct symbols symbols = {.image = image};
    if (!open_elf(&elf, data, bytes))
        return IMAGE_MALFORMED;
    uint32_t target = target_of(elf.header);
    /* A cubin runs on its own major architecture, from its own minor on. */
    if (target / 10 != capability / 10 || target > capability)
        return IMAGE_WRONG_TARGET;
    if (!find_symbols(&elf, &symbols))
        return IMAGE_MALFORMED;
    for (size_t i = 0; i < symbols.count; i++) {
        const Elf64_Sym *symbol = &symbols.table[i];
        const char *name = symbols.names + symbol->st_name;
        bool ok = true;
        if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_other & STO_CUDA_ENTRY)
            ok = add_kernel(&elf, image, name, symbol->st_size);
        else if (ELF64_ST_TYPE(symbol->st_info) == STT_OBJECT && symbol->st_shndx < elf.header->e_shnum)
            ok = add_variable(&elf, image, name, symbol);
        if (!ok)
            return IMAGE_MALFORMED;
    }
    for (size_t i = 0; i < elf.header->e_shnum; i++)
        if (!strcmp(section_name(&elf, i), ".nv.info") &&
            !read_info(&elf, &elf.sections[i], take_module_info, &symbols))
            return IMAGE_MALFORMED;
    for (uint32_t i = 0; i < image->function_count; i++) { /* the compiler lists parameters last to first */
        struct image_function *function = &image->functions[i];
        if (function->parameter_count)
            qsort(function->parameters, function->parameter_count, sizeof *function->parameters, by_offset);
    }
    return IMAGE_OK;
}
