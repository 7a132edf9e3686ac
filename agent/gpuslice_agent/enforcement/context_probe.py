"""A process that does nothing but hold a context, so that NVML shows what one costs.

`python context_probe.py GPU-UUID` says "ready" and waits for the end of
its input.
"""

import ctypes
import os
import sys

UUID_BYTES = 16


def main() -> None:
    # The caller means the GPU of this UUID, whatever its own programs may see.
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    hold_context(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.read()


def hold_context(uuid: str) -> None:
    driver = ctypes.CDLL("libcuda.so.1")
    check("cuInit", driver.cuInit(0))
    context = ctypes.c_void_p()
    device = find(driver, uuid)
    status = driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    check("cuDevicePrimaryCtxRetain", status)


def find(driver: ctypes.CDLL, uuid: str) -> ctypes.c_int:
    count = ctypes.c_int()
    check("cuDeviceGetCount", driver.cuDeviceGetCount(ctypes.byref(count)))
    for index in range(count.value):
        device = ctypes.c_int()
        check("cuDeviceGet", driver.cuDeviceGet(ctypes.byref(device), index))
        raw = (ctypes.c_ubyte * UUID_BYTES)()
        check("cuDeviceGetUuid", driver.cuDeviceGetUuid(raw, device))
        if bytes(raw).hex() == uuid.removeprefix("GPU-").replace("-", ""):
            return device
    sys.exit(f"CUDA has no device {uuid}")


def check(call: str, status: int) -> None:
    if status != 0:
        sys.exit(f"{call} failed with error {status}")


if __name__ == "__main__":
    main()
