"""A simulated node whose GPUs may be cut, and the agent's shares on it.

As a program (`mig_node.py STATE NODE CALL WHEN`) it takes a partition and is killed before or after
one of the calls that make it.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpuslice_agent import native_files
from gpuslice_agent.ledger import Ledger
from gpuslice_agent.mig import MigPlace, MigPolicy
from gpuslice_agent.model import (
    Gpu,
    GpuPath,
    Health,
    HealthState,
    Limits,
    Owner,
    OwnerKind,
    Placement,
    Share,
    Snapshot,
)
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.shares import Shares
from gpuslice_agent.simulation import SimNode

from .world import DRIVER, nvml_of, opened

SECONDS = 20.0
MIB = 1 << 20

# An administrator's `nvidia-smi mig -cgi PROFILE -C`, without -C where no compute instance is made.
CUT = """
import sys, ctypes, pynvml as n
n.nvmlInit()
gpu = n.nvmlDeviceGetHandleByIndex(int(sys.argv[1]))
n.nvmlDeviceSetMigMode(gpu, 1)
where = n.c_nvmlGpuInstancePlacement_t(int(sys.argv[3]), int(sys.argv[4]))
made = n.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, int(sys.argv[2]), ctypes.byref(where))
if sys.argv[5] == "usable":
    n.nvmlGpuInstanceCreateComputeInstance(made, 0)
"""

PROGRAM = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
count, size, context = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_void_p()
def check(status):
    if status:
        sys.exit(f"CUDA error {status}")
check(cuda.cuInit(0))
check(cuda.cuDeviceGetCount(ctypes.byref(count)))
check(cuda.cuDeviceTotalMem_v2(ctypes.byref(size), 0))
check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
print(count.value, size.value, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class MigNode:
    node: SimNode
    shares: Shares
    nvml: Nvml
    gpus: tuple[Gpu, ...]
    ledger: Ledger

    def place(self, profile: str, number: int = 0, gpu: int = 0) -> MigPlace:
        found = next(one for one in self.gpus[gpu].mig_profiles if one.name == profile)
        return found.places[number]

    async def cut(self, key: str, place: MigPlace, gpu: int = 0) -> Share:
        one = next(one for one in self.gpus[gpu].mig_profiles if one.id == place.profile_id)
        limits = Limits(14, one.memory_bytes, whole=True, mig=place)
        (share,) = await self.shares.take([self._placement(key, gpu, limits)])
        return share

    async def share(self, key: str, gpu: int = 0) -> Share:
        (share,) = await self.shares.take([self._placement(key, gpu, Limits(30, 1000 * MIB))])
        return share

    def _placement(self, key: str, gpu: int, limits: Limits) -> Placement:
        owner = Owner(key=f"claim/{key}", kind=OwnerKind.CLAIM, cdi_devices=(key,))
        return Placement(self.gpus[gpu].uuid, limits, owner)

    def devices(self, gpu: int = 0) -> list[str] | None:
        """UUIDs of the MIG devices, as the GPU itself says; None: it is not in MIG mode."""
        mig = shown(self.node)["gpus"][gpu]["mig"]
        return None if mig is None else [one["uuid"] for one in mig]

    async def until_gone(self, *shares: Share) -> None:
        ids = {share.id for share in shares}
        async with asyncio.timeout(SECONDS):
            while ids & {share.id for share in self.shares.all()}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def shown(node: SimNode) -> Any:
    show = [str(native_files.sim_node_program()), "show", str(node.path)]
    return json.loads(subprocess.run(show, capture_output=True, check=True).stdout)


def cut_by_hand(node: SimNode, gpu: int, place: MigPlace, *, usable: bool = True) -> None:
    numbers = map(str, (gpu, place.profile_id, place.start, place.slices))
    subprocess.run(
        [sys.executable, "-c", CUT, *numbers, "usable" if usable else "bare"],
        env=node.environment(os.environ),
        check=True,
    )


def program(node: SimNode, uuid: str) -> subprocess.Popen[str]:
    """Has a context in the partition until its input ends; says how many GPUs and bytes it sees."""
    environment = {**node.environment(os.environ), "CUDA_VISIBLE_DEVICES": uuid}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdin=pipe, stdout=pipe, text=True
    )


@asynccontextmanager
async def mig_node(state: Path, node: SimNode) -> AsyncGenerator[MigNode]:
    """As an agent with `mig = "on-demand"` after it has looked at its GPUs."""
    nvml = nvml_of(node)
    described = await nvml.describe()
    well = Health(HealthState.HEALTHY)
    gpus = tuple(replace(gpu, path=GpuPath.DRA, health=well) for gpu in described.gpus)
    with opened(state, node, mig=MigPolicy.ON_DEMAND, nvml=nvml) as world:
        world.inventory.replace(Snapshot(driver_version=DRIVER, gpus=gpus))
        await world.shares.find_partitions()
        removing = asyncio.create_task(world.shares.keep_removing_partitions())
        try:
            yield MigNode(node, world.shares, nvml, gpus, world.ledger)
        finally:
            removing.cancel()
            with suppress(asyncio.CancelledError):
                await removing
            await nvml.end()


async def main(state: Path, node: SimNode, call: str, when: str) -> None:
    original = getattr(Nvml, call)

    async def deadly(*arguments: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await original(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    async with mig_node(state, node) as world:
        place = world.place("1g.10gb", 2)
        if call == "remove_partition":
            world.shares.release([(await world.cut("one", place)).id])
            setattr(Nvml, call, deadly)
            await asyncio.sleep(SECONDS)
        setattr(Nvml, call, deadly)
        await world.cut("one", place)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), SimNode(Path(sys.argv[2])), *sys.argv[3:]))
