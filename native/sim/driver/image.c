#include "image.h"

#include <stdlib.h>
#include <string.h>

#define ELF_MAGIC "\177ELF"
#define FATBIN_MAGIC UINT32_C(0xba55ed50)
#define FATBIN_WRAPPER_MAGIC UINT32_C(0x466243b1)

/* What nvcc puts into a program: a pointer to the fat binary proper. */
struct fatbin_wrapper {
    uint32_t magic, version;
    const void *data;
    const void *file_name_or_prelinked;
};

static bool looks_like_ptx(const char *text, size_t bytes) {
    size_t length = bytes ? bytes : strlen(text);
    if (length > 4096)
        length = 4096;
    return memmem(text, length, ".version", 8) != NULL;
}

enum image_status image_parse(const void *data, size_t bytes, uint32_t capability, struct image *ret_image) {
    struct image image = {0};
    enum image_status status = IMAGE_MALFORMED;
    uint32_t magic = 0;
    if (!bytes || bytes >= sizeof magic)
        memcpy(&magic, data, sizeof magic);

    if (magic == FATBIN_WRAPPER_MAGIC) {
        const struct fatbin_wrapper *wrapper = data;
        status = image_parse_fatbin(wrapper->data, 0, capability, &image);
    } else if (magic == FATBIN_MAGIC)
        status = image_parse_fatbin(data, bytes, capability, &image);
    else if (!memcmp(&magic, ELF_MAGIC, 4))
        status = image_parse_elf(data, bytes ? bytes : image_elf_bytes(data), capability, &image);
    else if (looks_like_ptx(data, bytes))
        status = image_parse_ptx(data, bytes ? strnlen(data, bytes) : strlen(data), capability, &image);

    if (status)
        image_free(&image);
    else
        *ret_image = image;
    return status;
}

void image_free(struct image *image) {
    for (uint32_t i = 0; i < image->function_count; i++) {
        free(image->functions[i].name);
        free(image->functions[i].parameters);
    }
    for (uint32_t i = 0; i < image->variable_count; i++) {
        free(image->variables[i].name);
        free(image->variables[i].initial);
    }
    free(image->functions);
    free(image->variables);
    *image = (struct image){0};
}

static void *grow(void *array, uint32_t count, size_t element) {
    if (count & (count - 1))
        return array; /* capacities are powers of two */
    return realloc(array, (count ? (size_t)count * 2 : 1) * element);
}

struct image_function *image_add_function(struct image *image, const char *name, size_t length) {
    struct image_function *functions = grow(image->functions, image->function_count, sizeof *functions);
    if (!functions)
        return NULL;
    image->functions = functions;
    struct image_function *function = &functions[image->function_count];
    *function = (struct image_function){.name = strndup(name, length), .registers = 32};
    if (!function->name)
        return NULL;
    image->function_count++;
    return function;
}

struct image_variable *image_add_variable(struct image *image, const char *name, size_t length, uint64_t bytes) {
    struct image_variable *variables = grow(image->variables, image->variable_count, sizeof *variables);
    if (!variables)
        return NULL;
    image->variables = variables;
    struct image_variable *variable = &variables[image->variable_count];
    *variable = (struct image_variable){.name = strndup(name, length), .bytes = bytes};
    if (!variable->name)
        return NULL;
    image->variable_count++;
    return variable;
}

bool image_add_parameter(struct image_function *function, uint32_t offset, uint32_t size) {
    struct image_parameter *parameters = grow(function->parameters, function->parameter_count, sizeof *parameters);
    if (!parameters)
        return false;
    function->parameters = parameters;
    parameters[function->parameter_count++] = (struct image_parameter){offset, size};
    return true;
}

struct image_function *image_find_function(const struct image *image, const char *name, size_t length) {
    for (uint32_t i = 0; i < image->function_count; i++) {
        struct image_function *function = &image->functions[i];
        if (strlen(function->name) == length && !memcmp(function->name, name, length))
            return function;
    }
    return NULL;
}
