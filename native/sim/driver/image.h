/* What a module image says about itself: its kernels, their parameters, its variables. Nothing is executed.
 *
 * Three forms are read: PTX text, an ELF cubin, and a fat binary that contains either. The code itself is only
 * weighed, because a module costs device memory.
 */
#ifndef GPUSLICE_SIM_IMAGE_H
#define GPUSLICE_SIM_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image_parameter {
    uint32_t offset; /* bytes from the start of the parameter block */
    uint32_t size;   /* bytes */
};

struct image_function {
    char *name;
    struct image_parameter *parameters;
    uint32_t parameter_count;
    uint32_t registers;    /* of a thread */
    uint32_t shared_bytes; /* static, of a block */
    uint32_t local_bytes;  /* of a thread */
    uint32_t max_threads;  /* of a block; 0: the device's own limit */
    uint32_t ptx_version;  /* 10 * major + minor of the target it was written for */
};

struct image_variable {
    char *name;
    uint64_t bytes;
    void *initial; /* `bytes` long; NULL: zeros */
};

struct image {
    struct image_function *functions;
    struct image_variable *variables;
    uint32_t function_count;
    uint32_t variable_count;
    uint64_t code_bytes;
};

enum image_status {
    IMAGE_OK = 0,
    IMAGE_MALFORMED,    /* neither PTX, nor ELF, nor a fat binary, or a broken one */
    IMAGE_WRONG_TARGET, /* for another or a newer architecture than `capability` */
    IMAGE_NO_MEMORY,
};

/* `capability` is 10 * major + minor. `bytes` 0: unknown, as in cuModuleLoadData; PTX is then NUL-terminated text and
 * the others carry their length. On success the caller owns *ret_image. */
enum image_status image_parse(const void *data, size_t bytes, uint32_t capability, struct image *ret_image);
void image_free(struct image *image);

/* The parts of image_parse(), one a format. */
enum image_status image_parse_ptx(const char *text, size_t length, uint32_t capability, struct image *image);
enum image_status image_parse_elf(const void *data, size_t bytes, uint32_t capability, struct image *image);
enum image_status image_parse_fatbin(const void *data, size_t bytes, uint32_t capability, struct image *image);
/* The length an ELF file says it has; 0 if it is none. */
size_t image_elf_bytes(const void *data);

/* Append a zeroed element whose name is a copy of [name, name + length); NULL when memory is short. */
struct image_function *image_add_function(struct image *image, const char *name, size_t length);
struct image_variable *image_add_variable(struct image *image, const char *name, size_t length, uint64_t bytes);
bool image_add_parameter(struct image_function *function, uint32_t offset, uint32_t size);
struct image_function *image_find_function(const struct image *image, const char *name, size_t length);

#endif
