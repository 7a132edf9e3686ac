"""The arbiters of a node: one for each GPU with a limited share, with all shares of that GPU."""

from gpuslice_agent.enforcement.library import AgentLibrary, Arbiter, OpenShare
from gpuslice_agent.model import Limits


class Arbiters:
    def __init__(self, library: AgentLibrary) -> None:
        self._library = library
        self._arbiters: dict[str, Arbiter] = {}
        self._members: dict[str, dict[OpenShare, Limits]] = {}

    def paces(self, gpu_uuid: str) -> bool:
        return gpu_uuid in self._arbiters

    def put(self, gpu_uuid: str, share: OpenShare, limits: Limits) -> None:
        """Adds a share, or takes note of its new limits."""
        members = self._members.setdefault(gpu_uuid, {})
        known = share in members
        members[share] = limits
        try:
            if not known and gpu_uuid in self._arbiters:
                self._arbiters[gpu_uuid].add(share)
            self._start_or_stop(gpu_uuid)
        except BaseException:
            if not known:
                del members[share]
            raise

    def take(self, gpu_uuid: str, share: OpenShare) -> None:
        """Removes a share; no error where it is none of ours."""
        if self._members.get(gpu_uuid, {}).pop(share, None) is None:
            return
        if gpu_uuid in self._arbiters:
            self._arbiters[gpu_uuid].remove(share)
        self._start_or_stop(gpu_uuid)

    def stop(self) -> None:
        for arbiter in self._arbiters.values():
            arbiter.stop()
        self._arbiters.clear()

    def _start_or_stop(self, gpu_uuid: str) -> None:
        members = self._members[gpu_uuid]
        # A share of the whole time that is alone, or with none limited beside it, owes nobody.
        needed = any(limits.cores < 100 for limits in members.values())
        if needed and gpu_uuid not in self._arbiters:
            arbiter = Arbiter(self._library)
            try:
                for share in members:
                    arbiter.add(share)
            except BaseException:
                arbiter.stop()
                raise
            self._arbiters[gpu_uuid] = arbiter
        elif not needed and gpu_uuid in self._arbiters:
            arbiter = self._arbiters.pop(gpu_uuid)
            for share in members:
                arbiter.remove(share)
            arbiter.stop()
