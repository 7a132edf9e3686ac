"""What a kubelet does with a device plugin, over real sockets."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as pb_grpc
from gpuslice_proto.podresources.v1 import podresources_pb2 as pr
from gpuslice_proto.podresources.v1 import podresources_pb2_grpc as pr_grpc


@dataclass
class Known:
    """A plugin that has registered."""

    request: pb.RegisterRequest
    channel: grpc.aio.Channel
    lists: list[pb.ListAndWatchResponse] = field(default_factory=list[pb.ListAndWatchResponse])
    stream: "asyncio.Task[None] | None" = None

    @property
    def stub(self) -> "pb_grpc.DevicePluginAsyncStub":
        return pb_grpc.DevicePluginStub(self.channel)

    async def follow(self) -> None:
        async for answer in self.stub.ListAndWatch(pb.Empty()):
            self.lists.append(answer)


class Kubelet(pb_grpc.RegistrationServicer, pr_grpc.PodResourcesListerServicer):
    def __init__(self, directory: Path) -> None:
        self.plugins = directory / "device-plugins"
        self.known: list[Known] = []
        self.pods: dict[tuple[str, str], pr.PodResources] = {}
        self.was_listed = False
        self._entries: list[dict[str, Any]] = []

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.Empty:
        channel = grpc.aio.insecure_channel(f"unix:{self.plugins / request.endpoint}")
        known = Known(request, channel)
        known.stream = asyncio.create_task(known.follow())
        self.known.append(known)
        return pb.Empty()

    async def Get(self, request: pr.GetPodResourcesRequest, context: Any) -> Any:
        found = self.pods.get((request.pod_namespace, request.pod_name))
        if found is None:
            await context.abort(
                grpc.StatusCode.UNKNOWN,
                f"pod {request.pod_name} in namespace {request.pod_namespace} not found",
            )
        return pr.GetPodResourcesResponse(pod_resources=found)

    async def List(self, request: pr.ListPodResourcesRequest, context: Any) -> Any:
        """Whoever asks this may make a real kubelet forget what it has given away."""
        self.was_listed = True
        return pr.ListPodResourcesResponse()

    async def GetAllocatableResources(
        self, request: pr.AllocatableResourcesRequest, context: Any
    ) -> Any:
        return pr.AllocatableResourcesResponse()

    def forget(self) -> None:
        """Its checkpoint is lost."""
        self._entries.clear()

    def give(
        self, pod_uid: str, container: str, resource: str, ids: Iterable[str], cdi: str
    ) -> None:
        """As after an Allocate: written down before any container starts."""
        answer = pb.ContainerAllocateResponse(cdi_devices=[pb.CDIDevice(name=cdi)])
        self._entries.append(
            {
                "PodUID": pod_uid,
                "ContainerName": container,
                "ResourceName": resource,
                "DeviceIDs": {"-1": list(ids)},
                "AllocResp": base64.b64encode(answer.SerializeToString()).decode(),
            }
        )
        document = {"Data": {"PodDeviceEntries": self._entries}}
        (self.plugins / "kubelet_internal_checkpoint").write_text(json.dumps(document))


@asynccontextmanager
async def kubelet(directory: Path) -> AsyncGenerator[Kubelet]:
    """From its start, when it wipes the sockets of all plugins, until it ends."""
    started = Kubelet(directory)
    started.plugins.mkdir(parents=True, exist_ok=True)
    (directory / "pod-resources").mkdir(exist_ok=True)
    for socket in started.plugins.glob("*.sock"):
        socket.unlink()
    server = grpc.aio.server()
    pb_grpc.add_RegistrationServicer_to_server(started, server)
    pr_grpc.add_PodResourcesListerServicer_to_server(started, server)
    server.add_insecure_port(f"unix:{started.plugins / 'kubelet.sock'}")
    server.add_insecure_port(f"unix:{directory / 'pod-resources' / 'kubelet.sock'}")
    await server.start()
    try:
        yield started
    finally:
        for known in started.known:
            if known.stream is not None:
                known.stream.cancel()
            await known.channel.close()
        await server.stop(0)
