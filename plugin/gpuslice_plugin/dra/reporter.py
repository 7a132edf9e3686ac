"""Keeps the status of the node's claims, after preparations and when a GPU's health changes."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from gpuslice_plugin.api import ApiServer, PatchKind
from gpuslice_plugin.dra.cards import Card
from gpuslice_plugin.dra.claim_status import is_there, status
from gpuslice_plugin.dra.claims import ClaimReference, gpu_of, read
from gpuslice_plugin.dra.names import claim_path
from gpuslice_plugin.dra.prepare import Claims
from gpuslice_plugin.errors import ApiError, ClaimError

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0


class Reporter:
    """The status is for others to read: that it cannot be written holds nothing up."""

    def __init__(
        self,
        server: ApiServer,
        claims: Claims,
        node: str,
        cards: Callable[[], Mapping[int, Card]],
    ) -> None:
        self._server = server
        self._claims = claims
        self._node = node
        self._cards = cards
        self._due: dict[ClaimReference, None] = {}  # in the order they came
        self._is_due = asyncio.Event()

    def report(self, reference: ClaimReference) -> None:
        self._due[reference] = None
        self._is_due.set()

    def report_all(self) -> None:
        for reference in self._claims.held():
            self.report(reference)

    async def run(self) -> None:
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            again: list[ClaimReference] = []
            while self._due:
                reference = next(iter(self._due))
                del self._due[reference]
                try:
                    await self._write(reference)
                except ClaimError:
                    pass  # it is gone, or another one: there is nothing to tell
                except ApiError as error:
                    if not error.is_absent:
                        log.warning("claim status not written claim=%s reason=%s", reference, error)
                        again.append(reference)
            if again:
                await asyncio.sleep(RETRY_SECONDS)
                for reference in again:
                    self.report(reference)

    async def _write(self, reference: ClaimReference) -> None:
        path = claim_path(reference.namespace, reference.name)
        document = await self._server.get(path)
        claim = read(document, reference, self._node)
        cards = self._cards()
        gpus = {result.device: gpu_of(result, cards) for result in claim.results}
        shares = {
            share.owner.cdi_devices[0]: share for share in self._claims.held().get(reference, ())
        }
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        wanted = status(claim, document, gpus, shares, now)
        if not is_there(document, wanted):
            await self._server.patch(f"{path}/status", wanted, PatchKind.APPLY)
