"""The device plugin as one part of the agent."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Protocol

from gpuslice_agent.allocation import Defaults
from gpuslice_agent.config import Config
from gpuslice_agent.enforcement import Wall
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import Unfit
from gpuslice_agent.shares import Shares
from gpuslice_plugin.api import ApiServer
from gpuslice_plugin.calls import Calls
from gpuslice_plugin.cdi import Spec
from gpuslice_plugin.device_plugin import checkpoint as checkpoints
from gpuslice_plugin.device_plugin import ids
from gpuslice_plugin.device_plugin.advertising import Advertising
from gpuslice_plugin.device_plugin.binding import Binding
from gpuslice_plugin.device_plugin.endpoint import Endpoint
from gpuslice_plugin.device_plugin.mig_plugins import MigPlugins
from gpuslice_plugin.device_plugin.planner import Rules
from gpuslice_plugin.device_plugin.release import Release
from gpuslice_plugin.device_plugin.resources import Resource, resources
from gpuslice_plugin.device_plugin.service import DeviceList, DevicePlugin
from gpuslice_plugin.device_plugin.unfit import UnfitEviction, UnfitPods
from gpuslice_plugin.errors import ApiError, CheckpointError, ForeignPluginError
from gpuslice_plugin.eviction import Eviction
from gpuslice_plugin.node_resources import NodeResources
from gpuslice_plugin.pod_resources import PodResources
from gpuslice_plugin.pods import NodePods

log = logging.getLogger(__name__)

DIRECTORY = "device-plugins"


class Part(Protocol):
    async def run(self) -> None: ...


class DevicePlugins:
    """All resources of the node that pods ask a device plugin for."""

    def __init__(
        self,
        config: Config,
        server: ApiServer,
        shares: Shares,
        wall: Wall,
        inventory: Inventory,
        pods: NodePods,
        spec: Spec,
        calls: Calls,
        unfit: UnfitPods,
    ) -> None:
        self._calls = calls
        self._server = server
        self._node_path = f"/api/v1/nodes/{config.node_name}"
        self._directory = config.kubelet_dir / DIRECTORY
        self._resources = resources(config.resource_prefix, config.slots_per_gpu)
        self._pod_resources = PodResources(config.kubelet_dir)
        eviction = Eviction(server)
        defaults = Defaults(config.policy, config.placement, config.overcommit_ratio)
        self._lists = [(resource, DeviceList()) for resource in self._resources]
        self._advertising = Advertising(inventory, shares, self._directory, self._lists)
        self._binding = Binding(
            shares,
            wall,
            inventory,
            pods,
            self._pod_resources,
            spec,
            eviction,
            unfit,
            self._directory,
            config.resource_prefix,
            Rules(defaults, config.slots_per_gpu),
        )
        self._parts: list[Part] = [
            self._advertising,
            MigPlugins(inventory, spec, self._directory, config.resource_prefix),
            Release(shares, pods, self._pod_resources, spec, self._directory),
            NodeResources(
                server,
                config.node_name,
                pods,
                inventory,
                config.memory_resource,
                config.resource_prefix,
                config.overcommit_ratio,
            ),
            UnfitEviction(
                eviction,
                unfit,
                pods,
                config.unfit_seconds if config.unfit is Unfit.EVICT else None,
            ),
        ]

    async def run(self) -> None:
        """ForeignPluginError: another plugin serves one of our names."""
        await self._refuse_foreign()
        self._advertising.look()
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._parts:
                    group.create_task(part.run())
                for resource, devices in self._lists:
                    plugin = DevicePlugin(
                        resource,
                        devices,
                        self._binding,
                        self._advertising.preferred,
                        self._calls,
                    )
                    endpoint = Endpoint(self._directory, resource.name, plugin)
                    group.create_task(endpoint.run())
        finally:
            await self._pod_resources.close()

    async def _refuse_foreign(self) -> None:
        """Two that serve one name take turns in the kubelet, and both hand out the same GPUs."""
        try:
            registered = dict(checkpoints.read(self._directory).registered)
            node = await self._server.get(self._node_path)
        except (CheckpointError, ApiError) as error:
            log.warning("not looked for other plugins reason=%s", error)
            return
        status: dict[str, dict[str, str]] = node.get("status") or {}
        allocatable = status.get("allocatable") or {}
        for resource in self._resources:
            refuse_foreign(resource, registered.get(resource.name, frozenset()), allocatable)


def refuse_foreign(
    resource: Resource, registered: Collection[str], allocatable: Mapping[str, str]
) -> None:
    """The kubelet keeps the ids of plugins that are gone, but nobody can have them any more."""
    foreign = [one for one in registered if ids.parse(one) is None]
    if foreign and allocatable.get(resource.name, "0") != "0":
        raise ForeignPluginError(
            f"Another device plugin serves {resource.name} on this node, with devices such as "
            f"{min(foreign)}: remove it, or set another resource_prefix."
        )
