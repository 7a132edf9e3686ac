"""Asks a GPU what the simulated node assumes of one: a line of JSON for each answer.

By ctypes, so that it needs nothing but the driver. Sizes are in MiB unless the name says otherwise;
"takes" is how much less cuMemGetInfo calls free afterwards.
"""

import ctypes
import json
import multiprocessing
import sys
import time

import pynvml

from gpuslice_agent import native_files

MIB = 2**20
KIB = 2**10
driver = ctypes.CDLL("libcuda.so.1")
u64, u32, size_t, ptr = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_size_t, ctypes.c_void_p


class CudaError(Exception):
    pass


def call(name, *arguments):
    status = driver[name](*arguments)
    if status != 0:
        raise CudaError(f"{name}: error {status}")


def made(kind, name, *arguments):
    """The first argument of most calls is where the answer goes."""
    answer = kind()
    call(name, ctypes.byref(answer), *arguments)
    return answer


def say(what, value):
    if isinstance(value, float):
        value = round(value, 2) + 0.0  # never -0.0
    print(json.dumps({what: value}), flush=True)


def free_bytes():
    free, total = size_t(), size_t()
    call("cuCtxSynchronize")
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value


def takes(action):
    """MiB, and what the action returned."""
    before = free_bytes()
    result = action()
    return (before - free_bytes()) / MIB, result


def allocate(size):
    return made(u64, "cuMemAlloc_v2", size_t(size))


def free(pointer):
    call("cuMemFree_v2", pointer)


# --- the questions ------------------------------------------------------------------------------


def context():
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    second = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    say("GPU", pynvml.nvmlDeviceGetName(handle).removesuffix(" (simulated)"))
    say("NVML total", memory.total / MIB)
    say("NVML reserved", second.reserved / MIB)
    say("NVML used by v1 includes the reserved", memory.used > second.used)
    known = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    call("cuInit", 0)
    context = made(ptr, "cuDevicePrimaryCtxRetain", 0)
    call("cuCtxSetCurrent", context)
    now = pynvml.nvmlDeviceGetMemoryInfo(handle)
    say("context by NVML, the card", (now.used - memory.used) / MIB)
    new = [
        process.usedGpuMemory
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        if process.pid not in known
    ]
    own = new[0] / MIB if new and new[0] is not None else None
    say("context by NVML, the process", own)
    say("cuDeviceTotalMem", made(size_t, "cuDeviceTotalMem_v2", 0).value / MIB)
    say(
        "cuMemGetInfo's free is NVML's", free_bytes() == pynvml.nvmlDeviceGetMemoryInfo(handle).free
    )
    attributes = {
        "compute capability": (75, 76),
        "SMs": (16,),
        "L2 bytes": (38,),
        "memory bus bits": (37,),
        "clock kHz": (13,),
        "memory clock kHz": (36,),
        "copy engines": (40,),
        "pools supported": (115,),
    }
    for name, numbers in attributes.items():
        values = [made(ctypes.c_int, "cuDeviceGetAttribute", n, 0).value for n in numbers]
        say(name, ".".join(map(str, values)))


def linear():
    cost, first = takes(lambda: allocate(4 * KIB))
    say("the first 4 KiB take", cost)
    cost, more = takes(lambda: [allocate(4 * KIB) for _ in range(100)])
    say("100 more of 4 KiB take", cost)
    say("two of 1 byte lie apart by, bytes", abs(allocate(1).value - allocate(1).value))
    cost, _ = takes(lambda: [free(pointer) for pointer in (first, *more)])
    say("all of 4 KiB freed give back", -cost)
    for size in (64 * KIB, 512 * KIB, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1, 3 * MIB):
        each, pointers = takes(lambda size=size: [allocate(size) for _ in range(16)])
        say(f"16 of {size} bytes take", each)
        back, _ = takes(lambda pointers=pointers: [free(pointer) for pointer in pointers])
        say(f"16 of {size} bytes freed give back", -back)
    for width in (1, 100, 513, 4097):
        pointer, pitch = u64(), size_t()
        arguments = (size_t(width), size_t(10), u32(4))
        call("cuMemAllocPitch_v2", ctypes.byref(pointer), ctypes.byref(pitch), *arguments)
        say(f"pitch of rows of {width} bytes", pitch.value)
        free(pointer)
    cost, managed = takes(lambda: made(u64, "cuMemAllocManaged", size_t(64 * MIB), u32(1)))
    say("64 MiB managed, untouched, take", cost)
    free(managed)


