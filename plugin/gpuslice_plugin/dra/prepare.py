"""A claim becomes shares and CDI devices, and goes again.

The kubelet waits 45 s and comes back only after a minute. So what may pass by itself is tried again
here, and what takes longer goes on behind an answer that says so: the next call finds it done.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from gpuslice_agent.enforcement import Wall
from gpuslice_agent.errors import GpusliceError, RequestError
from gpuslice_agent.model import OwnerKind, Policy, Share
from gpuslice_agent.shares import Shares
from gpuslice_plugin.api import ApiServer
from gpuslice_plugin.cdi import Spec
from gpuslice_plugin.dra.cards import Card
from gpuslice_plugin.dra.claims import (
    Claim,
    ClaimReference,
    cdi_name,
    gpu_of,
    placements,
    read,
)
from gpuslice_plugin.dra.names import claim_path
from gpuslice_plugin.errors import ApiError, ClaimError, NotReadyError

log = logging.getLogger(__name__)

ANSWER_SECONDS = 40.0
GIVE_UP_SECONDS = 180.0  # the kubelet has asked again by then, or never will
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """One device of a claim, as the kubelet passes it to containers."""

    request: str
    pool: str
    device: str
    share_id: str
    cdi_device: str


@dataclass(slots=True)
class Attempt:
    """A claim's preparation under way; `reason`: why it has not come about yet."""

    task: "asyncio.Task[tuple[Prepared, ...]]"
    reason: str = "the API server has not answered"


class Claims:
    """Whatever is called how often and in which order: a claim has its shares once, or not at all.

    What runs without an await happens at once: releasing never meets half a preparation.
    """

    def __init__(
        self,
        server: ApiServer,
        shares: Shares,
        wall: Wall,
        cdi: Spec,
        node: str,
        cards: Callable[[], Mapping[int, Card]],
        default_policy: Policy,
    ) -> None:
        self._server = server
        self._shares = shares
        self._wall = wall
        self._cdi = cdi
        self._node = node
        self._cards = cards
        self._default_policy = default_policy
        self._attempts: dict[str, Attempt] = {}

    def held(self) -> dict[ClaimReference, tuple[Share, ...]]:
        """The claims that have shares here."""
        found: dict[ClaimReference, list[Share]] = {}
        for share in self._shares.all():
            owner = share.owner
            if owner.kind is OwnerKind.CLAIM and owner.key:
                reference = ClaimReference(owner.namespace, owner.claim, owner.claim_uid)
                found.setdefault(reference, []).append(share)
        return {reference: tuple(shares) for reference, shares in found.items()}

    def administering(self) -> set[ClaimReference]:
        """The claims that were given a GPU without a share."""
        found: set[ClaimReference] = set()
        for name in self._cdi.present():
            if holder := self._cdi.holder(name):
                namespace, _, claim = holder.partition("/")
                found.add(ClaimReference(namespace, claim, name.rpartition("-")[0]))
        return found

    async def prepare(self, reference: ClaimReference, within: float) -> tuple[Prepared, ...]:
        """ClaimError: never as it is written; NotReadyError: not `within` these seconds, but it
        goes on.
        """
        attempt = self._attempts.get(reference.uid)
        if attempt is None:
            attempt = Attempt(asyncio.create_task(self._try(reference), name=f"claim {reference}"))
            self._attempts[reference.uid] = attempt
            attempt.task.add_done_callback(lambda task: self._finish(reference, task))
        await asyncio.wait((attempt.task,), timeout=within)
        if not attempt.task.done():
            raise NotReadyError(
                f"The claim {reference} is still being prepared: {attempt.reason}; "
                f"it goes on, and the kubelet asks again."
            )
        if attempt.task.cancelled():
            raise NotReadyError(f"The claim {reference} was unprepared before it was ready.")
        return attempt.task.result()

    async def unprepare(self, reference: ClaimReference) -> None:
        """Needs no API server; a claim that nobody knows is unprepared already."""
        attempt = self._attempts.pop(reference.uid, None)
        if attempt is not None:
            attempt.task.cancel()
            await asyncio.wait((attempt.task,))
        self.forget(reference.uid)

    def forget(self, uid: str) -> None:
        """First nobody can get the share any more, then it ends."""
        for name in self._cdi.present():
            if name.rpartition("-")[0] == uid:
                self._cdi.remove(name)
        held = [share.id for share in self._shares.all() if share.owner.claim_uid == uid]
        self._shares.release(held)

    def close(self) -> None:
        for attempt in self._attempts.values():
            attempt.task.cancel()

    def _finish(self, reference: ClaimReference, task: "asyncio.Task[object]") -> None:
        attempt = self._attempts.get(reference.uid)
        if attempt is not None and attempt.task is task:
            del self._attempts[reference.uid]
        # Nobody may be waiting any more: the kubelet hears of it when it asks again.
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("claim not prepared claim=%s reason=%s", reference, error)

    async def _try(self, reference: ClaimReference) -> tuple[Prepared, ...]:
        delay = FIRST_DELAY_SECONDS
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                return await self._prepare(reference)
            except GpusliceError as error:
                if not _may_pass(error) or time.monotonic() + delay > give_up_at:
                    raise
                with suppress(KeyError):
                    self._attempts[reference.uid].reason = str(error).rstrip(".")
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    async def _prepare(self, reference: ClaimReference) -> tuple[Prepared, ...]:
        try:
            document = await self._server.get(claim_path(reference.namespace, reference.name))
        except ApiError as error:
            if error.is_absent:
                raise ClaimError(f"The claim {reference} is not there any more.") from error
            raise
        claim = read(document, reference, self._node)
        cards = self._cards()
        places = placements(claim, cards, self._default_policy)
        shares = await self._shares.take(places)
        for share, place in zip(shares, places, strict=True):
            if share.owner != place.owner:  # another pod uses the claim now
                self._shares.set_owner(share.id, place.owner)
        for pod_uid in claim.pod_uids:
            await self._wall.hold(pod_uid)
        return self._injected(claim, cards, shares)

    def _injected(
        self, claim: Claim, cards: Mapping[int, Card], shares: tuple[Share, ...]
    ) -> tuple[Prepared, ...]:
        """The CDI files are written anew each time: they may have been lost or damaged."""
        of_device = {share.owner.cdi_devices[0]: share for share in shares}
        prepared: list[Prepared] = []
        for result in claim.results:
            name = cdi_name(claim.reference.uid, result.position)
            share = of_device.get(name)
            if share is None:  # admin access
                device = self._cdi.write_bare(
                    name, gpu_of(result, cards).uuid, str(claim.reference)
                )
            else:
                device = self._cdi.write(name, [share])
            one = Prepared(result.request, result.pool, result.device, result.share_id, device)
            prepared.append(one)
        log.info("claim prepared claim=%s devices=%d", claim.reference, len(prepared))
        return tuple(prepared)


def _may_pass(error: GpusliceError) -> bool:
    """No room may become room: the share before is still held by processes that end."""
    if isinstance(error, ApiError):
        return error.is_transient
    return not isinstance(error, ClaimError | RequestError)
