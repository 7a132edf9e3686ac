"""What the worker says: a line of JSON when a test begins, one when it has ended.

Times are seconds, rates bytes or operations a second.
"""

import msgspec


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    test: str


class Cuda(msgspec.Struct, frozen=True, tag="cuda"):
    version: int  # 13050: CUDA 13.5
    uuids: tuple[str, ...]  # of the GPUs that it has


class Copied(msgspec.Struct, frozen=True, tag="copied"):
    rate: float  # each byte once, though a copy on the device is a read and a write
    memory_clock_khz: int
    memory_bus_bits: int


class Matched(msgspec.Struct, frozen=True, tag="matched"):
    size: int  # bytes that were looked at
    passes: int
    wrong: int  # words, in all passes
    first: int  # number of the first of them in the memory looked at
    bits: int  # in which they differed


class Burnt(msgspec.Struct, frozen=True, tag="burnt"):
    launches: int
    wrong: int  # results, in all launches
    rate: float  # operations of 32-bit floating point
    compute_capability: tuple[int, int]
    multiprocessors: int
    clock_khz: int


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    sentence: str


Measure = Cuda | Copied | Matched | Burnt
Line = Begun | Measure | Broken

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder[Line](Line).decode