class ArrayDescriptor(ctypes.Structure):
    _fields_ = [
        ("width", size_t),
        ("height", size_t),
        ("format", ctypes.c_int),
        ("channels", ctypes.c_uint),
    ]


def arrays():
    """64 of a kind, because an array is smaller than a block."""
    shapes = {"1x1 of 1 byte": (1, 1, 1, 1), "100x100 of 1 byte": (100, 100, 1, 1)}
    shapes |= {"1000x1000 of 1 byte": (1000, 1000, 1, 1), "512x512 of 16": (512, 512, 0x20, 4)}
    for name, (width, height, kind, channels) in shapes.items():
        descriptor = ArrayDescriptor(width, height, kind, channels)
        cost, made_arrays = takes(
            lambda d=descriptor: [made(ptr, "cuArrayCreate_v2", ctypes.byref(d)) for _ in range(64)]
        )
        say(f"64 arrays, {name}, take", cost)
        for array in made_arrays:
            call("cuArrayDestroy", array)


class PoolProperties(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int),
        ("handles", ctypes.c_int),
        ("place", ctypes.c_int),
        ("device", ctypes.c_int),
        ("rest", ctypes.c_ubyte * 72),
    ]


RESERVED, USED = 5, 7


def pools():
    pool = made(ptr, "cuDeviceGetDefaultMemPool", 0)
    stream = made(ptr, "cuStreamCreate", 1)

    def reserved():
        answer = u64()
        call("cuMemPoolGetAttribute", pool, RESERVED, ctypes.byref(answer))
        return answer.value / MIB

    for size in (4 * KIB, MIB, 33 * MIB, 100 * MIB):
        pointer = made(u64, "cuMemAllocAsync", size_t(size), stream)
        call("cuStreamSynchronize", stream)
        say(f"pool holds for {size // KIB} KiB", reserved())
        call("cuMemFreeAsync", pointer, stream)
        call("cuStreamSynchronize", stream)
        say(f"pool holds after {size // KIB} KiB are freed", reserved())


class AllocationProperties(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int),
        ("handles", ctypes.c_int),
        ("place", ctypes.c_int),
        ("device", ctypes.c_int),
        ("rest", ctypes.c_ubyte * 16),
    ]


def physical():
    properties = AllocationProperties(kind=1, place=1, device=0)
    for name, flag in (("least", 0), ("recommended", 1)):
        granule = made(
            size_t, "cuMemGetAllocationGranularity", ctypes.byref(properties), ctypes.c_int(flag)
        )
        say(f"granularity, {name}", granule.value / MIB)
    cost, handle = takes(
        lambda: made(u64, "cuMemCreate", size_t(4 * MIB), ctypes.byref(properties), u64(0))
    )
    say("cuMemCreate of 4 MiB, not mapped, takes", cost)
    call("cuMemRelease", handle)


class MemoryNode(ctypes.Structure):
    _fields_ = [
        ("pool", PoolProperties),
        ("accesses", ptr),
        ("access_count", size_t),
        ("bytes", size_t),
        ("pointer", u64),
    ]


def graph_memory():
    graph = made(ptr, "cuGraphCreate", 0)
    node = MemoryNode(pool=PoolProperties(kind=1, place=1, device=0), bytes=3 * MIB)
    added = made(ptr, "cuGraphAddMemAllocNode", graph, None, size_t(0), ctypes.byref(node))
    assert added.value
    stream = made(ptr, "cuStreamCreate", 1)

    def held(attribute):
        answer = u64()
        call("cuDeviceGetGraphMemAttribute", 0, attribute, ctypes.byref(answer))
        return answer.value / MIB

    cost, executable = takes(lambda: made(ptr, "cuGraphInstantiateWithFlags", graph, u64(0)))
    say("a graph of 3 MiB takes when it is made", cost)
    cost, _ = takes(lambda: call("cuGraphLaunch", executable, stream))
    say("and when it is launched", cost)
    say("graph memory used, reserved", [held(0), held(2)])
    cost, _ = takes(lambda: free(u64(node.pointer)))
    say("its 3 MiB freed give back", -cost)
    cost, _ = takes(lambda: call("cuDeviceGraphMemTrim", 0))
    say("and a trim", -cost)


