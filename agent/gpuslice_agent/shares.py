"""The one place that creates, resizes and releases shares, for every caller."""

import logging
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from gpuslice_agent.allocation import Defaults, allocate, check_room, resize
from gpuslice_agent.enforcement import ContextOverhead, Enforcement, Partitions
from gpuslice_agent.errors import LedgerError, ShareError, UnknownShareError
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.ledger import Ledger
from gpuslice_agent.model import (
    Limits,
    Owner,
    Placement,
    Share,
    ShareRequest,
    ShareState,
    Snapshot,
)
from gpuslice_agent.owners import Owners
from gpuslice_agent.recovery import Recovery

log = logging.getLogger(__name__)


class Shares:
    """All shares of the node. A change is in the ledger before anybody can see it.

    Between two awaits nothing else of the agent runs: what stands without one happens at once.
    """

    def __init__(
        self,
        ledger: Ledger,
        enforcement: Enforcement,
        owners: Owners,
        overhead: ContextOverhead,
        partitions: Partitions,
        inventory: Inventory,
        defaults: Defaults,
    ) -> None:
        self._ledger = ledger
        self._enforcement = enforcement
        self._owners = owners
        self._overhead = overhead
        self._partitions = partitions
        self._inventory = inventory
        self._defaults = defaults
        self._recovery = Recovery(ledger, enforcement, overhead)
        self._shares: dict[str, Share] = {}

    def all(self) -> tuple[Share, ...]:
        return tuple(self._shares.values())

    async def create(self, request: ShareRequest) -> tuple[Share, ...]:
        """One share on each GPU asked for, all or none."""
        checked: set[Placement] = set()
        while True:
            self.sweep()
            allocations = allocate(request, self._snapshot(), self._defaults)
            places = [Placement(one.gpu_uuid, one.limits, request.owner) for one in allocations]
            if not await self._has_waited_for(places, checked):
                break  # nothing has changed since
        owner = self._owners.identified(request.owner)
        return self._begin([Placement(one.gpu_uuid, one.limits, owner) for one in allocations])

    async def take(self, placements: Sequence[Placement]) -> tuple[Share, ...]:
        """A share in each of these places, for owners with keys; all or none.

        An owner that has a share already gets that one, whatever place is named now. One that was
        released and is still held by processes goes on where the place is the same.
        AllocationError: one of them does not fit.
        """
        checked: set[Placement] = set()
        while True:
            self.sweep()
            revived = [share for one in placements if (share := self._ending(one)) is not None]
            there = {one.owner.key for one in self.all() if _is_live(one) or one in revived}
            new = [one for one in placements if one.owner.key not in there]
            check_room(new, self._snapshot(), self._defaults)
            if not await self._has_waited_for(new, checked):
                break  # nothing has changed since
        for place in new:
            self._forget_key(place.owner.key)
        begun = self._begin(new, revived)
        taken = [self.by_key(one.owner.key) for one in placements]
        try:
            return tuple([await self._partitioned(one) for one in taken if one is not None])
        except BaseException:
            self.release(share.id for share in begun)
            raise

    def by_key(self, key: str) -> Share | None:
        """The share of the owner with this key; none that is ending."""
        live = (share for share in self.all() if _is_live(share))
        return next((share for share in live if share.owner.key == key), None)

    def set_owner(self, share_id: str, owner: Owner) -> Share:
        """New names for who holds the share: another pod of its claim, say."""
        share = self._known(share_id)
        self._ledger.set_owner(share_id, owner)
        self._shares[share_id] = replace(share, owner=owner)
        self._enforcement.remember(self._shares[share_id])
        return self._shares[share_id]

    async def measure(self, gpu_uuids: Iterable[str]) -> bool:
        """What a context costs on these GPUs, unless it is known; whether that took any time.

        A share is made at once where it was done before.
        """
        driver = self._snapshot().driver_version
        unknown = [uuid for uuid in gpu_uuids if self._overhead.known(uuid, driver) is None]
        for uuid in unknown:
            await self._overhead.measure(uuid, driver)
        return bool(unknown)

    def resize(self, share_id: str, cores: int | None, memory_bytes: int | None) -> Share:
        """A live resize; its processes see it at their next allocation or launch."""
        share = self._known(share_id)
        if share.state is not ShareState.READY:
            raise ShareError(f"Share {share_id} is {share.state}: it cannot be resized.")
        limits = resize(share, cores, memory_bytes, self._snapshot(), self._defaults)
        self._ledger.set_limits(share_id, limits)
        self._enforcement.set_limits(share, limits)
        # Looked at under the new limit, beyond which nothing more can be taken.
        used = self._enforcement.used_bytes(share_id)
        if used > limits.memory_bytes and limits.memory_bytes < share.limits.memory_bytes:
            self._enforcement.set_limits(share, share.limits)
            self._ledger.set_limits(share_id, share.limits)
            raise ShareError(
                f"Share {share_id} holds {used} bytes: it cannot be made smaller than that."
            )
        self._shares[share_id] = self._enforcement.look(replace(share, limits=limits))
        self._enforcement.remember(self._shares[share_id])
        log.info("share resized id=%s %s", share_id, _text(limits))
        return self._shares[share_id]

    def release(self, share_ids: Iterable[str]) -> None:
        """Idempotent. A share that processes still hold ends with the last of them."""
        known = [share_id for share_id in share_ids if share_id in self._shares]
        self._ledger.set_ending(known)
        for share_id in known:
            self._shares[share_id] = replace(self._shares[share_id], state=ShareState.ENDING)
        self.sweep()
        self._partitions.due()

    async def find_partitions(self) -> None:
        """After a restart; one that was not made yet is made when its owner asks again."""
        for share in self.all():
            if share.limits.mig is not None and _is_live(share):
                device = await self._partitions.find(share)
                self._shares[share.id] = replace(self._shares[share.id], mig=device)

    async def keep_removing_partitions(self) -> None:
        await self._partitions.keep_removing(self.all, self.sweep)

    def sweep(self) -> None:
        """Ends the shares that nobody owns and nobody holds."""
        over = [share for share in self.all() if self._is_over(share)]
        if not over:
            return
        try:
            self._ledger.delete(share.id for share in over)
        except LedgerError as error:
            log.error("ended shares stay in the ledger reason=%s", error)
            return
        for share in over:
            self._end(share)

    def look(self) -> None:
        """Reads what the shares hold and do, and ends those that are over."""
        self.sweep()
        self._shares = {share.id: self._enforcement.look(share) for share in self.all()}

    def recover(self) -> None:
        """Makes ledger, directories and processes agree again after an agent ended, however."""
        self._shares = self._recovery.found()
        for share in self.all():
            self._owners.hold(share.id, share.owner)
        # Not before all holders are known: those without files have none.
        self.sweep()
        self._shares = {share.id: self._recovery.mended(share) for share in self.all()}

    async def _has_waited_for(self, places: Sequence[Placement], checked: set[Placement]) -> bool:
        """Does what has to be done before there can be shares at these places, once for each."""
        snapshot = self._snapshot()
        new = [
            place
            for place in places
            if place not in checked
            and (gpu := snapshot.gpu(place.gpu_uuid)) is not None
            and self._partitions.may_cut(gpu)
        ]
        await self._partitions.check(new, self.all())
        checked |= set(new)
        measured = await self.measure(one.gpu_uuid for one in places if not one.limits.whole)
        return bool(new) or measured

    async def _partitioned(self, share: Share) -> Share:
        """The share, its MIG partition made where it is to have one."""
        if share.limits.mig is None:
            return share
        device = await self._partitions.make(share)
        known = self._shares.get(share.id)
        if known is None or not _is_live(known):
            self._partitions.due()
            raise ShareError(f"Share {share.id} was released before its MIG partition was made.")
        self._shares[share.id] = replace(known, mig=device)
        return self._shares[share.id]

    def _begin(
        self, places: Sequence[Placement], revived: Sequence[Share] = ()
    ) -> tuple[Share, ...]:
        now = time.time()
        new = tuple(
            Share(share_id, one.gpu_uuid, one.limits, one.owner, now)
            for share_id, one in zip(self._ids(places), places, strict=True)
        )
        self._ledger.insert(new, (share.id for share in revived))
        for share in revived:
            self._shares[share.id] = replace(share, state=ShareState.READY)
        self._shares |= {share.id: share for share in new}
        try:
            for share in new:
                self._owners.hold(share.id, share.owner)
                self._shares[share.id] = self._started(share)
        except BaseException:
            for share in new:
                self._shares[share.id] = replace(share, state=ShareState.ENDING)
            self.sweep()
            raise
        for share in new:
            text = _text(share.limits)
            log.info("share created id=%s uuid=%s %s", share.id, share.gpu_uuid, text)
        return tuple(self._shares[share.id] for share in new)

    def _ids(self, places: Sequence[Placement]) -> list[str]:
        """A share that has ended may still be held under the id that is wanted."""
        taken = set(self._shares)
        ids: list[str] = []
        for place in places:
            wanted = place.id if place.id not in taken else ""
            ids.append(wanted or secrets.token_hex(6))
            taken.add(ids[-1])
        return ids

    def _started(self, share: Share) -> Share:
        driver = self._inventory.snapshot.driver_version
        return self._enforcement.start(share, self._overhead.known(share.gpu_uuid, driver) or 0)

    def _ending(self, place: Placement) -> Share | None:
        """A share that this owner has given up and its processes have not, in the same place."""
        wanted = (place.owner.key, place.gpu_uuid, place.limits)
        ending = (share for share in self.all() if share.state is ShareState.ENDING)
        return next(
            (one for one in ending if (one.owner.key, one.gpu_uuid, one.limits) == wanted), None
        )

    def _forget_key(self, key: str) -> None:
        """A share that its owner has given up elsewhere gets in nobody's way."""
        for share in self.all():
            if share.owner.key == key:
                self.set_owner(share.id, replace(share.owner, key=""))

    def _known(self, share_id: str) -> Share:
        share = self._shares.get(share_id)
        if share is None:
            raise UnknownShareError(f"There is no share {share_id}.")
        return share

    def _snapshot(self) -> Snapshot:
        """The GPUs as last seen, the shares as they are."""
        return replace(self._inventory.snapshot, shares=self.all())

    def _is_over(self, share: Share) -> bool:
        ended = share.state is ShareState.ENDING or self._owners.is_gone(share.id, share.owner)
        if ended and self._partitions.is_there(share):
            return False
        return ended and self._enforcement.process_count(share.id) == 0

    def _end(self, share: Share) -> None:
        self._enforcement.stop(share.id)
        self._owners.let_go(share.id)
        self._partitions.forget(share.id)
        del self._shares[share.id]
        log.info("share ended id=%s", share.id)


def _is_live(share: Share) -> bool:
    return share.state is not ShareState.ENDING


def _text(limits: Limits) -> str:
    return " ".join(f"{name}={value}" for name, value in asdict(limits).items())
