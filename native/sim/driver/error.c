#include "sim.h"

static const struct {
    CUresult error;
    const char *name, *sentence;
} errors[] = {
#define ERROR(name, sentence) {name, #name, sentence},
#include "errors.def"
#undef ERROR
};

static const char *look_up(CUresult error, bool name) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].error == error)
            return name ? errors[i].name : errors[i].sentence;
    return NULL;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
    if (!text)
        return CUDA_ERROR_INVALID_VALUE;
    *text = look_up(error, false);
    return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult error, const char **text) {
    if (!text)
        return CUDA_ERROR_INVALID_VALUE;
    *text = look_up(error, true);
    return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
