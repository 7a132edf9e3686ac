"""The DRA driver on a simulated node: real shares, CDI files and sockets; a small API server.

The kubelet's part is played by gRPC clients of its own protocol, on the sockets where it looks.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gpuslice_agent.cgroups import PodCgroups
from gpuslice_agent.enforcement import Wall
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.mig import MigPolicy
from gpuslice_agent.model import Gpu, GpuPath, Health, HealthState, Policy, Share, Snapshot
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.shares import Shares
from gpuslice_agent.simulation import SimNode
from gpuslice_plugin.api import ApiServer, Object
from gpuslice_plugin.calls import Calls
from gpuslice_plugin.cdi import ShimFiles, Spec
from gpuslice_plugin.dra.driver import Driver, Settings
from gpuslice_plugin.dra.front import Front
from gpuslice_plugin.nvidia_spec import NvidiaSpecs
from gpuslice_proto.dra.v1 import dra_pb2 as v1
from gpuslice_proto.dra.v1 import dra_pb2_grpc as v1_grpc
from gpuslice_proto.pluginregistration.v1 import pluginregistration_pb2 as registration
from gpuslice_proto.pluginregistration.v1 import pluginregistration_pb2_grpc as registration_grpc

from ..agent.world import gpus_of, nvml_of, opened
from .api_server import SmallApiServer, small_api_server

NODE = "node-a"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
WAIT_SECONDS = 20.0


@dataclass(slots=True)
class DraWorld:
    """Everything around one driver."""

    state: Path
    kubelet_dir: Path  # in a short place: a socket's path has 107 bytes at most
    small: SmallApiServer
    server: ApiServer
    shares: Shares
    inventory: Inventory
    cdi: Spec
    wall: Wall
    calls: Calls
    mig: bool = False

    @property
    def registrars(self) -> list[Path]:
        return list((self.kubelet_dir / "plugins_registry").glob("*.sock"))

    @property
    def endpoints(self) -> list[Path]:
        return list((self.kubelet_dir / "plugins").glob("*/*.sock"))

    @property
    def slices(self) -> dict[str, Object]:
        return {
            path.rsplit("/", 1)[1]: thing
            for path, thing in self.small.objects.items()
            if path.startswith(SLICES)
        }

    def driver(self, front: Front | None = None) -> Driver:
        settings = Settings(NODE, self.state, 16, 1.0, Policy.HARD, self.mig)
        return Driver(
            self.server,
            self.shares,
            self.wall,
            self.cdi,
            self.inventory,
            front or self.front(),
            settings,
        )

    def front(self) -> Front:
        """A new instance's sockets, not open yet."""
        return Front(NODE, self.kubelet_dir, self.calls)

    def gpu(self, index: int = 0) -> Gpu:
        return self.inventory.snapshot.gpus[index]

    def look(self, *gpus: Gpu) -> None:
        """As the observer does."""
        snapshot = replace(self.inventory.snapshot, gpus=gpus, shares=self.shares.all())
        self.inventory.replace(snapshot)

    def set_health(self, state: HealthState, reason: str = "") -> None:
        first, *rest = self.inventory.snapshot.gpus
        self.look(replace(first, health=Health(state, reason)), *rest)

    def allocate(self, name: str, *results: Object, config: tuple[Object, ...] = ()) -> Object:
        """A claim as the scheduler leaves it."""
        known = {"driver": "gpu.gpuslice.io", "pool": NODE, "request": "gpu"}
        document: Object = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name, "uid": f"uid-of-{name}"},
            "status": {
                "allocation": {
                    "devices": {
                        "results": [{**known, **one} for one in results],
                        "config": list(config),
                    }
                },
                "reservedFor": [{"resource": "pods", "name": "pod", "uid": "pod-uid"}],
            },
        }
        return self.small.put(f"{CLAIMS}/{name}", document)

    def held(self, name: str) -> list[Share]:
        return [one for one in self.shares.all() if one.owner.claim_uid == f"uid-of-{name}"]


