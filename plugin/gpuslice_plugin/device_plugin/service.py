"""Answers the kubelet for one resource. What it decides is said by others; this speaks gRPC."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any, Protocol

import grpc
import grpc.aio

from gpuslice_agent.errors import GpusliceError
from gpuslice_plugin.calls import Calls
from gpuslice_plugin.cdi import device_id
from gpuslice_plugin.device_plugin import ids
from gpuslice_plugin.device_plugin.resources import Device, Resource
from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

OPTIONS = pb.DevicePluginOptions(pre_start_required=True, get_preferred_allocation_available=True)


class Binder(Protocol):
    async def bind(self, resource: str, given: frozenset[str]) -> None:
        """Sees to it that the CDI files of the pod with these ids are there."""
        ...


class DeviceList:
    """The devices of one resource as they are now, and who waits for the next list."""

    def __init__(self) -> None:
        self._devices: tuple[Device, ...] = ()
        self._changed = asyncio.Event()

    @property
    def devices(self) -> tuple[Device, ...]:
        return self._devices

    def replace(self, devices: Sequence[Device]) -> None:
        if tuple(devices) == self._devices:
            return
        self._devices = tuple(devices)
        self._changed.set()
        self._changed = asyncio.Event()

    async def changes(self) -> AsyncGenerator[tuple[Device, ...]]:
        while True:
            # Taken before the yield: a change while the reader works is not lost.
            changed = self._changed
            yield self._devices
            await changed.wait()


class Listed(pb_grpc.DevicePluginServicer):
    """What is the same for every resource: the kubelet hears which devices there are."""

    options = pb.DevicePluginOptions()

    def __init__(self, devices: DeviceList) -> None:
        self._devices = devices
        self._streams = 0
        self.disconnected = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> None:
        pb_grpc.add_DevicePluginServicer_to_server(self, server)

    async def GetDevicePluginOptions(self, request: pb.Empty, context: Any) -> Any:
        return self.options

    async def ListAndWatch(
        self, request: pb.Empty, context: Any
    ) -> AsyncGenerator[pb.ListAndWatchResponse]:
        self._streams += 1
        try:
            async for devices in self._devices.changes():
                yield device_list(devices)
        finally:
            self._streams -= 1
            # A kubelet that we registered with twice keeps both: one is enough.
            if self._streams == 0:
                self.disconnected.set()


class DevicePlugin(Listed):
    """Of shares and whole GPUs, which are bound late."""

    options = OPTIONS

    def __init__(
        self,
        resource: Resource,
        devices: DeviceList,
        binder: Binder,
        preferred: Callable[[Resource, Sequence[str], Sequence[str], int], Sequence[str]],
        calls: Calls,
    ) -> None:
        super().__init__(devices)
        self._calls = calls
        self._resource = resource
        self._binder = binder
        self._preferred = preferred

    async def GetPreferredAllocation(
        self, request: pb.PreferredAllocationRequest, context: Any
    ) -> pb.PreferredAllocationResponse:
        return pb.PreferredAllocationResponse(
            container_responses=[
                pb.ContainerPreferredAllocationResponse(
                    deviceIDs=self._preferred(
                        self._resource,
                        one.available_deviceIDs,
                        one.must_include_deviceIDs,
                        one.allocation_size,
                    )
                )
                for one in request.container_requests
            ]
        )

    async def Allocate(self, request: pb.AllocateRequest, context: Any) -> pb.AllocateResponse:
        """A name that was never used: the container cannot start before PreStart has made it."""
        return pb.AllocateResponse(
            container_responses=[
                pb.ContainerAllocateResponse(
                    cdi_devices=[pb.CDIDevice(name=device_id(secrets.token_hex(12)))]
                )
                for _ in request.container_requests
            ]
        )

    async def PreStartContainer(
        self, request: pb.PreStartContainerRequest, context: Any
    ) -> pb.PreStartContainerResponse:
        given = frozenset(request.devices_ids)
        try:
            with self._calls.timed("PreStartContainer"):
                await self._binder.bind(self._resource.name, given)
        except GpusliceError as error:
            log.info(
                "container not started resource=%s ids=%d reason=%s",
                self._resource.name,
                len(given),
                error,
            )
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return pb.PreStartContainerResponse()


def device_list(devices: Iterable[Device]) -> pb.ListAndWatchResponse:
    return pb.ListAndWatchResponse(devices=map(_message, devices))


def _message(device: Device) -> pb.Device:
    topology = None
    if device.numa_node != ids.NO_NUMA:
        topology = pb.TopologyInfo(nodes=[pb.NUMANode(ID=device.numa_node)])
    health = "Healthy" if device.healthy else "Unhealthy"
    return pb.Device(ID=device.id, health=health, topology=topology)
