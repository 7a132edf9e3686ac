/* The linker: PTX goes in as text, the "cubin" that comes out is PTX again, which the loader takes. A real cubin is
 * taken alone and comes out as it is. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

struct linker {
    uint32_t magic;
    char *image;
    size_t bytes;
    bool binary; /* holds a cubin: nothing can be added */
};

CUresult cuLinkCreate_v2(unsigned count, CUjit_option *options, void **values, CUlinkState *state) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!state || (count && (!options || !values)))
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; i++) /* logs are asked for by address and length, and stay empty */
        if (options[i] == CU_JIT_INFO_LOG_BUFFER || options[i] == CU_JIT_ERROR_LOG_BUFFER)
            if (values[i])
                *(char *)values[i] = '\0';
    struct linker *linker = object_new(MAGIC_LINKER, sizeof *linker);
    if (!linker)
        return CUDA_ERROR_OUT_OF_MEMORY;
    linker->magic = MAGIC_LINKER;
    *state = (CUlinkState)linker;
    return CUDA_SUCCESS;
}

static CUresult append(struct linker *linker, const char *data, size_t bytes, bool binary) {
    if (linker->binary || (binary && linker->bytes))
        return CUDA_ERROR_NOT_SUPPORTED;
    char *image = realloc(linker->image, linker->bytes + bytes + 2);
    if (!image)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(image + linker->bytes, data, bytes);
    linker->image = image;
    linker->bytes += bytes;
    linker->binary = binary;
    image[linker->bytes] = '\0';
    return CUDA_SUCCESS;
}

CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t bytes, const char *name,
                          unsigned count, CUjit_option *options, void **values) {
    (void)name, (void)count, (void)options, (void)values;
    CUresult result = require_init();
    if (result)
        return result;
    if (!is_live(state, MAGIC_LINKER))
        return CUDA_ERROR_INVALID_HANDLE;
    if (!data || !bytes)
        return CUDA_ERROR_INVALID_VALUE;
    struct linker *linker = (struct linker *)state;
    if (type == CU_JIT_INPUT_PTX) {
        result = append(linker, data, strnlen(data, bytes), false);
        if (!result)
            linker->image[linker->bytes++] = '\n';
        return result;
    }
    if (type == CU_JIT_INPUT_CUBIN || type == CU_JIT_INPUT_FATBINARY)
        return append(linker, data, bytes, true);
    return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char *path, unsigned count,
                          CUjit_option *options, void **values) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!path)
        return CUDA_ERROR_INVALID_VALUE;
    void *data;
    size_t bytes;
    result = read_file(path, &data, &bytes);
    if (result)
        return result;
    result = cuLinkAddData_v2(state, type, data, bytes, path, count, options, values);
    free(data);
    return result;
}

CUresult cuLinkComplete(CUlinkState state, void **image, size_t *bytes) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!is_live(state, MAGIC_LINKER))
        return CUDA_ERROR_INVALID_HANDLE;
    struct linker *linker = (struct linker *)state;
    if (!image || !linker->image)
        return CUDA_ERROR_INVALID_VALUE;
    struct image parsed;
    if (!linker->binary)
        linker->image[linker->bytes] = '\0';
    enum image_status status = image_parse(linker->image, linker->bytes, UINT32_MAX, &parsed);
    if (status == IMAGE_MALFORMED)
        return CUDA_ERROR_INVALID_PTX;
    if (status == IMAGE_OK)
        image_free(&parsed);
    *image = linker->image;
    if (bytes)
        *bytes = linker->bytes + 1;
    return CUDA_SUCCESS;
}

CUresult cuLinkDestroy(CUlinkState state) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!is_live(state, MAGIC_LINKER))
        return CUDA_ERROR_INVALID_HANDLE;
    struct linker *linker = (struct linker *)state;
    linker->magic = MAGIC_DEAD;
    free(linker->image);
    object_delete(MAGIC_LINKER, linker);
    return CUDA_SUCCESS;
}

CUresult cuLinkCreate(unsigned count, CUjit_option *options, void **values, CUlinkState *state) {
    return cuLinkCreate_v2(count, options, values, state);
}
CUresult cuLinkAddData(CUlinkState state, CUjitInputType type, void *data, size_t bytes, const char *name,
                       unsigned count, CUjit_option *options, void **values) {
    return cuLinkAddData_v2(state, type, data, bytes, name, count, options, values);
}
CUresult cuLinkAddFile(CUlinkState state, CUjitInputType type, const char *path, unsigned count, CUjit_option *options,
                       void **values) {
    return cuLinkAddFile_v2(state, type, path, count, options, values);
}