class Kubelet:
    """Its side of the protocol, by the socket that it finds first."""

    def __init__(self, world: DraWorld) -> None:
        self._world = world

    async def info(self) -> registration.PluginInfo:
        await eventually(lambda: self._world.registrars)
        async with _channel(self._world.registrars[0]) as channel:
            stub = registration_grpc.RegistrationStub(channel)
            info = await stub.GetInfo(registration.InfoRequest())
            told = registration.RegistrationStatus(plugin_registered=True)
            await stub.NotifyRegistrationStatus(told)
            return info

    @asynccontextmanager
    async def channel(self) -> AsyncGenerator[grpc.aio.Channel]:
        info = await self.info()
        async with _channel(Path(info.endpoint)) as channel:
            yield channel

    async def prepare(self, *names: str) -> dict[str, v1.NodePrepareResourceResponse]:
        async with self.channel() as channel:
            request = v1.NodePrepareResourcesRequest(claims=claims_of(*names))
            answer = await v1_grpc.DRAPluginStub(channel).NodePrepareResources(request)
            return {uid.removeprefix("uid-of-"): one for uid, one in answer.claims.items()}

    async def unprepare(self, *names: str) -> dict[str, str]:
        async with self.channel() as channel:
            request = v1.NodeUnprepareResourcesRequest(claims=claims_of(*names))
            answer = await v1_grpc.DRAPluginStub(channel).NodeUnprepareResources(request)
            return {uid.removeprefix("uid-of-"): one.error for uid, one in answer.claims.items()}


def claims_of(*names: str) -> list[v1.Claim]:
    return [v1.Claim(namespace="default", name=name, uid=f"uid-of-{name}") for name in names]


def share(cores: int = 30, memory: str = "1Gi", **fields: Any) -> Object:
    """A result: a share of the first GPU."""
    capacity = {"gpucores": str(cores), "gpumem": memory, "slots": "1"}
    known = {"device": "gpu-0-share", "shareID": "share-id", "consumedCapacity": capacity}
    return {**known, **fields}


async def eventually(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110  # nothing tells what others' files are
            await asyncio.sleep(0.02)


@asynccontextmanager
async def dra_world(
    state: Path, node: SimNode, mig: MigPolicy = MigPolicy.OFF
) -> AsyncGenerator[DraWorld]:
    """Without a driver."""
    nvml = nvml_of(node)
    with opened(state / "agent", node, mig=mig, nvml=nvml) as world:
        async with small_api_server() as (small, server):
            small.put(f"/api/v1/nodes/{NODE}", {"metadata": {"name": NODE}})
            gpus = tuple(replace(gpu, path=GpuPath.DRA) for gpu in gpus_of(node))
            if mig is MigPolicy.ON_DEMAND:
                known = {gpu.uuid: gpu.mig_profiles for gpu in (await nvml.describe()).gpus}
                gpus = tuple(replace(gpu, mig_profiles=known[gpu.uuid]) for gpu in gpus)
                world.inventory.replace(replace(world.inventory.snapshot, gpus=gpus))
            inventory = Inventory()
            inventory.replace(Snapshot(driver_version="615.00.00", gpus=gpus))
            (state / "nvidia").mkdir()
            (state / "nvidia" / "nvidia.json").write_text(json.dumps(_nvidia(gpus)))
            cdi = Spec(
                state / "cdi",
                NvidiaSpecs([state / "nvidia"]),
                ShimFiles(Path("/shim.so"), Path("/preload")),
                lambda uuid: inventory.snapshot.gpu(uuid),
            )
            cgroups = PodCgroups(state / "cgroup", "/")
            wall = Wall(Nvml(5, 5), cgroups, world.shares.all, wanted=False)
            with tempfile.TemporaryDirectory() as short:
                kubelet = Path(short)
                shares, calls = world.shares, Calls()
                found = DraWorld(
                    state,
                    kubelet,
                    small,
                    server,
                    shares,
                    inventory,
                    cdi,
                    wall,
                    calls,
                    mig=mig is MigPolicy.ON_DEMAND,
                )
                removing = asyncio.create_task(shares.keep_removing_partitions())
                yield found
                removing.cancel()
                await nvml.end()


@asynccontextmanager
async def running(world: DraWorld, front: Front | None = None) -> AsyncGenerator[Kubelet]:
    """With a driver that runs, and whoever asks it."""
    task = asyncio.create_task(world.driver(front).run())
    try:
        await eventually(lambda: world.registrars or task.done())
        yield Kubelet(world)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _channel(path: Path) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(
        f"unix:{path}", options=(("grpc.default_authority", "localhost"),)
    )


def _nvidia(gpus: tuple[Gpu, ...]) -> Object:
    devices = [
        {"name": gpu.uuid, "containerEdits": {"deviceNodes": [{"path": f"/dev/nvidia{gpu.index}"}]}}
        for gpu in gpus
    ]
    return {"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": devices}
