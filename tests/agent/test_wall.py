"""The kernel's wall behind the shares of pods: NVML of a simulated node, and cgroups."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gpuslice_agent import simulation
from gpuslice_agent.cgroups import PodCgroups
from gpuslice_agent.enforcement import Wall
from gpuslice_agent.enforcement.wall import limits_of
from gpuslice_agent.model import Limits, Owner, Share
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.simulation import SimNode

from ..sim.nvml_node import look
from .world import gpus_of

GIB = 1 << 30
POD = "11111111-0000-4000-8000-000000000000"
MOUNTS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))

LIMITS = """
import json, sys
import pynvml as nvml
nvml.nvmlInit()
found = []
for index in range(nvml.nvmlDeviceGetCount()):
    limits = nvml.c_nvmlGetMemoryLimits_v1_t(sys.argv[1].encode())
    try:
        nvml.nvmlDeviceGetMemoryLimits_v1(nvml.nvmlDeviceGetHandleByIndex(index), limits)
        found.append(limits.hardLimit)
    except nvml.NVMLError_NotFound:
        found.append((1 << 64) - 1)
print(json.dumps([None if size == (1 << 64) - 1 else size for size in found]))
"""


def share(id: str, gpu_uuid: str, gib: int, *, whole: bool = False, **more: object) -> Share:
    owner = Owner("pod", **({"pod_uid": POD} | more))  # type: ignore[arg-type]
    return Share(id, gpu_uuid, Limits(0, gib * GIB, whole=whole), owner, created_at=1.0)


def test_shares_are_summed_by_gpu_and_moment_and_whole_gpus_are_not_limited() -> None:
    shares = (
        share("a", "GPU-0", 1),
        share("b", "GPU-0", 2),
        share("c", "GPU-1", 4, moments=(0,)),
        share("d", "GPU-1", 3, moments=(1,)),
        share("e", "GPU-2", 80, whole=True),
    )
    assert limits_of(shares) == {"GPU-0": 3 * GIB, "GPU-1": 4 * GIB}


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """Of the pod, where a kubelet with a root of its own makes it."""
    mount = next((one for one in MOUNTS if (one / "cgroup.procs").exists()), None)
    if mount is None or os.geteuid() != 0 or not os.access(mount, os.W_OK):
        pytest.skip("no cgroup can be made here")
    made = mount / f"gpuslice-test-{os.getpid()}" / "kubepods" / f"pod{POD}"
    made.mkdir(parents=True)
    try:
        yield made
    finally:
        for one in (made, made.parent, made.parent.parent):
            with suppress(FileNotFoundError):
                one.rmdir()


def behind(
    node: SimNode,
    cgroup: Path,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[Wall, list[Share]], Awaitable[None]],
) -> None:
    for name, value in node.environment(os.environ).items():
        monkeypatch.setenv(name, value)

    async def run() -> None:
        shares: list[Share] = []
        top = cgroup.parents[1]
        nvml = Nvml(5, 30)
        wall = Wall(nvml, PodCgroups(top.parent, f"/{top.name}"), lambda: shares, wanted=True)
        await wall.look("615.00.00", gpus_of(node))
        try:
            await use(wall, shares)
        finally:
            await nvml.end()

    asyncio.run(run())


def test_a_limit_is_there_before_the_container_and_follows_the_shares(
    node: SimNode, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (gpu.uuid for gpu in gpus_of(node))

    async def use(wall: Wall, shares: list[Share]) -> None:
        assert wall.enforcement == "shim+kernel"
        shares += [share("a", first, 1), share("b", second, 2, pod_uid="", pod_uids=(POD,))]
        await wall.hold(POD)
        assert look(node, LIMITS, str(cgroup)) == [1 * GIB, 2 * GIB]
        shares[0] = share("a", first, 3)
        await wall.follow()
        assert look(node, LIMITS, str(cgroup)) == [3 * GIB, 2 * GIB]
        del shares[0]
        await wall.follow()
        assert look(node, LIMITS, str(cgroup)) == [None, 2 * GIB]
        cgroup.rmdir()  # noqa: ASYNC240
        shares.clear()
        await wall.follow()

    behind(node, cgroup, monkeypatch, use)


def test_a_pod_without_a_cgroup_is_said_and_starts_behind_the_shim_alone(
    node: SimNode, cgroup: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (first, _) = (gpu.uuid for gpu in gpus_of(node))
    other = POD.replace("1", "2")

    async def use(wall: Wall, shares: list[Share]) -> None:
        shares.append(share("a", first, 1, pod_uid=other))
        await wall.hold(other)
        assert f"kernel wall not set pod_uid={other}" in caplog.text

    behind(node, cgroup, monkeypatch, use)


def test_a_driver_without_it_leaves_the_shim_alone(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(wall: Wall, shares: list[Share]) -> None:
        assert wall.enforcement == "shim"
        shares.append(share("a", "GPU-0", 1))
        await wall.hold(POD)

    with simulation.temporary("2xa100-80g", None, "580.95.05") as node:
        behind(node, cgroup, monkeypatch, use)
