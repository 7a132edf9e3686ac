"""Reads a request: what is wrong with it by itself, and what it means on one GPU."""

from dataclasses import dataclass

from gpuslice_agent.errors import RequestError
from gpuslice_agent.model import Gpu, Limits, Order, Policy, ShareRequest, Snapshot

# The driver hands out memory in blocks of this size: a derived limit beyond a whole block is lost.
BLOCK_BYTES = 2 << 20
LEAST_MEMORY_BYTES = 512  # the smallest piece the driver hands out
MOST_WEIGHT = 10_000


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the configuration says where a request does not."""

    policy: Policy = Policy.HARD
    placement: Order = Order.BINPACK
    overcommit_ratio: float = 1.0


def check(request: ShareRequest) -> None:
    cores, memory = request.cores, request.memory_bytes
    sized = cores is not None or memory is not None or request.memory_percent is not None
    if request.whole and sized:
        raise RequestError("A whole GPU has all its time and memory: ask for no size beside it.")
    if not request.whole and not sized:
        raise RequestError("A share needs cores, memory or both: neither was asked for.")
    if cores is not None and not 0 <= cores <= 100:
        raise RequestError(
            f"{cores} cores cannot be: they are percent of one GPU's time, from 0 to 100."
        )
    if memory is not None and memory < LEAST_MEMORY_BYTES:
        raise RequestError(
            f"{memory} bytes of memory are too little: the least a share can have is 512."
        )
    if request.memory_percent is not None and not 1 <= request.memory_percent <= 100:
        raise RequestError(
            f"{request.memory_percent} % of the memory cannot be: it goes from 1 to 100."
        )
    if memory is None and request.memory_percent is None and cores == 0:
        raise RequestError("0 cores are 0 % of the memory too: say how much memory the share gets.")
    if not 1 <= request.weight <= MOST_WEIGHT:
        raise RequestError(f"A weight of {request.weight} cannot be: it goes from 1 to 10000.")
    if request.count < 1:
        raise RequestError("At least one share has to be asked for.")


def named_gpus(request: ShareRequest, snapshot: Snapshot) -> tuple[Gpu, ...]:
    """The GPUs that the request names, in its order."""
    gpus = tuple(_named(name, snapshot) for name in request.gpus)
    for position, gpu in enumerate(gpus):
        if gpu in gpus[:position]:
            raise RequestError(
                f"GPU {gpu.index} is named twice: one share on each GPU is the most."
            )
    return gpus


def limits_on(gpu: Gpu, request: ShareRequest, defaults: Defaults) -> Limits:
    cores = 100 if request.whole else request.cores or 0
    memory = request.memory_bytes
    if memory is None:
        percent = cores if request.memory_percent is None else request.memory_percent
        part = gpu.memory_bytes * percent // 100
        memory = gpu.memory_bytes if percent == 100 else part // BLOCK_BYTES * BLOCK_BYTES
    return Limits(
        cores=cores,
        memory_bytes=memory,
        policy=request.policy or defaults.policy,
        priority=request.priority,
        weight=request.weight,
        overcommit=request.overcommit,
        whole=request.whole,
    )


def size(count: int) -> str:
    """Bytes for people."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if abs(count) >= unit:
            return f"{count / unit:.2f}".rstrip("0").rstrip(".") + f" {name}"
    return f"{count} bytes"


def _named(name: str, snapshot: Snapshot) -> Gpu:
    """By index, UUID, or the beginning of one UUID alone, as CUDA_VISIBLE_DEVICES takes it."""
    if name.isdecimal():
        found = [gpu for gpu in snapshot.gpus if gpu.index == int(name)]
    else:
        found = [gpu for gpu in snapshot.gpus if name and gpu.uuid.startswith(name)]
    if len(found) != 1:
        there = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in snapshot.gpus)
        several = "more than one" if found else "no"
        raise RequestError(f"There is {several} GPU {name!r} here; those here are: {there}.")
    return found[0]
