"""tinygrad's CUDA backend: kernels through NVRTC, copies, graphs of its own JIT."""

import numpy
from tinygrad import Device, Tensor, TinyJit, dtypes

assert Device.DEFAULT == "CUDA"
numbers = numpy.arange(4096, dtype=numpy.float32)
there = Tensor(numbers).realize()
assert (there.numpy() == numbers).all()
assert (there.to("CPU").numpy() == numbers).all()

(there + 1).sum().realize()
(Tensor.rand(64, 64) @ Tensor.rand(64, 64)).relu().softmax().realize()
Tensor.rand(1, 3, 16, 16).conv2d(Tensor.rand(8, 3, 3, 3)).realize()
there.cast(dtypes.half).realize()


@TinyJit
def step(x):
    return ((x * 2).relu() + x.mean()).realize()


for _ in range(5):
    step(Tensor.rand(32, 32).realize())
Device["CUDA"].synchronize()
print("done")
