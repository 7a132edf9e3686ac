"""The kernel's wall behind the shim: no program of a pod gets more of a GPU than its shares say."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from gpuslice_agent.cgroups import PodCgroups
from gpuslice_agent.errors import EnforcementError, NvmlError
from gpuslice_agent.model import Gpu, Share, promise
from gpuslice_agent.nvml.process import Nvml

log = logging.getLogger(__name__)

SHIM, SHIM_AND_KERNEL = "shim", "shim+kernel"


def limits_of(shares: Iterable[Share]) -> dict[str, int]:
    """Bytes that one pod with these shares may hold, by GPU. A GPU it has whole has no limit.

    Pods that share a claim each get all of it: the kernel knows no sum over pods, the shim does.
    """
    of_gpu: dict[str, list[Share]] = {}
    for share in shares:
        of_gpu.setdefault(share.gpu_uuid, []).append(share)
    return {
        uuid: promise(held).memory_bytes
        for uuid, held in of_gpu.items()
        if not any(share.limits.whole for share in held)
    }


class Wall:
    """Sets and follows the limits. Where one cannot be set the shim still holds, and it is tried
    again at every look.
    """

    def __init__(
        self,
        nvml: Nvml,
        cgroups: PodCgroups,
        shares: Callable[[], Iterable[Share]],
        *,
        wanted: bool,
    ) -> None:
        self._nvml = nvml
        self._cgroups = cgroups
        self._shares = shares
        self._wanted = wanted
        self._asked: dict[tuple[str, str], bool] = {}  # by driver version and GPU
        self._sizes: dict[str, int] = {}  # of the GPUs that have walls, in bytes
        self._set: dict[str, dict[str, int]] = {}  # pod UID → GPU → bytes
        self._turn = asyncio.Lock()

    @property
    def enforcement(self) -> str:
        """Which walls stand on this node: the kernel's too only where every GPU has it."""
        return SHIM_AND_KERNEL if self._asked and all(self._asked.values()) else SHIM

    @property
    def pods(self) -> frozenset[str]:
        """The UIDs of the pods that hold shares, by themselves or through claims."""
        return frozenset(uid for share in self._shares() for uid in share.owner.pods)

    async def look(self, driver_version: str, gpus: Iterable[Gpu]) -> None:
        """Asks the driver whether it has walls, once for each GPU."""
        if not self._wanted:
            return
        asked: dict[tuple[str, str], bool] = {}
        sizes: dict[str, int] = {}
        for gpu in gpus:
            key = (driver_version, gpu.uuid)
            asked[key] = self._asked.get(key, False) or await self._can_limit(gpu.uuid)
            if asked[key]:
                sizes[gpu.uuid] = gpu.memory_bytes
        if sizes.keys() != self._sizes.keys():
            log.info("kernel wall gpus=%s", ",".join(sorted(sizes)) or "none")
        self._asked, self._sizes = asked, sizes

    async def hold(self, pod_uid: str) -> None:
        """To be called before a container of the pod starts, its shares in the ledger."""
        try:
            await self._bring_in_line(pod_uid)
        except (EnforcementError, NvmlError) as error:
            log.error("kernel wall not set pod_uid=%s reason=%s", pod_uid, error)

    async def follow(self) -> None:
        """Brings all limits in line with the shares: after a resize, and when some have ended."""
        for pod_uid in self.pods | self._set.keys():
            # Its cgroup may be gone before its shares are.
            with suppress(EnforcementError, NvmlError):
                await self._bring_in_line(pod_uid)

    def _due(self, pod_uid: str) -> dict[str, int]:
        limits = limits_of(share for share in self._shares() if pod_uid in share.owner.pods)
        # With overcommit a share may be larger than the card, which the driver refuses as a limit.
        return {uuid: size for uuid, size in limits.items() if size < self._sizes.get(uuid, 0)}

    async def _can_limit(self, uuid: str) -> bool:
        try:
            return await self._nvml.can_limit(uuid, str(self._cgroups.top))
        except NvmlError as error:
            log.debug("kernel wall unknown uuid=%s reason=%s", uuid, error)
            return False

    async def _bring_in_line(self, pod_uid: str) -> None:
        async with self._turn:
            due, done = self._due(pod_uid), dict(self._set.get(pod_uid, {}))
            if due == done:
                return
            cgroup = self._cgroups.find(pod_uid)
            if cgroup is None:
                self._set.pop(pod_uid, None)  # its limits went with it
                raise EnforcementError(
                    f"The pod {pod_uid} has no cgroup below {self._cgroups.top}."
                )
            for uuid in due.keys() | done.keys():
                if due.get(uuid) != done.get(uuid):
                    await self._limit(pod_uid, str(cgroup), uuid, due.get(uuid))

    async def _limit(self, pod_uid: str, cgroup: str, uuid: str, size: int | None) -> None:
        await self._nvml.limit(uuid, cgroup, size)
        held = self._set.setdefault(pod_uid, {})
        if size is None:
            del held[uuid]
        else:
            held[uuid] = size
        if not held:
            del self._set[pod_uid]
        log.info("kernel wall set pod_uid=%s uuid=%s memory_bytes=%s", pod_uid, uuid, size)
