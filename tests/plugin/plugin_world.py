"""The device plugin on a simulated node: real shares, CDI files and sockets; a small API server."""

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gpuslice_agent.allocation import Defaults
from gpuslice_agent.cgroups import PodCgroups
from gpuslice_agent.enforcement import Wall
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import GpuPath, Snapshot
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.shares import Shares
from gpuslice_agent.simulation import SimNode
from gpuslice_plugin.cdi import ShimFiles, Spec
from gpuslice_plugin.device_plugin.binding import Binding
from gpuslice_plugin.device_plugin.planner import Rules
from gpuslice_plugin.device_plugin.release import Release
from gpuslice_plugin.device_plugin.unfit import UnfitEviction, UnfitPods
from gpuslice_plugin.eviction import Eviction
from gpuslice_plugin.nvidia_spec import NvidiaSpecs
from gpuslice_plugin.pod_resources import PodResources
from gpuslice_plugin.pods import NodePods

from ..agent.world import gpus_of, opened
from .api_server import SmallApiServer, small_api_server
from .kubelet import Kubelet, kubelet
from .objects import Object

NODE = "node"
PODS = "/api/v1/pods"


@dataclass(slots=True)
class PluginWorld:
    small: SmallApiServer
    kubelet: Kubelet
    shares: Shares
    spec: Spec
    binding: Binding
    release: Release
    eviction: UnfitEviction
    unfit: UnfitPods
    cdi: Path

    def put(self, document: Object) -> None:
        """As the API server tells it to whoever watches the pods of all namespaces."""
        self.small.put(f"{PODS}/{document['metadata']['name']}", document)

    def remove(self, name: str) -> None:
        self.small.remove(f"{PODS}/{name}")

    def devices(self) -> set[str]:
        """The names of all CDI devices that are there."""
        return {
            device["name"]
            for path in self.cdi.glob("*.json")
            for device in json.loads(path.read_text())["devices"]
        }

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Cores and MiB by container; of several shares of one container the last."""
        return {
            share.owner.container: (share.limits.cores, share.limits.memory_bytes >> 20)
            for share in self.shares.all()
        }


@asynccontextmanager
async def plugin_world(
    state: Path, node: SimNode, evict_after: float | None = None
) -> AsyncGenerator[PluginWorld]:
    with opened(state, node) as world, tempfile.TemporaryDirectory() as directory:
        async with small_api_server() as (small, server), kubelet(Path(directory)) as started:
            inventory = _inventory(node)
            nvidia = state / "nvidia"
            nvidia.mkdir()
            (nvidia / "nvidia.json").write_text(_nvidia_spec(inventory.snapshot))
            spec = Spec(
                state / "cdi",
                NvidiaSpecs([nvidia]),
                ShimFiles(state / "libgpuslice.so", state / "ld.so.preload"),
                lambda uuid: inventory.snapshot.gpu(uuid),
            )
            pods = NodePods.of_node(server, NODE)
            pod_resources = PodResources(Path(directory))
            eviction, unfit = Eviction(server), UnfitPods()
            wall = Wall(Nvml(5, 5), PodCgroups(state, "/"), world.shares.all, wanted=False)
            binding = Binding(
                world.shares,
                wall,
                inventory,
                pods,
                pod_resources,
                spec,
                eviction,
                unfit,
                started.plugins,
                "nvidia.com",
                Rules(Defaults(), 10),
            )
            release = Release(world.shares, pods, pod_resources, spec, started.plugins)
            evicting = UnfitEviction(eviction, unfit, pods, evict_after)
            parts = [pods.run(), release.run(), evicting.run()]
            tasks = [asyncio.ensure_future(part) for part in parts]
            try:
                yield PluginWorld(
                    small,
                    started,
                    world.shares,
                    spec,
                    binding,
                    release,
                    evicting,
                    unfit,
                    state / "cdi",
                )
            finally:
                await _ended(tasks)
                await pod_resources.close()


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # files tell no event
            await asyncio.sleep(0.01)


def _inventory(node: SimNode) -> Inventory:
    inventory = Inventory()
    gpus = tuple(replace(gpu, path=GpuPath.PLUGIN) for gpu in gpus_of(node))
    inventory.replace(Snapshot(driver_version="simulated", gpus=gpus))
    return inventory


def _nvidia_spec(snapshot: Snapshot) -> str:
    devices: list[Object] = [{"name": gpu.uuid, "containerEdits": {}} for gpu in snapshot.gpus]
    return json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices})


async def _ended(tasks: Iterable["asyncio.Future[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
