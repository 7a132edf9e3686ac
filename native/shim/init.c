#include "tenant.h"

CUresult cuInit(unsigned int flags) {
    return tenant_init(flags);
}
