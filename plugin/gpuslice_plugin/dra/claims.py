"""A ResourceClaim as the API server has it, and the places on GPUs that it was allocated: pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from gpuslice_agent.mig import MigPlace
from gpuslice_agent.model import (
    Gpu,
    Limits,
    Overcommit,
    Owner,
    OwnerKind,
    Placement,
    Policy,
    Priority,
)
from gpuslice_plugin.api import Object, part, parts
from gpuslice_plugin.dra import mig
from gpuslice_plugin.dra.cards import Card
from gpuslice_plugin.dra.names import CORES, DRIVER, MEMORY, Kind, device_name
from gpuslice_plugin.dra.share_config import ShareConfig, decode, merged
from gpuslice_plugin.errors import ClaimError
from gpuslice_plugin.quantity import parse

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # so the scheduler makes share ids


@dataclass(frozen=True, slots=True)
class ClaimReference:
    """As the kubelet names a claim."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Result:
    """One device that the scheduler gave to the claim."""

    position: int  # among all of the claim's
    ordinal: int  # among those of its request
    request: str  # as the kubelet knows it: a subrequest's is cut off
    pool: str
    device: str
    share_id: str
    cores: str  # quantities; empty: none was consumed
    memory: str
    admin: bool
    config: ShareConfig


@dataclass(frozen=True, slots=True)
class Claim:
    reference: ClaimReference
    results: tuple[Result, ...]  # of this driver and this node's pool
    pods: tuple[str, ...] = ()  # the names of those it is reserved for
    pod_uids: tuple[str, ...] = ()


def read(document: Object, reference: ClaimReference, pool: str) -> Claim:
    """Checks that it is the claim that was meant, and allocated here."""
    uid = document["metadata"]["uid"]
    if uid != reference.uid:
        raise ClaimError(
            f"The claim {reference} is another one now (UID {uid}, not {reference.uid}): "
            f"the pod that uses the old one has to go first."
        )
    status = part(document, "status")
    allocation = part(status, "allocation")
    if not allocation:
        raise ClaimError(f"The claim {reference} is not allocated.")
    devices = part(allocation, "devices")
    configs = parts(devices, "config")
    ordinals: dict[str, count[int]] = {}
    results = tuple(
        _result(position, next(ordinals.setdefault(_main(result), count())), result, configs)
        for position, result in enumerate(parts(devices, "results"))
        if result["driver"] == DRIVER and result["pool"] == pool
    )
    pods = [one for one in parts(status, "reservedFor") if one.get("resource") == "pods"]
    names, uids = tuple(one["name"] for one in pods), tuple(one["uid"] for one in pods)
    return Claim(reference, results, names, uids)


def placements(
    claim: Claim, cards: Mapping[int, Card], default_policy: Policy
) -> tuple[Placement, ...]:
    """One for each result that is owned: admin access takes nothing from anybody."""
    return tuple(
        Placement(
            gpu.uuid,
            _limits(result, gpu, default_policy),
            _owner(claim, result),
            result.share_id if UUID.fullmatch(result.share_id) else "",
        )
        for result in claim.results
        if not result.admin
        for gpu in (gpu_of(result, cards),)
    )


def gpu_of(result: Result, cards: Mapping[int, Card]) -> Gpu:
    name = device_name(result.device)
    card = cards.get(name.number) if name else None
    if card is None:
        raise ClaimError(f"This node has no device {result.device}.")
    return card.gpu


def cdi_name(uid: str, position: int) -> str:
    return f"{uid}-{position}"


def _result(position: int, ordinal: int, result: Object, configs: Sequence[Object]) -> Result:
    consumed = part(result, "consumedCapacity")
    return Result(
        position=position,
        ordinal=ordinal,
        request=_main(result),
        pool=result["pool"],
        device=result["device"],
        share_id=result.get("shareID") or "",
        cores=consumed.get(CORES, ""),
        memory=consumed.get(MEMORY, ""),
        admin=bool(result.get("adminAccess")),
        config=_config(result["request"], configs),
    )


def _main(result: Object) -> str:
    """The request, without the alternative of it that was chosen."""
    return str(result["request"]).partition("/")[0]


def _config(request: str, configs: Iterable[Object]) -> ShareConfig:
    """Those of the class come first in the list, so that the claim's own win.

    A config names requests, or a subrequest `main/sub` alone, or, with none, means all.
    """
    main = request.partition("/")[0]
    return merged(
        decode(part(one, "opaque").get("parameters"))
        for one in configs
        if part(one, "opaque").get("driver") == DRIVER
        and (not one.get("requests") or {request, main} & set(one["requests"]))
    )


def _limits(result: Result, gpu: Gpu, default_policy: Policy) -> Limits:
    name = device_name(result.device)
    policy = result.config.policy or default_policy
    priority = result.config.priority or Priority.NORMAL
    overcommit = result.config.overcommit or Overcommit.OFF
    if name is not None and name.kind is Kind.ADMIN:
        raise ClaimError(f"{result.device} is for requests with adminAccess alone.")
    if name is not None and name.kind is Kind.WHOLE:
        # A ShareConfig says nothing here: an alternative of the request may be a share.
        return Limits(100, gpu.memory_bytes, policy, whole=True)
    if name is not None and name.kind is Kind.MIG:
        return _partition(mig.place(name, gpu), gpu, policy)
    if not result.cores or not result.memory:
        raise ClaimError(
            f"The allocation of request {result.request} says not how much of {result.device} "
            f"it may use: the cluster lacks DRAConsumableCapacity (Kubernetes 1.36 has it)."
        )
    memory = min(parse(result.memory), gpu.memory_bytes)
    return Limits(parse(result.cores), memory, policy, priority, overcommit=overcommit)


def _partition(place: MigPlace, gpu: Gpu, policy: Policy) -> Limits:
    """Whole, with the part of the GPU's time that its compute slices are."""
    profile = next(one for one in gpu.mig_profiles if one.id == place.profile_id)
    most = max(one.compute_slices for one in gpu.mig_profiles)
    cores = 100 * profile.compute_slices // most
    return Limits(cores, profile.memory_bytes, policy, whole=True, mig=place)


def _owner(claim: Claim, result: Result) -> Owner:
    reference = claim.reference
    name = cdi_name(reference.uid, result.position)
    return Owner(
        name=f"claim {reference}",
        kind=OwnerKind.CLAIM,
        key=f"claim/{reference.uid}/{result.request}/{result.ordinal}",
        namespace=reference.namespace,
        pod=claim.pods[0] if len(claim.pods) == 1 else "",
        claim=reference.name,
        claim_uid=reference.uid,
        pod_uids=claim.pod_uids,
        cdi_devices=(name,),
    )
