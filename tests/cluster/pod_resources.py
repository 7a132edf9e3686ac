"""What the kubelet says that the containers of its pods hold."""

from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from gpuslice_proto.podresources.v1 import podresources_pb2 as messages
from gpuslice_proto.podresources.v1 import podresources_pb2_grpc as services

from .node import Node

SOCKET = "var/lib/kubelet/pod-resources/kubelet.sock"


@dataclass(frozen=True, slots=True)
class Held:
    """One device of one container: of a plugin, with its resource, or of a claim."""

    namespace: str
    pod: str
    container: str
    resource: str = ""
    device_id: str = ""
    claim: str = ""
    device: str = ""
    share_id: str = ""


def held(node: Node) -> list[Held]:
    # The kubelet may forget devices if this is asked while it admits a pod: not during storms.
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{node.root / SOCKET}", options) as channel:
        answer = services.PodResourcesListerStub(channel).List(messages.ListPodResourcesRequest())
    return list(_held(answer))


def _held(answer: messages.ListPodResourcesResponse) -> Iterator[Held]:
    for pod in answer.pod_resources:
        for container in pod.containers:
            owner = (pod.namespace, pod.name, container.name)
            for devices in container.devices:
                for one in devices.device_ids:
                    yield Held(*owner, resource=devices.resource_name, device_id=one)
            for claim in container.dynamic_resources:
                for part in claim.claim_resources:
                    yield Held(
                        *owner,
                        claim=claim.claim_name,
                        device=part.device_name,
                        share_id=part.share_id,
                    )
