"""Whether all who know of shares know the same: ledger, files, kubelet and API server."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from gpuslice_agent.model import OwnerKind, Share, Snapshot
from gpuslice_plugin.quantity import parse

from . import ledger, pod_resources
from .agent import RUN
from .api import Object
from .cluster import Cluster, uid, wait
from .pod_resources import Held

MIB = 1 << 20
DRIVER = "gpu.gpuslice.io"
CDI_FILES = "run/cdi/k8s.gpu.gpuslice.io-*.json"
CDI_KIND = "k8s.gpu.gpuslice.io/share="
AGREED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class World:
    """What each of them says, as near to one moment as five questions are."""

    snapshot: Snapshot
    shares: tuple[Share, ...]
    directories: frozenset[str]
    cdi: tuple[Object, ...]
    held: tuple[Held, ...]
    pods: tuple[Object, ...]
    claims: tuple[Object, ...]


def wait_agreed(cluster: Cluster) -> World:
    """Waits until nobody contradicts another; what is left says who does."""
    wait_until: list[World] = []

    def agreed() -> bool:
        wait_until[:] = [look(cluster)]
        return not list(contradictions(wait_until[0]))

    try:
        wait("ledger, files, kubelet and API server to agree", agreed, AGREED_SECONDS)
    except AssertionError:
        raise AssertionError("\n".join(contradictions(wait_until[0]))) from None
    return wait_until[0]


def look(cluster: Cluster) -> World:
    root = cluster.node.root
    shares = root / RUN.relative_to("/") / "shares"
    return World(
        snapshot=cluster.agent.snapshot(),
        shares=ledger.shares(cluster.agent.state),
        directories=frozenset(path.name for path in shares.iterdir()),
        cdi=tuple(json.loads(path.read_text()) for path in root.glob(CDI_FILES)),
        held=tuple(pod_resources.held(cluster.node)),
        pods=tuple(filter(_alive, cluster.api.list("pods"))),
        claims=tuple(cluster.api.list("resourceclaims")),
    )


def contradictions(world: World) -> Iterator[str]:
    """Sentences, each about one thing that two of them do not say alike."""
    yield from _too_much_promised(world)
    with_files = [share for share in world.shares if not share.limits.whole]
    known = [share.id for share in world.snapshot.shares]
    yield from _different("shares that the agent shows", known, (s.id for s in world.shares))
    yield from _different("share directories", world.directories, (s.id for s in world.shares))
    yield from _different("CDI devices", _cdi_names(world), _names_of(world.shares))
    yield from _different("mounted shares", _mounted(world), (s.id for s in with_files))
    yield from _of_claims(world)
    yield from _of_containers(world)
    yield from _of_kubelet(world)


def _too_much_promised(world: World) -> Iterator[str]:
    for gpu in world.snapshot.gpus:
        shares = [share for share in world.shares if share.gpu_uuid == gpu.uuid]
        always = [share for share in shares if not share.owner.moments]
        cores = sum(share.limits.cores for share in always)
        memory = sum(share.limits.memory_bytes for share in always)
        if cores > 100 or memory > gpu.memory_bytes:
            yield f"GPU {gpu.index} is promised {cores} cores and {memory} bytes"
        places = [share.limits.mig for share in shares if share.limits.mig is not None]
        if len(shares) > max(1, len(places)) and any(share.limits.whole for share in shares):
            yield f"GPU {gpu.index} is somebody's and shared"
        if any(one.overlaps(other) for one, other in combinations(places, 2)):
            yield f"GPU {gpu.index} has partitions in one place: {places}"


def _of_claims(world: World) -> Iterator[str]:
    """A share for each allocated result of a claim that a pod of the node uses, of that size."""
    held = {share.owner.key: share for share in world.shares if share.owner.kind is OwnerKind.CLAIM}
    expected = dict(_allocated(world.claims))
    running = {one.claim for one in world.held if one.claim}
    for key in held.keys() - expected.keys():
        yield f"share {held[key].id} is of {key}, which the API server does not know"
    for key, (name, capacity) in expected.items():
        share = held.get(key)
        if share is None:
            if name in running:
                yield f"claim {name} is held by a container and has no share"
        elif capacity and _size(share) != (parse(capacity["gpucores"]), parse(capacity["gpumem"])):
            yield f"share {share.id} has {share.limits}, its claim {capacity}"


def _allocated(claims: Iterable[Object]) -> Iterator[tuple[str, tuple[str, Object]]]:
    for claim in claims:
        allocation = claim.get("status", {}).get("allocation", {})
        results = allocation.get("devices", {}).get("results", [])
        of_request = Counter[str]()
        for result in (one for one in results if one["driver"] == DRIVER):
            request = result["request"].split("/")[0]
            key = f"claim/{uid(claim)}/{request}/{of_request[request]}"
            of_request[request] += 1
            yield key, (claim["metadata"]["name"], result.get("consumedCapacity", {}))


def _of_containers(world: World) -> Iterator[str]:
    """Each running container has what it asked of the device plugin, and nobody else does."""
    held: dict[tuple[str, str], list[Share]] = defaultdict(list)
    for share in world.shares:
        if share.owner.kind is OwnerKind.CONTAINER:
            held[share.owner.pod_uid, share.owner.container].append(share)
    pods = {uid(pod): pod for pod in world.pods}
    for pod_uid, name in held:
        if pod_uid not in pods:
            yield f"{name} of pod {pod_uid} has a share; the API server has no such pod"
    for pod in world.pods:
        for container in _running(pod):
            asked = container["resources"].get("limits", {})
            if not {"nvidia.com/gpu", "nvidia.com/gpucores"} & asked.keys():
                continue
            found = held[uid(pod), container["name"]]
            if sorted(map(_size, found)) != _asked(asked, found, world):
                yield f"{pod['metadata']['name']}/{container['name']} asked {asked}, has {found}"


def _asked(asked: Object, found: Sequence[Share], world: World) -> list[tuple[int, int]]:
    """The sizes of the shares that these limits mean (the table of the device plugin)."""
    amount = {name.removeprefix("nvidia.com/"): parse(many) for name, many in asked.items()}
    cores, count = amount.get("gpucores", 0), amount.get("gpu", 1)
    total = {gpu.uuid: gpu.memory_bytes for gpu in world.snapshot.gpus}
    if not found:
        return [(-1, -1)]
    if "gpumem" in amount:
        return [(cores, amount["gpumem"] * MIB)] * count
    if cores:
        return sorted((cores, total[share.gpu_uuid] * cores // 100) for share in found)
    return sorted((100, total[share.gpu_uuid]) for share in found)


def _of_kubelet(world: World) -> Iterator[str]:
    """No device is in two containers' hands, except that containers of a pod share a claim."""
    of_plugin = Counter((one.resource, one.device_id) for one in world.held if one.device_id)
    for (resource, device), count in of_plugin.items():
        if count > 1:
            yield f"the kubelet gave {resource} {device} to {count} containers"
    alive = {(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in world.pods}
    for one in world.held:
        if (one.device_id or one.claim) and (one.namespace, one.pod) not in alive:
            yield f"the kubelet says {one.namespace}/{one.pod} holds devices; it is gone"


def _different(what: str, found: Iterable[str], expected: Iterable[str]) -> Iterator[str]:
    there, wanted = set(found), set(expected)
    for one in sorted(there - wanted):
        yield f"{what}: {one} is of no share"
    for one in sorted(wanted - there):
        yield f"{what}: {one} is missing"


def _cdi_names(world: World) -> Iterator[str]:
    return (device["name"] for spec in world.cdi for device in spec["devices"])


def _names_of(shares: Iterable[Share]) -> Iterator[str]:
    return (name.removeprefix(CDI_KIND) for share in shares for name in share.owner.cdi_devices)


def _mounted(world: World) -> Iterator[str]:
    for spec in world.cdi:
        for device in spec["devices"]:
            for mount in device["containerEdits"].get("mounts", []):
                if mount["containerPath"].endswith("/grant"):
                    yield Path(mount["hostPath"]).parent.name


def _size(share: Share) -> tuple[int, int]:
    return share.limits.cores, share.limits.memory_bytes


def _alive(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Pending", "Running") and "nodeName" in pod["spec"]


def _running(pod: Object) -> Iterator[Object]:
    states = {one["name"]: one["state"] for one in pod["status"].get("containerStatuses", [])}
    for container in pod["spec"]["containers"]:
        if (
            "running" in states.get(container["name"], {})
            and "deletionTimestamp" not in pod["metadata"]
        ):
            yield container
