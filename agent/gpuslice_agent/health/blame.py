"""Which share a process held, also some time after its end: a fault is often told by then. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from gpuslice_agent.model import Share

REMEMBERED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Tenancy:
    share: str
    owner: str  # its key, which stays the same; else its name
    gpu_uuid: str
    seen_at: float


class Tenancies:
    """By pid, as the agent sees pids."""

    def __init__(self) -> None:
        self._held: dict[int, Tenancy] = {}

    def saw(self, shares: Iterable[Share], now: float) -> None:
        for share in shares:
            tenancy = Tenancy(share.id, share.owner.key or share.owner.name, share.gpu_uuid, now)
            # `gpuslice run` becomes the program: its owner may fault before it is seen in a slot.
            for pid in (share.owner.pid, *(process.pid for process in share.usage.processes)):
                if pid > 0:
                    self._held[pid] = tenancy
        for pid in [
            pid for pid, held in self._held.items() if now - held.seen_at > REMEMBERED_SECONDS
        ]:
            del self._held[pid]

    def of(self, pid: int | None, now: float) -> Tenancy | None:
        tenancy = self._held.get(pid or 0)
        if tenancy is None or now - tenancy.seen_at > REMEMBERED_SECONDS:
            return None
        return tenancy
