"""cuda-core: devices, streams, events, buffers, programs, launches and graphs."""

import numpy
from cuda.core import (
    Device,
    EventOptions,
    LaunchConfig,
    LegacyPinnedMemoryResource,
    Program,
    ProgramOptions,
    launch,
)

SOURCE = r"""
template <typename T> __global__ void scale(T *x, T by, size_t n) {
    size_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= by;
}
"""

device = Device()
device.set_current()
assert device.name.endswith("(simulated)")
for name in dir(device.properties):
    getattr(device.properties, name)
stream = device.create_stream()

for form in ("cubin", "ptx"):
    program = Program(SOURCE, "c++", ProgramOptions(std="c++17", arch=f"sm_{device.arch}"))
    code = program.compile(form, name_expressions=("scale<float>",))
    kernel = code.get_kernel("scale<float>")
    assert [(p.offset, p.size) for p in kernel.arguments_info] == [(0, 8), (8, 4), (16, 8)]
    assert kernel.occupancy.max_active_blocks_per_multiprocessor(256, 0) > 0
    buffer = device.allocate(4096, stream=stream)
    start = stream.record(options=EventOptions(timing_enabled=True))
    config = LaunchConfig(grid=4, block=256)
    launch(stream, config, kernel, buffer, numpy.float32(2), numpy.uint64(1024))
    end = stream.record(options=EventOptions(timing_enabled=True))
    end.sync()
    assert end - start > 0
    buffer.close(stream)

pinned = LegacyPinnedMemoryResource()
host = pinned.allocate(1024)
there = device.allocate(1024, stream=stream)
back = pinned.allocate(1024)
numpy.from_dlpack(host).view(numpy.uint8)[:] = numpy.arange(1024, dtype=numpy.int64).astype(
    numpy.uint8
)
host.copy_to(there, stream=stream)
there.copy_to(back, stream=stream)
stream.sync()
assert (numpy.from_dlpack(back).view(numpy.uint8) == numpy.arange(1024).astype(numpy.uint8)).all()

builder = device.create_graph_builder()
builder.begin_building()
for _ in range(3):
    launch(builder, config, kernel, there, numpy.float32(2), numpy.uint64(16))
graph = builder.end_building().complete()
graph.upload(stream)
graph.launch(stream)
stream.sync()
print("done")
