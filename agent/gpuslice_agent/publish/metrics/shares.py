"""Shares as metrics: at most eight series each, for a node may have hundreds.

With the pod on each: what scales on metrics picks series by it, and cannot join.
"""

from collections.abc import Callable, Iterable

from gpuslice_agent.model import Share, Snapshot
from gpuslice_agent.publish.metrics.families import Family, Kind, labels

SECONDS = 1e-9

Values = tuple[tuple[str, Kind, str, Callable[[Share], float | None]], ...]

OF_SHARE: Values = (
    (
        "gpuslice_share_memory_limit_bytes",
        Kind.GAUGE,
        "Memory that the share may hold.",
        lambda s: s.limits.memory_bytes,
    ),
    (
        "gpuslice_share_memory_used_bytes",
        Kind.GAUGE,
        "Memory charged to the share.",
        lambda s: s.usage.used_bytes if _is_measured(s) else None,
    ),
    (
        "gpuslice_share_memory_over_bytes",
        Kind.GAUGE,
        "Memory on the card beyond the limit, by NVML.",
        lambda s: s.usage.over_bytes,
    ),
    (
        "gpuslice_share_cores_limit_ratio",
        Kind.GAUGE,
        "Part of the GPU's time promised to the share.",
        lambda s: s.limits.cores / 100,
    ),
    (
        "gpuslice_share_busy_seconds",
        Kind.COUNTER,
        "GPU time that the share used.",
        lambda s: s.usage.busy_ns * SECONDS if _is_measured(s) else None,
    ),
    (
        "gpuslice_share_throttled_seconds",
        Kind.COUNTER,
        "Time that threads of the share were held back at a launch.",
        lambda s: s.usage.throttled_ns * SECONDS if _is_measured(s) else None,
    ),
    (
        "gpuslice_share_processes",
        Kind.GAUGE,
        "Processes that hold the share.",
        lambda s: len(s.usage.processes) if _is_measured(s) else None,
    ),
)


def of_shares(snapshot: Snapshot) -> Iterable[Family]:
    labelled = tuple((share, share_labels(share)) for share in snapshot.shares)
    for name, kind, text, value_of in OF_SHARE:
        yield Family(name, text, kind).add_each(
            (label, value_of(share)) for share, label in labelled
        )
    info = Family("gpuslice_share", "What a share is.", Kind.INFO)
    for share, label in labelled:
        info.add(1, f"{label},{_about(share)}")
    yield info


def _is_measured(share: Share) -> bool:
    """A whole GPU or MIG partition has no shim that would say; the GPU's own series do."""
    return not share.limits.whole


def share_labels(share: Share) -> str:
    owner = share.owner
    return labels(
        share=share.id,
        uuid=share.gpu_uuid,
        namespace=owner.namespace,
        pod=owner.pod,
        container=owner.container,
    )


def _about(share: Share) -> str:
    return labels(
        kind=share.owner.kind.value,
        owner=share.owner.name,
        pod_uid=share.owner.pod_uid,
        claim=share.owner.claim,
        whole=str(share.limits.whole).lower(),
        mig_uuid=share.mig.uuid if share.mig else "",
        policy=share.limits.policy.value,
        priority=share.limits.priority.value,
        state=share.state.value,
    )
