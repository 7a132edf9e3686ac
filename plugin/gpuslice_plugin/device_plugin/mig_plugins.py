"""Serves the MIG partitions that an administrator made on the plugin's GPUs, a resource a profile.

Here an id is a partition, so nothing is bound late: the kubelet itself sees to it that nobody else
gets it, and its CDI file lies ready.
"""

import asyncio
import logging
from pathlib import Path
from typing import Any

from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import Snapshot
from gpuslice_plugin.cdi import PARTITION, Spec, device_id
from gpuslice_plugin.device_plugin import mig_resources
from gpuslice_plugin.device_plugin.endpoint import Endpoint
from gpuslice_plugin.device_plugin.mig_resources import Partition
from gpuslice_plugin.device_plugin.resources import Device
from gpuslice_plugin.device_plugin.service import DeviceList, Listed
from gpuslice_plugin.errors import CdiError
from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2 as pb

log = logging.getLogger(__name__)


class MigPlugin(Listed):
    """Answers the kubelet for the partitions of one profile, which are all alike."""

    async def Allocate(self, request: pb.AllocateRequest, context: Any) -> pb.AllocateResponse:
        return pb.AllocateResponse(
            container_responses=[
                pb.ContainerAllocateResponse(
                    cdi_devices=[pb.CDIDevice(name=device_id(one)) for one in asked.devices_ids]
                )
                for asked in request.container_requests
            ]
        )

    async def GetPreferredAllocation(
        self, request: pb.PreferredAllocationRequest, context: Any
    ) -> pb.PreferredAllocationResponse:
        """The options say that nobody has to ask; nor for what follows."""
        return pb.PreferredAllocationResponse()

    async def PreStartContainer(
        self, request: pb.PreStartContainerRequest, context: Any
    ) -> pb.PreStartContainerResponse:
        return pb.PreStartContainerResponse()


class MigPlugins:
    def __init__(self, inventory: Inventory, spec: Spec, directory: Path, prefix: str) -> None:
        self._inventory = inventory
        self._spec = spec
        self._directory = directory
        self._prefix = prefix
        self._known: dict[str, Partition] = {}
        self._lists: dict[str, DeviceList] = {}
        self._written: set[str] = set()
        self._said: dict[str, str] = {}  # what is wrong with a file, told once

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            async for snapshot in self._inventory.changes(watching=False):
                for resource in self.look(snapshot):
                    plugin = MigPlugin(self._lists[resource])
                    group.create_task(Endpoint(self._directory, resource, plugin).run())

    def look(self, snapshot: Snapshot) -> list[str]:
        """Brings lists and CDI files up to date; the resources that are new."""
        present = mig_resources.partitions(snapshot)
        self._known |= present
        self._write(present)
        found = mig_resources.devices(self._prefix, self._known, snapshot)
        new = [resource for resource in found if resource not in self._lists]
        self._lists |= {resource: DeviceList() for resource in new}
        for resource, devices in self._lists.items():
            devices.replace(found.get(resource, ()))
        return new

    def devices(self) -> dict[str, tuple[Device, ...]]:
        """By resource, as the kubelet is told."""
        return {resource: known.devices for resource, known in self._lists.items()}

    def _write(self, present: dict[str, Partition]) -> None:
        for name in self._spec.present():
            if name.startswith(PARTITION) and name not in present:
                self._spec.remove(name)
        self._written &= present.keys()
        for uuid, (gpu, partition) in present.items():
            if uuid in self._written:
                continue
            try:
                self._spec.write_partition(gpu, partition)
                self._written.add(uuid)
            except CdiError as error:
                if self._said.get(uuid) != str(error):
                    log.error("CDI file not written name=%s reason=%s", uuid, error)
                self._said[uuid] = str(error)
