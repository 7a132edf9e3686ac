"""The one mutable thing: the current Snapshot, and who waits for the next."""

import asyncio
from collections.abc import AsyncGenerator

from gpuslice_agent.model import Snapshot


class Inventory:
    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._changed = asyncio.Event()
        self._watchers = 0

    @property
    def snapshot(self) -> Snapshot:
        """Readable from any thread: one reference to a value that never changes."""
        return self._snapshot

    @property
    def watched(self) -> bool:
        return self._watchers > 0

    def replace(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._changed.set()
        self._changed = asyncio.Event()

    async def changes(self, *, watching: bool = True) -> AsyncGenerator[Snapshot]:
        """Yields the snapshot now and after every change; a slow reader skips, it never lags.

        Who is not `watching` takes what comes, and has nobody look more often.
        """
        self._watchers += watching
        try:
            while True:
                # Taken before the yield: a change while the reader works is not lost.
                changed = self._changed
                yield self._snapshot
                await changed.wait()
        finally:
            self._watchers -= watching
