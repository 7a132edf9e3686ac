"""What is there after an agent ended, however: ledger, files and processes agree again."""

import logging
from dataclasses import replace

from gpuslice_agent.enforcement import ContextOverhead, Enforcement, corrupt
from gpuslice_agent.errors import EnforcementError
from gpuslice_agent.ledger import Ledger
from gpuslice_agent.model import Share, ShareState

log = logging.getLogger(__name__)


class Recovery:
    def __init__(self, ledger: Ledger, enforcement: Enforcement, overhead: ContextOverhead) -> None:
        self._ledger = ledger
        self._enforcement = enforcement
        self._overhead = overhead

    def found(self) -> dict[str, Share]:
        """All shares that there are, by id, those with files taken up again."""
        self._enforcement.sweep()
        shares = {share.id: share for share in self._ledger.shares()}
        for share_id in self._enforcement.found():
            if share_id not in shares and (share := self._adopted(share_id)) is not None:
                shares[share_id] = share
        return {share.id: self._resumed(share) for share in shares.values()}

    def mended(self, share: Share) -> Share:
        """The agent was killed between the record and the files, or the node was started anew."""
        if self._enforcement.has_files(share):
            return share
        self._enforcement.stop(share.id)
        overhead = self._overhead.last_known(share.gpu_uuid)
        try:
            return self._enforcement.start(share, overhead)
        except EnforcementError as error:
            return _corrupt(share, error)

    def _adopted(self, share_id: str) -> Share | None:
        """Files that the ledger does not know: its last word was that they go, or it was lost.

        In the one case what processes hold is not free before they end. In the other the share
        goes on, where its own record says whose it is.
        """
        try:
            share = self._enforcement.adopt(share_id)
        except EnforcementError as error:
            log.warning("unknown share removed id=%s reason=%s", share_id, error)
            self._enforcement.stop(share_id)
            return None
        if not self._ledger.is_new:
            share = replace(share, state=ShareState.ENDING, owner=replace(share.owner, key=""))
        self._ledger.insert([share])
        if share.state is ShareState.ENDING:
            self._ledger.set_ending([share_id])
        log.warning("share found by its files id=%s owner=%s", share_id, share.owner.name)
        return share

    def _resumed(self, share: Share) -> Share:
        if not self._enforcement.has_files(share):
            return share
        self._enforcement.remember(share)
        try:
            return self._enforcement.resume(share)
        except EnforcementError as error:
            return _corrupt(share, error)


def _corrupt(share: Share, error: EnforcementError) -> Share:
    """The others go on."""
    log.error("share is corrupt id=%s reason=%s", share.id, error)
    return corrupt(share)