def code():
    image = native_files.kernels().read_bytes() + b"\0"
    cost, module = takes(lambda: made(ptr, "cuModuleLoadData", image))
    say("a module takes", cost)
    cost, spin = takes(lambda: made(ptr, "cuModuleGetFunction", module, b"gpuslice_spin"))
    say("and its function", cost)
    cost, _ = takes(lambda: launch(spin, 1000, 1000))
    say("and its first launch", cost)
    cost, streams = takes(lambda: [made(ptr, "cuStreamCreate", 1) for _ in range(32)])
    say("32 streams take", cost)
    cost, _ = takes(lambda: [made(ptr, "cuEventCreate", 0) for _ in range(100)])
    say("100 events take", cost)
    for name, limit in (("stack", 0), ("printf", 1), ("malloc heap", 2)):
        say(f"limit: {name}, bytes", made(size_t, "cuCtxGetLimit", ctypes.c_int(limit)).value)
    return spin, streams


def launch(function, ns, steps_per_us, stream=None):
    values = (u64(ns), u32(steps_per_us))
    addresses = (ptr * 2)(*(ctypes.addressof(value) for value in values))
    call("cuLaunchKernel", function, 1, 1, 1, 32, 1, 1, 0, stream, addresses, None)


def timed(function, steps_per_us, ns=10_000_000, stream=None):
    """Milliseconds between two events around the kernel."""
    begin, end = made(ptr, "cuEventCreate", 0), made(ptr, "cuEventCreate", 0)
    call("cuEventRecord", begin, stream)
    launch(function, ns, steps_per_us, stream)
    call("cuEventRecord", end, stream)
    call("cuEventSynchronize", end)
    return made(ctypes.c_float, "cuEventElapsedTime", begin, end).value


def others_work(ready, over):
    """Another process that keeps the GPU busy."""
    call("cuInit", 0)
    call("cuCtxSetCurrent", made(ptr, "cuDevicePrimaryCtxRetain", 0))
    module = made(ptr, "cuModuleLoadData", native_files.kernels().read_bytes() + b"\0")
    spin = made(ptr, "cuModuleGetFunction", module, b"gpuslice_spin")
    launch(spin, 1000, 1000)
    call("cuCtxSynchronize")
    ready.set()
    while not over.is_set():
        for _ in range(4):
            launch(spin, 5_000_000, 300)
        call("cuCtxSynchronize")


def time_slicing(spin, streams):
    timed(spin, 1000)
    alone = min(timed(spin, 1000) for _ in range(5))
    steps_per_us = round(1000 * 10 / alone)
    say("10 ms of gpuslice_spin at 1000 steps/us take, ms", round(alone, 2))
    start = time.monotonic_ns()
    for stream in streams[:2]:
        launch(spin, 10_000_000, steps_per_us, stream)
    call("cuCtxSynchronize")
    ms = (time.monotonic_ns() - start) / 1e6
    say("10 ms in each of two streams take, ms", round(ms, 1))
    spawn = multiprocessing.get_context("spawn")
    ready, over = spawn.Event(), spawn.Event()
    other = spawn.Process(target=others_work, args=(ready, over))
    other.start()
    if ready.wait(20):
        time.sleep(0.1)
        beside = sorted(timed(spin, steps_per_us) for _ in range(9))[4]
        say("events around 10 ms beside another process, ms", round(beside, 1))
    over.set()
    other.join(20)


def main():
    context()
    failed = []
    spin, streams = code()
    for question in (linear, arrays, pools, physical, graph_memory):
        try:
            question()
        except (CudaError, KeyError, AttributeError) as error:
            failed.append(f"{question.__name__}: {error}")
    time_slicing(spin, streams)
    if failed:
        sys.exit("; ".join(failed))


if __name__ == "__main__":
    main()
