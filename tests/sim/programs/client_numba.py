"""numba-cuda: kernels from Python, arrays that go there and come back, streams, events."""

import warnings

import numpy
from numba import cuda

warnings.simplefilter("ignore")  # small grids: this is about working, not about speed


@cuda.jit
def double(source, target):
    i = cuda.grid(1)
    if i < source.size:
        target[i] = 2 * source[i]


numbers = numpy.arange(10_000, dtype=numpy.float32)
source = cuda.to_device(numbers)
target = cuda.device_array_like(source)
double[40, 256](source, target)
cuda.synchronize()
assert (source.copy_to_host() == numbers).all()

stream = cuda.stream()
start, end = cuda.event(), cuda.event()
start.record(stream)
with stream.auto_synchronize():
    there = cuda.to_device(numbers, stream=stream)
    double[40, 256, stream](there, target)
    back = there.copy_to_host(stream=stream)
end.record(stream)
end.synchronize()
assert cuda.event_elapsed_time(start, end) > 0
assert (back == numbers).all()

part = source[100:200]
assert (part.copy_to_host() == numbers[100:200]).all()
with cuda.pinned(numbers):
    assert (cuda.to_device(numbers).copy_to_host() == numbers).all()
managed = cuda.managed_array(100, dtype=numpy.float32)
managed[:] = 7
double[1, 128](managed, target)
cuda.synchronize()
assert (managed == 7).all()
assert cuda.current_context().get_memory_info().free > 0
print("done")
