"""What prepare and unprepare do to a node, in a process that is killed at a chosen step of it."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.agent.world import MIB, World, die_at, gpus_of, opened, place

from gpuslice_agent.environment import cdi_directory
from gpuslice_agent.model import Limits, Share
from gpuslice_agent.simulation import SimNode
from gpuslice_plugin.cdi import ShimFiles, Spec
from gpuslice_plugin.nvidia_spec import NvidiaSpecs

POD = "uid-1"


@contextmanager
def at_work(state: Path, node: SimNode) -> Generator[tuple[World, Spec]]:
    """As an agent that has just started: ledger, files and CDI files agree."""
    gpus = {gpu.uuid: gpu for gpu in gpus_of(node)}
    nvidia = NvidiaSpecs([cdi_directory(node.path)])
    spec = Spec(state / "cdi", nvidia, ShimFiles(Path("/shim.so"), Path("/preload")), gpus.get)
    with opened(state, node, tmpfs=True) as world:
        spec.agree(world.shares.all())
        yield world, spec


def prepare(world: World, spec: Spec, node: SimNode) -> tuple[Share, ...]:
    whole = Limits(100, gpus_of(node)[1].memory_bytes, whole=True)
    shares = world.take(
        place(node, 0, Limits(30, 64 * MIB)), place(node, 1, whole, "whole", pod_uid=POD)
    )
    spec.write(POD, shares)
    return shares


def unprepare(world: World, spec: Spec) -> None:
    spec.remove(POD)
    world.shares.release([share.id for share in world.shares.all()])


def main() -> None:
    state, node, step, operation = sys.argv[1:]
    with at_work(Path(state), SimNode(Path(node))) as (world, spec):
        die_at(int(step))
        if operation == "prepare":
            prepare(world, spec, SimNode(Path(node)))
        else:
            unprepare(world, spec)
        os._exit(0)


if __name__ == "__main__":
    main()
