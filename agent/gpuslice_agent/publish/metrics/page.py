"""What is on the page, and the page in memory: written when the snapshot changes, not for a scrape.

Whoever scrapes gets bytes that are there already, so that a node with hundreds of shares answers
as fast as an empty one, and several scrapers cost what one costs.
"""

import threading
import time
import zlib
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition

from gpuslice_agent.model import Snapshot
from gpuslice_agent.publish.metrics.families import Family

REFRESH_SECONDS = 1.0
# Somebody scrapes again within that, or the page is not kept fresh for nobody.
FORGET_SECONDS = 300.0
# More than the writer leaves between two pages: older means that nobody kept it fresh.
STALE_SECONDS = 3.0

openmetrics: Any = exposition  # without types

Describe = Callable[[Snapshot], Iterable[Family]]


class Format(StrEnum):
    """The two formats, by their media types."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Page:
    """One snapshot, in as many forms as were asked for."""

    def __init__(
        self, snapshot: Snapshot, families: Iterable[Family], more: CollectorRegistry
    ) -> None:
        self.snapshot = snapshot
        self._blocks = [(one, one.samples) for one in families]
        self._more = more
        self._bodies: dict[tuple[Format, bool], bytes] = {}

    @property
    def forms(self) -> tuple[tuple[Format, bool], ...]:
        return tuple(self._bodies)

    def body(self, form: Format, gzipped: bool) -> bytes:
        """Two threads that come at once may both write it; they write the same."""
        known = self._bodies.get((form, gzipped))
        if known is None:
            known = _gzip(self.body(form, False)) if gzipped else self._written(form)
            self._bodies[form, gzipped] = known
        return known

    def _written(self, form: Format) -> bytes:
        if form is Format.TEXT:
            ours = [part for one, lines in self._blocks for part in (one.text_head, lines)]
            return "".join(ours).encode() + generate_latest(self._more)
        ours = [part for one, lines in self._blocks for part in (one.openmetrics_head, lines)]
        rest: bytes = openmetrics.generate_latest(self._more)  # ends the page with # EOF
        return "".join(ours).encode() + rest


class Pages:
    """The page as it is now. Any thread may ask; NVML is never asked."""

    def __init__(
        self, snapshot: Callable[[], Snapshot], describe: Describe, more: CollectorRegistry
    ) -> None:
        self._snapshot = snapshot
        self._describe = describe
        self._more = more
        self._page: Page | None = None
        self._looked_at = 0.0
        self._writing = threading.Lock()
        self._asked = threading.Event()
        self._asked_at = 0.0
        self._closed = threading.Event()

    def body(self, form: Format, gzipped: bool) -> bytes:
        self._asked_at = time.monotonic()
        self._asked.set()
        page = self._page
        if page is None or time.monotonic() - self._looked_at > STALE_SECONDS:
            page = self._look()
        return page.body(form, gzipped)

    def keep_fresh(self) -> None:
        """Runs in a thread of its own until close(), so that nobody who scrapes waits."""
        while True:
            self._asked.wait()
            if self._closed.wait(REFRESH_SECONDS):
                return
            if time.monotonic() - self._asked_at > FORGET_SECONDS:
                self._asked.clear()
            else:
                self._look()

    def close(self) -> None:
        self._closed.set()
        self._asked.set()

    def _look(self) -> Page:
        """Another page if there is another snapshot, in the forms that the last was asked for."""
        with self._writing:
            page, snapshot = self._page, self._snapshot()
            if page is None or page.snapshot is not snapshot:
                forms = page.forms if page else ()
                page = Page(snapshot, self._describe(snapshot), self._more)
                for form, gzipped in forms:
                    page.body(form, gzipped)
                self._page = page
            self._looked_at = time.monotonic()
            return page


def _gzip(body: bytes) -> bytes:
    # Level 1: 20 times smaller already, in half the time of 6. zlib lets other threads run.
    return zlib.compress(body, level=1, wbits=16 + zlib.MAX_WBITS)
