/* Which GPU may reach the memory of which. Every copy works either way; enabling says so to whoever asks. */
#include "sim.h"

static CUresult check(CUdevice a, CUdevice b) {
    CUresult result = require_init();
    if (result)
        return result;
    return device_gpu(a) < 0 || device_gpu(b) < 0 ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer) {
    CUresult result = check(device, peer);
    if (result)
        return result;
    if (!can)
        return CUDA_ERROR_INVALID_VALUE;
    *can = device != peer;
    return CUDA_SUCCESS;
}

static bool linked(const struct sim_gpu *a, const struct sim_gpu *b) {
    for (unsigned i = 0; i < a->link_count && i < SIM_LINKS_MAX; i++) {
        if (a->links[i].end == SIM_LINK_SWITCH && b->link_count && b->links[0].end == SIM_LINK_SWITCH)
            return true;
        if (a->links[i].end == SIM_LINK_GPU && engine_gpu(a->links[i].peer) == b)
            return true;
    }
    return false;
}

CUresult cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attribute, CUdevice from, CUdevice to) {
    CUresult result = check(from, to);
    if (result)
        return result;
    if (!value || from == to)
        return CUDA_ERROR_INVALID_VALUE;
    bool nvlink = linked(engine_gpu((unsigned)device_gpu(from)), engine_gpu((unsigned)device_gpu(to)));
    switch (attribute) {
    case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
        *value = nvlink ? 0 : 1;
        break;
    case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
        *value = 1;
        break;
    case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
        *value = nvlink;
        break;
    case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
        *value = 1;
        break;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

static CUresult change(CUcontext handle, bool enable) {
    struct context *context, *peer;
    CUresult result = current_context(&context);
    if (!result)
        result = context_check(handle, &peer);
    if (result)
        return result;
    if (peer->gpu == context->gpu)
        return CUDA_ERROR_INVALID_DEVICE;
    uint32_t bit = UINT32_C(1) << peer->gpu;
    lock_driver();
    if (enable && context->peers & bit)
        result = CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
    else if (!enable && !(context->peers & bit))
        result = CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
    else
        context->peers ^= bit;
    unlock_driver();
    return result;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
    return flags ? CUDA_ERROR_INVALID_VALUE : change(peer, true);
}
CUresult cuCtxDisablePeerAccess(CUcontext peer) {
    return change(peer, false);
}
