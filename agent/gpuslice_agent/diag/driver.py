"""What the tests call of the CUDA driver API beside what the demo does, by ctypes."""

import ctypes
from uuid import UUID

from gpuslice_agent.demo.driver import Driver

# CU_DEVICE_ATTRIBUTE_…
CLOCK_RATE = 13
MULTIPROCESSOR_COUNT = 16
MEMORY_CLOCK_RATE = 36
GLOBAL_MEMORY_BUS_WIDTH = 37
COMPUTE_CAPABILITY_MAJOR = 75
COMPUTE_CAPABILITY_MINOR = 76

PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE


class Device(Driver):
    """The GPU that CUDA_VISIBLE_DEVICES names, for one process alone."""

    def attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, 0)
        return value.value

    def pinned(self, size: int) -> int:
        """Host memory that the GPU reads by itself."""
        pointer = ctypes.c_void_p()
        self._call("cuMemHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(size), PORTABLE)
        return pointer.value or 0

    def copy_in(self, target: int, source: int, size: int) -> None:
        self._copy("cuMemcpyHtoDAsync_v2", target, source, size)

    def copy_out(self, target: int, source: int, size: int) -> None:
        self._copy("cuMemcpyDtoHAsync_v2", target, source, size)

    def copy_within(self, target: int, source: int, size: int) -> None:
        self._copy("cuMemcpyDtoDAsync_v2", target, source, size)

    def write(self, target: int, data: bytes) -> None:
        self._call("cuMemcpyHtoD_v2", ctypes.c_uint64(target), data, ctypes.c_size_t(len(data)))

    def read(self, source: int, size: int) -> bytes:
        data = ctypes.create_string_buffer(size)
        self._call("cuMemcpyDtoH_v2", data, ctypes.c_uint64(source), ctypes.c_size_t(size))
        return data.raw

    def spread(
        self,
        function: ctypes.c_void_p,
        grid: tuple[int, int],
        *arguments: ctypes.c_uint32 | ctypes.c_uint64,
    ) -> None:
        """Blocks of so many threads each, on the default stream."""
        blocks, threads = grid
        addresses = (ctypes.c_void_p * len(arguments))(
            *(ctypes.addressof(argument) for argument in arguments)
        )
        self._call(
            "cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, None, addresses, None
        )

    def seconds(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> float:
        """Between two events, as the GPU counted it."""
        milliseconds = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(milliseconds), start, end)
        return milliseconds.value / 1000

    def _copy(self, call: str, target: int, source: int, size: int) -> None:
        self._call(
            call, ctypes.c_uint64(target), ctypes.c_uint64(source), ctypes.c_size_t(size), None
        )


def version_and_uuids() -> tuple[int, tuple[str, ...]]:
    """Of CUDA and of all GPUs that it has, without a context on any; 13050 is CUDA 13.5.

    OSError: there is no libcuda.so.1. RuntimeError: a call failed.
    """
    library = ctypes.CDLL("libcuda.so.1")

    def call(name: str, *arguments: object) -> None:
        if status := library[name](*arguments):
            raise RuntimeError(f"{name} failed with status {status}")

    version, count = ctypes.c_int(), ctypes.c_int()
    call("cuDriverGetVersion", ctypes.byref(version))
    call("cuInit", 0)
    call("cuDeviceGetCount", ctypes.byref(count))
    uuids: list[str] = []
    for device in range(count.value):
        words = (ctypes.c_ubyte * 16)()
        call("cuDeviceGetUuid_v2", words, device)
        uuids.append(f"GPU-{UUID(bytes=bytes(words))}")
    return version.value, tuple(uuids)
