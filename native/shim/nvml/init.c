#include "nvml/view.h"

static nvmlReturn_t opened(nvmlReturn_t result) {
    if (result != NVML_SUCCESS)
        return result;
    result = nvml_view_open();
    if (result != NVML_SUCCESS)
        real_nvml.nvmlShutdown();
    return result;
}

nvmlReturn_t nvmlInit(void) {
    return opened(real_nvml.nvmlInit());
}

nvmlReturn_t nvmlInit_v2(void) {
    return opened(real_nvml.nvmlInit_v2());
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    return opened(real_nvml.nvmlInitWithFlags(flags));
}
