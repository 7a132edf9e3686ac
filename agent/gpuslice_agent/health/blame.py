"""Which share a process held, also some time after its end: a fault is often told by then. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gpuslice_agent.model import Share

REMEMBERED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Tenancy:
    share: str
    owner: str  # its key, which stays the same; else its name
    gpu_uuid: str
    seen_at: float
    pods: tuple[str, ...] = ()  # UIDs of those that it may be of


def _tenancy(share: Share, now: float) -> Tenancy:
    owner = share.owner
    return Tenancy(
        share.id, owner.key or owner.name, share.gpu_uuid, now, tuple(sorted(owner.pods))
    )


class Tenancies:
    """By pid, as the agent sees pids."""

    def __init__(self) -> None:
        self._held: dict[int, Tenancy] = {}
        self._pods: dict[int, str] = {}  # by their control groups
        self._shares: tuple[Share, ...] = ()

    def saw(self, shares: Iterable[Share], now: float) -> None:
        self._shares = tuple(shares)
        for share in self._shares:
            tenancy = _tenancy(share, now)
            # `gpuslice run` becomes the program: its owner may fault before it is seen in a slot.
            for pid in (share.owner.pid, *(process.pid for process in share.usage.processes)):
                if pid > 0:
                    self._held[pid] = tenancy
        for pid in [
            pid for pid, held in self._held.items() if now - held.seen_at > REMEMBERED_SECONDS
        ]:
            del self._held[pid]
        self._pods = {pid: uid for pid, uid in self._pods.items() if pid in self._held}

    def found(self, pid: int, pod_uid: str, gpu_uuid: str, now: float) -> None:
        """A process that is in this pod and had a fault there, perhaps before it was ever seen."""
        if pid not in self._held:
            of_pod = (
                share
                for share in self._shares
                if share.gpu_uuid == gpu_uuid and pod_uid in share.owner.pods
            )
            share = next(of_pod, None)
            if share is None:
                return
            self._held[pid] = _tenancy(share, now)
        self._pods[pid] = pod_uid

    def of(self, pid: int | None, now: float) -> Tenancy | None:
        tenancy = self._held.get(pid or 0)
        if tenancy is None or now - tenancy.seen_at > REMEMBERED_SECONDS:
            return None
        pod_uid = self._pods.get(pid or 0)
        return replace(tenancy, pods=(pod_uid,)) if pod_uid in tenancy.pods else tenancy
