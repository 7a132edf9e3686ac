"""The ids that the kubelet counts: names of slots and of percents, never of a GPU.

Which GPU an id stands for is decided when its pod is bound. An id says its resource, because the
kubelet looks up the health of an id without one, and its home NUMA node, because the kubelet's
topology manager chooses by that before we are asked.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gpuslice_agent.model import Gpu

NO_NUMA = -1
LONGEST = 63  # more, and the kubelet drops the device
# The kubelet reads a list with gRPC's default limit, and drops a longer one without a word to us.
MESSAGE_BYTES = 4 << 20
# Of one device in the message, beside its id: tags and lengths, "Unhealthy", the NUMA node.
FRAME_BYTES = 22

PATTERN = re.compile(r"^(slot|core)-(n|\d+)-(\d+)$")


@dataclass(frozen=True, slots=True)
class DeviceId:
    kind: str  # slot | core
    numa_node: int  # NO_NUMA: the machine has none, or does not say
    number: int

    def __str__(self) -> str:
        node = "n" if self.numa_node == NO_NUMA else str(self.numa_node)
        return f"{self.kind}-{node}-{self.number}"


@dataclass(frozen=True, slots=True)
class Counted:
    """The ids of one resource, and how many had to be left out."""

    ids: tuple[DeviceId, ...]
    left_out: int = 0


def parse(text: str) -> DeviceId | None:
    """None: an id of somebody else."""
    found = PATTERN.match(text)
    if found is None:
        return None
    kind, node, number = found.groups()
    return DeviceId(kind, NO_NUMA if node == "n" else int(node), int(number))


def home(gpu: Gpu) -> int:
    return NO_NUMA if gpu.numa_node is None or gpu.numa_node < 0 else gpu.numa_node


def count(kind: str, gpus: Sequence[Gpu], per_gpu: int) -> Counted:
    """`per_gpu` ids for each GPU, numbered within each NUMA node; as many as a message holds."""
    totals: dict[int, int] = {}
    for gpu in gpus:
        totals[home(gpu)] = totals.get(home(gpu), 0) + per_gpu
    kept = _that_fit(kind, totals)
    ids = tuple(
        DeviceId(kind, node, number) for node in sorted(kept) for number in range(kept[node])
    )
    return Counted(ids, sum(totals.values()) - len(ids))


def _that_fit(kind: str, totals: dict[int, int]) -> dict[int, int]:
    """Each NUMA node loses the same part of its ids."""
    need = sum(
        total * (FRAME_BYTES + len(str(DeviceId(kind, node, total))))
        for node, total in totals.items()
    )
    if need <= MESSAGE_BYTES:
        return totals
    return {node: total * MESSAGE_BYTES // need for node, total in totals.items()}
