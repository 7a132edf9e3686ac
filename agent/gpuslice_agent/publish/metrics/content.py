"""What is on the page: always our own names, and those of other tools where they are asked for."""

import socket
from collections.abc import Iterable

from gpuslice_agent.model import Snapshot
from gpuslice_agent.publish.metrics.dcgm import of_dcgm
from gpuslice_agent.publish.metrics.families import Family
from gpuslice_agent.publish.metrics.gpus import of_gpus, of_node
from gpuslice_agent.publish.metrics.hami import of_hami
from gpuslice_agent.publish.metrics.health import of_health
from gpuslice_agent.publish.metrics.mig import of_partitions
from gpuslice_agent.publish.metrics.page import Describe
from gpuslice_agent.publish.metrics.shares import of_shares

COMPATIBLE = {"dcgm": of_dcgm, "hami": of_hami}


def content(compatibility: str = "", node: str = "") -> Describe:
    """`compatibility`: names of COMPATIBLE with commas between them. `node`: "" is this host."""
    wanted = [of for name, of in COMPATIBLE.items() if name in compatibility.split(",")]
    host = node or socket.gethostname()

    def describe(snapshot: Snapshot) -> Iterable[Family]:
        yield from of_node(snapshot)
        yield from of_gpus(snapshot)
        yield from of_partitions(snapshot)
        yield from of_shares(snapshot)
        yield from of_health(snapshot)
        for of in wanted:
            yield from of(snapshot, host)

    return describe
