"""Puts together what the agent does for Kubernetes on its node, and keeps it running."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client.registry import Collector

from gpuslice_agent import native_files
from gpuslice_agent.allocation import check_paths
from gpuslice_agent.config import Config
from gpuslice_agent.enforcement import Strangers, Wall
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.mig import MigPolicy
from gpuslice_agent.model import GpuPath, HealthState, NodeLabels
from gpuslice_agent.shares import Shares
from gpuslice_plugin import node_labels, shim_files
from gpuslice_plugin.api import ApiServer
from gpuslice_plugin.calls import Calls
from gpuslice_plugin.cdi import Spec
from gpuslice_plugin.device_plugin.plugin import DevicePlugins
from gpuslice_plugin.device_plugin.unfit import UnfitPods
from gpuslice_plugin.dra.claim_pods import ClaimPods
from gpuslice_plugin.dra.driver import Driver, Settings
from gpuslice_plugin.dra.front import Front
from gpuslice_plugin.events import Events
from gpuslice_plugin.eviction import Eviction
from gpuslice_plugin.health.lost_gpus import LostGpus
from gpuslice_plugin.health.node_condition import NodeCondition
from gpuslice_plugin.health.reporter import Reporter
from gpuslice_plugin.node_labels import Labels
from gpuslice_plugin.nvidia_spec import NvidiaSpecs
from gpuslice_plugin.pod_events import PodEvents
from gpuslice_plugin.pods import NodePods
from gpuslice_plugin.stranger_events import StrangerEvents

log = logging.getLogger(__name__)

Attach = Callable[[Config, Shares, Inventory, Wall, Strangers], "Node"]


@asynccontextmanager
async def opened(config: Config, *, early: bool) -> AsyncGenerator[Attach]:
    """`early`: another agent may still own the node, and the kubelet is told of this one already.

    A device plugin cannot do that: the kubelet drops the newer one when the older ends.
    """
    check_paths(config.plugin_gpus, config.dra_gpus)
    front = Front(config.node_name, config.kubelet_dir, Calls())
    try:
        if early and config.dra_gpus != "none":
            await front.open()
            await front.registered()
        yield partial(Node, front=front)
    finally:
        await front.close()


class Node:
    def __init__(
        self,
        config: Config,
        shares: Shares,
        inventory: Inventory,
        wall: Wall,
        strangers: Strangers,
        *,
        front: Front,
    ) -> None:
        self._config = config
        self._shares = shares
        self._inventory = inventory
        self._wall = wall
        self._strangers = strangers
        self._server = ApiServer.configured(config.kubeconfig)
        self._front = front
        self._unfit = UnfitPods()
        self._shim = shim_files.install(native_files.shim(), config.state_dir)
        self._spec = Spec(
            config.cdi_dir,
            NvidiaSpecs([Path(one) for one in config.nvidia_cdi_dirs.split(":")]),
            self._shim,
            lambda uuid: inventory.snapshot.gpu(uuid),
        )

    @property
    def collectors(self) -> Iterable[Collector]:
        return (self._front.calls.histogram, self._unfit)

    async def run(self) -> None:
        """Until it is cancelled. What fails outside is retried by the part that met it."""
        self._agree()
        try:
            async with asyncio.TaskGroup() as group:
                for name, part in self._parts().items():
                    group.create_task(_forever(part, name), name=name)
        finally:
            await self._server.close()

    def _parts(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        pods = NodePods.of_node(self._server, self._config.node_name)
        events = PodEvents(self._server, self._config.node_name)
        parts = {
            "CDI files": self._keep_agreeing(),
            "context costs": self._keep_measuring(),
            "pods": pods.run(),
            "strangers": StrangerEvents(self._strangers, pods, events).run(),
            **self._health(pods),
        }
        if self._config.dra_gpus != "none":
            parts["DRA"] = self._dra().run()
            parts["pods of claims"] = ClaimPods(self._shares, self._wall, pods).run()
        if self._config.node_labels is not NodeLabels.NONE:
            parts["labels"] = self._labels().run()
        if self._config.plugin_gpus != "none":
            parts["device plugin"] = self._device_plugins(pods).run()
        return parts

    def _health(self, pods: NodePods) -> Mapping[str, Coroutine[Any, Any, None]]:
        name, inventory = self._config.node_name, self._inventory
        events = Events(self._server, name)
        parts = {
            "condition": NodeCondition(self._server, name, inventory).run(),
            "events": Reporter(events, name, inventory, pods).run(),
        }
        if self._config.evict_from_lost_gpus:
            of_pods = PodEvents(self._server, name)
            lost_gpus = LostGpus(Eviction(self._server), of_pods, inventory, pods)
            parts["lost GPUs"] = lost_gpus.run()
        return parts

    def _dra(self) -> Driver:
        config = self._config
        settings = Settings(
            config.node_name,
            config.state_dir,
            config.slots_per_gpu,
            config.overcommit_ratio,
            config.policy,
            mig=config.mig is MigPolicy.ON_DEMAND,
        )
        return Driver(
            self._server,
            self._shares,
            self._wall,
            self._spec,
            self._inventory,
            self._front,
            settings,
        )

    def _labels(self) -> Labels:
        config = self._config
        settings = node_labels.Settings(
            config.node_name,
            config.node_labels,
            config.nfd_dir,
            config.sysfs_dir,
            config.slots_per_gpu,
        )
        return Labels(self._server, self._inventory, settings)

    def _device_plugins(self, pods: NodePods) -> DevicePlugins:
        return DevicePlugins(
            self._config,
            self._server,
            self._shares,
            self._wall,
            self._inventory,
            pods,
            self._spec,
            self._front.calls,
            self._unfit,
        )

    def _agree(self) -> None:
        if self._spec.agree(self._shares.all()):
            shim_files.forget_others(self._shim)

    async def _keep_agreeing(self) -> None:
        """What could not be written for want of a GPU can be when the GPU is seen."""
        seen = {gpu.uuid for gpu in self._inventory.snapshot.gpus}
        async for snapshot in self._inventory.changes(watching=False):
            now = {gpu.uuid for gpu in snapshot.gpus}
            if now - seen:
                self._agree()
            seen = now

    async def _keep_measuring(self) -> None:
        """Before the first pod, which would wait for it: seconds on a GPU that sleeps."""
        async for snapshot in self._inventory.changes(watching=False):
            await self._shares.measure(
                gpu.uuid
                for gpu in snapshot.gpus
                if gpu.path is not GpuPath.LOCAL
                and gpu.health.state is HealthState.HEALTHY
                and not gpu.reading.mig
                and not any(share.gpu_uuid == gpu.uuid for share in snapshot.shares)
            )


async def _forever(part: Coroutine[Any, Any, None], name: str) -> None:
    await part
    raise RuntimeError(f"{name} ended by itself")
