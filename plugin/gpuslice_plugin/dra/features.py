"""What this API server keeps of a slice: fields whose feature is off it drops without a word.

It is asked by a dry run, so that nothing wrong is ever published: on Kubernetes 1.34 a device that
should be shared would come out as one more whole GPU.
"""

from collections.abc import Iterable

from gpuslice_agent.model import Gpu, Health, HealthState, Snapshot
from gpuslice_plugin.api import ApiServer, Object, part, parts
from gpuslice_plugin.dra.cards import Card
from gpuslice_plugin.dra.layout import Features, Rules, layout
from gpuslice_plugin.dra.names import DRIVER, SLICES
from gpuslice_plugin.errors import ApiError

INVALID = 422
NEEDS = {"sharedCounters", "consumesCounters", "allowMultipleAllocations", "requestPolicy"}


async def probe(server: ApiServer, node: str) -> Features:
    """What is left of the slices of a sick GPU, which have every field that we ever write."""
    health = Health(HealthState.UNHEALTHY)
    gpu = Gpu(0, "GPU-probe", "probe", "0000:00:00.0", 1 << 30, health=health)
    wanted = layout((Card(0, gpu),), Snapshot(), Rules(node, 1, 1.0), Features(), {})
    lost: set[str] = set()
    for position, one in enumerate(wanted):
        pool = {"name": node, "generation": 1, "resourceSliceCount": len(wanted)}
        sent: Object = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"generateName": f"probe-{position}-{DRIVER}-"},
            "spec": {"driver": DRIVER, "nodeName": node, "pool": pool, **one.content},
        }
        try:
            answer = await server.create(SLICES, sent, dry_run=True)
        except ApiError as error:
            if error.status != INVALID:
                raise
            return Features(sharing=False, taints=False)
        lost |= set(dropped(answer["spec"], sent["spec"]))
    return Features(sharing=not lost & NEEDS, taints="taints" not in lost)


def dropped(answer: Object, sent: Object) -> Iterable[str]:
    """The names of fields that were sent and did not come back."""
    yield from sent.keys() - answer.keys()
    devices = {one["name"]: one for one in parts(answer, "devices")}
    for device in parts(sent, "devices"):
        back = devices.get(device["name"], {})
        yield from device.keys() - back.keys()
        for name, capacity in part(device, "capacity").items():
            yield from capacity.keys() - part(part(back, "capacity"), name).keys()
