"""The one place that creates, resizes and releases shares, for every caller."""

import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, replace

from gpuslice_agent.allocation import Defaults, allocate, resize
from gpuslice_agent.enforcement import ContextOverhead, Enforcement, corrupt
from gpuslice_agent.errors import (
    EnforcementError,
    LedgerError,
    ShareError,
    UnknownShareError,
)
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.ledger import Ledger
from gpuslice_agent.model import Allocation, Limits, Share, ShareRequest, ShareState, Snapshot
from gpuslice_agent.owners import Owners

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
        inventory: Inventory,
        defaults: Defaults,
    ) -> None:
        self._ledger = ledger
        self._enforcement = enforcement
        self._owners = owners
        self._overhead = overhead
        self._inventory = inventory
        self._defaults = defaults
        self._shares: dict[str, Share] = {}

    def all(self) -> tuple[Share, ...]:
        return tuple(self._shares.values())

    async def create(self, request: ShareRequest) -> tuple[Share, ...]:
        """One share on each GPU asked for, all or none."""
        while True:
            self.sweep()
            snapshot = self._snapshot()
            allocations = allocate(request, snapshot, self._defaults)
            driver = snapshot.driver_version
            known = {
                one.gpu_uuid: self._overhead.known(one.gpu_uuid, driver) for one in allocations
            }
            unknown = [uuid for uuid, size in known.items() if size is None]
            if not unknown:
                break
            for uuid in unknown:
                await self._overhead.measure(uuid, driver)
        return self._take(request, allocations, {uuid: size or 0 for uuid, size in known.items()})

    def resize(self, share_id: str, cores: int | None, memory_bytes: int | None) -> Share:
        """A live resize; its processes see it at their next allocation or launch."""
        share = self._shares.get(share_id)
        if share is None:
            raise UnknownShareError(f"There is no share {share_id}.")
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
        log.info("share resized id=%s %s", share_id, _text(limits))
        return self._shares[share_id]

    def release(self, share_ids: Iterable[str]) -> None:
        """Idempotent. A share that processes still hold ends with the last of them."""
        known = [share_id for share_id in share_ids if share_id in self._shares]
        self._ledger.set_ending(known)
        for share_id in known:
            self._shares[share_id] = replace(self._shares[share_id], state=ShareState.ENDING)
        self.sweep()

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
        self._enforcement.sweep()
        for share in self._ledger.shares():
            self._owners.hold(share.id, share.owner)
            self._shares[share.id] = share
        for share_id in self._enforcement.found():
            if share_id not in self._shares:
                self._adopt(share_id)
        for share in self.all():
            if self._enforcement.has_files(share.id):
                self._resume(share)
        # Not before all holders are known: those without files have none.
        self.sweep()
        for share in self.all():
            if not self._enforcement.has_files(share.id):
                self._restart(share)

    def _take(
        self, request: ShareRequest, allocations: tuple[Allocation, ...], overhead: dict[str, int]
    ) -> tuple[Share, ...]:
        owner = self._owners.identified(request.owner)
        now = time.time()
        new = tuple(
            Share(secrets.token_hex(6), one.gpu_uuid, one.limits, owner, now) for one in allocations
        )
        self._ledger.insert(new)
        self._shares |= {share.id: share for share in new}
        try:
            for share in new:
                self._owners.hold(share.id, owner)
                self._shares[share.id] = self._enforcement.start(share, overhead[share.gpu_uuid])
        except BaseException:
            for share in new:
                self._shares[share.id] = replace(share, state=ShareState.ENDING)
            self.sweep()
            raise
        for share in new:
            text = _text(share.limits)
            log.info("share created id=%s uuid=%s %s", share.id, share.gpu_uuid, text)
        return tuple(self._shares[share.id] for share in new)

    def _snapshot(self) -> Snapshot:
        """The GPUs as last seen, the shares as they are."""
        return replace(self._inventory.snapshot, shares=self.all())

    def _is_over(self, share: Share) -> bool:
        ended = share.state is ShareState.ENDING or self._owners.is_gone(share.id, share.owner)
        return ended and self._enforcement.process_count(share.id) == 0

    def _end(self, share: Share) -> None:
        self._enforcement.stop(share.id)
        self._owners.let_go(share.id)
        del self._shares[share.id]
        log.info("share ended id=%s", share.id)

    def _adopt(self, share_id: str) -> None:
        """Files without a record: the ledger was lost, or its last word was that they go.

        As long as processes hold them, what they hold is not free.
        """
        try:
            share = self._enforcement.adopt(share_id)
        except EnforcementError as error:
            log.warning("unknown share removed id=%s reason=%s", share_id, error)
            self._enforcement.stop(share_id)
            return
        self._ledger.insert([share])
        self._ledger.set_ending([share_id])
        self._shares[share_id] = share

    def _resume(self, share: Share) -> None:
        try:
            self._shares[share.id] = self._enforcement.resume(share)
        except EnforcementError as error:
            self._corrupt(share, error)

    def _corrupt(self, share: Share, error: EnforcementError) -> None:
        """The others go on."""
        log.error("share is corrupt id=%s reason=%s", share.id, error)
        self._shares[share.id] = corrupt(share)

    def _restart(self, share: Share) -> None:
        """The agent was killed between the record and the files."""
        self._enforcement.stop(share.id)
        overhead = self._overhead.last_known(share.gpu_uuid)
        try:
            self._shares[share.id] = self._enforcement.start(share, overhead)
        except EnforcementError as error:
            self._corrupt(share, error)


def _text(limits: Limits) -> str:
    return " ".join(f"{name}={value}" for name, value in asdict(limits).items())
