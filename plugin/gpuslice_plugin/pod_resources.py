"""Asks the kubelet what one pod holds.

Never for the list of all pods: while an Allocate is under way, that can make the kubelet forget
ids and hand them out twice (seen with kubelet 1.36.3, in 37 of 50 forced runs).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from gpuslice_plugin.errors import KubeletError, OldKubeletError
from gpuslice_proto.podresources.v1 import podresources_pb2 as pb
from gpuslice_proto.podresources.v1 import podresources_pb2_grpc as pb_grpc

SOCKET = Path("pod-resources/kubelet.sock")
SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """What a container holds of one resource. Ordinary init containers are never told of."""

    container: str
    resource: str
    ids: frozenset[str]


class PodResources:
    def __init__(self, kubelet_dir: Path) -> None:
        self._socket = kubelet_dir / SOCKET
        self._channel: grpc.aio.Channel | None = None

    async def get(self, namespace: str, name: str) -> tuple[Held, ...] | None:
        """None: the kubelet has no such pod.

        OldKubeletError: it can never be asked; KubeletError: it does not say now.
        """
        if self._channel is None:
            # Else the channel names its path as the authority, which old kubelets refuse.
            options = (("grpc.default_authority", "localhost"),)
            self._channel = grpc.aio.insecure_channel(f"unix:{self._socket}", options=options)
        request = pb.GetPodResourcesRequest(pod_name=name, pod_namespace=namespace)
        try:
            stub = pb_grpc.PodResourcesListerStub(self._channel)
            answer = await stub.Get(request, timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            if "not found" in details:  # the kubelet gives this error no code of its own
                return None
            if error.code() is grpc.StatusCode.UNIMPLEMENTED or "disabled" in details:
                raise OldKubeletError("The kubelet cannot be asked for one pod.") from error
            raise KubeletError(
                f"The kubelet does not say what pod {namespace}/{name} holds "
                f"({error.code().name}: {details})."
            ) from error
        return tuple(held(answer.pod_resources))

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def held(pod: pb.PodResources) -> Iterator[Held]:
    """The kubelet tells the ids of one resource in several pieces."""
    for container in pod.containers:
        ids: dict[str, set[str]] = {}
        for devices in container.devices:
            ids.setdefault(devices.resource_name, set()).update(devices.device_ids)
        for resource, given in ids.items():
            yield Held(container.name, resource, frozenset(given))
