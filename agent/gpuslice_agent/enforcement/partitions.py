"""MIG partitions of shares: made after the share is in the ledger, and gone before it leaves it.

Whoever is killed in between finds in the ledger what is ours, made or not. What is of no share is
never removed, and its GPU never taken out of MIG mode.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from gpuslice_agent.errors import NvmlError, PartitionError
from gpuslice_agent.mig import MigDevice, MigPolicy
from gpuslice_agent.model import Gpu, GpuPath, Placement, Share, ShareState
from gpuslice_agent.nvml.process import Nvml

log = logging.getLogger(__name__)

Place = tuple[str, int]  # GPU's UUID, first memory slice
AGAIN_SECONDS = 1.0  # until programs in a partition have ended


class Partitions:
    def __init__(self, nvml: Nvml, policy: MigPolicy) -> None:
        self._nvml = nvml
        self._policy = policy
        self._of_gpu: dict[str, asyncio.Lock] = {}
        self._gone: set[str] = set()  # ids of shares whose partition is removed
        self._said: set[str] = set()
        self._due = asyncio.Event()

    def may_cut(self, gpu: Gpu) -> bool:
        is_allowed = self._policy is MigPolicy.ON_DEMAND and gpu.path is GpuPath.DRA
        return is_allowed and bool(gpu.mig_profiles)

    async def check(self, places: Iterable[Placement], shares: Iterable[Share]) -> None:
        """Before shares come to these places: that no partition of others is in their way.

        PartitionError: one is, or the GPU cannot leave MIG mode.
        """
        ours = places_of(shares)
        for one in places:
            async with self._turn(one.gpu_uuid):
                await self._check(one, ours)

    async def _check(self, wanted: Placement, ours: Collection[Place]) -> None:
        uuid = wanted.gpu_uuid
        try:
            there = await self._nvml.partitions(uuid)
            foreign = [one for one in there.devices if (uuid, one.place.start) not in ours]
            place = wanted.limits.mig
            for device in foreign:
                if place is None or place.overlaps(device.place):
                    raise PartitionError(
                        f"GPU {uuid} has a MIG partition {device.name} that is of no share: remove "
                        "it with nvidia-smi mig."
                    )
            if place is None and there.enabled and not there.devices:
                await self._nvml.set_mig_mode(uuid, False)
                log.info("MIG mode switched off uuid=%s", uuid)
        except NvmlError as error:
            raise PartitionError(f"GPU {uuid} cannot be used now: {error}.") from error

    async def make(self, share: Share) -> MigDevice:
        """The partition of a share; idempotent. PartitionError: it cannot be made now."""
        place = share.limits.mig
        assert place is not None
        async with self._turn(share.gpu_uuid):
            self._gone.discard(share.id)
            try:
                there = await self._nvml.partitions(share.gpu_uuid)
                device = device_at(share, there.devices)
                if device is None and self._policy is MigPolicy.OFF:
                    raise PartitionError("No MIG partitions are made on this node: mig is off.")
                if not there.enabled:
                    await self._nvml.set_mig_mode(share.gpu_uuid, True)
                    log.info("MIG mode switched on uuid=%s", share.gpu_uuid)
                if device is None:
                    there = await self._nvml.make_partition(share.gpu_uuid, place)
                    device = device_at(share, there.devices)
            except NvmlError as error:
                raise PartitionError(
                    f"The MIG partition {place.profile} of GPU {share.gpu_uuid} cannot be made: "
                    f"{error}."
                ) from error
        if device is None:
            raise PartitionError(
                f"The MIG partition {place.profile} of GPU {share.gpu_uuid} is not to be seen."
            )
        log.info("MIG partition there id=%s uuid=%s", share.id, device.uuid)
        return device

    async def find(self, share: Share) -> MigDevice | None:
        """The partition of a share, where it is there."""
        try:
            return device_at(share, (await self._nvml.partitions(share.gpu_uuid)).devices)
        except NvmlError as error:
            log.warning("MIG partition not looked for id=%s reason=%s", share.id, error)
            return None

    def is_there(self, share: Share) -> bool:
        """As far as anybody knows."""
        return share.limits.mig is not None and share.id not in self._gone

    def forget(self, share_id: str) -> None:
        self._gone.discard(share_id)

    def due(self) -> None:
        """There may be something to remove."""
        self._due.set()

    async def keep_removing(
        self, shares: Callable[[], Iterable[Share]], sweep: Callable[[], None]
    ) -> None:
        """Removes the partitions of shares that were given up."""
        while True:
            self._due.clear()
            over = [one for one in shares() if is_over(one) and self.is_there(one)]
            for share in over:
                await self._remove(share, shares)
            sweep()
            if any(self.is_there(one) for one in over):
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                await self._due.wait()

    async def _remove(self, share: Share, shares: Callable[[], Iterable[Share]]) -> None:
        place = share.limits.mig
        assert place is not None
        async with self._turn(share.gpu_uuid):
            # Its owner may have come back meanwhile.
            if not any(one.id == share.id and is_over(one) for one in shares()):
                return
            try:
                await self._nvml.remove_partition(share.gpu_uuid, place)
            except NvmlError as error:
                self._say(share.id, "MIG partition not removed yet id=%s reason=%s", error)
                return
            self._gone.add(share.id)
            self._said.discard(share.id)
        log.info("MIG partition removed id=%s profile=%s", share.id, place.profile)

    def judged(self, gpu: Gpu, ours: Collection[Place]) -> Gpu:
        """The GPU with what of its partitions is not of `ours`. Each is told once."""
        foreign = tuple(
            one for one in gpu.reading.mig_devices if (gpu.uuid, one.place.start) not in ours
        )
        if self.may_cut(gpu):
            for device in foreign:
                text = "MIG partition of no share found, left as it is uuid=%s profile=%s"
                self._say(device.uuid, text, device.name)
        is_ours = self.may_cut(gpu) and not foreign
        return replace(gpu, foreign_partitions=foreign, partitioned=gpu.reading.mig and not is_ours)

    def _say(self, name: str, text: str, what: object) -> None:
        if name not in self._said:
            self._said.add(name)
            log.warning(text, name, what)

    def _turn(self, gpu_uuid: str) -> asyncio.Lock:
        return self._of_gpu.setdefault(gpu_uuid, asyncio.Lock())


def places_of(shares: Iterable[Share]) -> frozenset[Place]:
    """Where partitions of shares are, or will be."""
    return frozenset(
        (share.gpu_uuid, share.limits.mig.start) for share in shares if share.limits.mig
    )


def device_at(share: Share, devices: Iterable[MigDevice]) -> MigDevice | None:
    """The one that programs can use there."""
    place = share.limits.mig
    return next((one for one in devices if one.uuid and one.place == place), None)


def is_over(share: Share) -> bool:
    return share.limits.mig is not None and share.state is ShareState.ENDING
