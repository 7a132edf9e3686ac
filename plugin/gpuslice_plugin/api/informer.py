"""Follows one collection of the API server: listed once, then watched."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType

from gpuslice_plugin.api.objects import Object, parts
from gpuslice_plugin.api.server import ApiServer, refused
from gpuslice_plugin.errors import ApiError

log = logging.getLogger(__name__)

WATCH_SECONDS = 300.0  # then the server ends it; each a little different, so that not all come back
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0


class Informer:
    """The objects of `path` as the server last told them, narrowed by selectors.

    While the server is away they stay as they were.
    """

    def __init__(
        self, server: ApiServer, path: str, *, field_selector: str = "", label_selector: str = ""
    ) -> None:
        self._server = server
        self._path = path
        selectors = {"fieldSelector": field_selector, "labelSelector": label_selector}
        self._selectors = {name: value for name, value in selectors.items() if value}
        self._objects: dict[str, Object] = {}
        self._version = ""
        self._delay = FIRST_DELAY_SECONDS
        self._synced = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def objects(self) -> Mapping[str, Object]:
        """By UID: a name may come again, a UID does not."""
        return MappingProxyType(self._objects)

    @property
    def is_synced(self) -> bool:
        """The collection was read whole at least once."""
        return self._synced.is_set()

    async def synced(self) -> None:
        await self._synced.wait()

    async def changes(self) -> AsyncGenerator[Mapping[str, Object]]:
        """Yields the objects now and after every change; a slow reader skips, it never lags."""
        await self.synced()
        while True:
            # Taken before the yield: a change while the reader works is not lost.
            changed = self._changed
            yield self.objects
            await changed.wait()

    def remember(self, thing: Object) -> None:
        """The answer to a write of ours, which the watch tells us only later."""
        self._objects[_uid(thing)] = thing
        self._announce()

    def forget(self, thing: Object) -> None:
        """Deleted by us."""
        self._objects.pop(_uid(thing), None)
        self._announce()

    async def run(self) -> None:
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                delay = FIRST_DELAY_SECONDS
            except ApiError as error:
                if not error.is_expired:
                    log.warning("collection not followed path=%s reason=%s", self._path, error)
                if not error.is_transient:
                    self._version = ""
                delay = max(error.retry_after, self._delay)
                self._delay = min(2 * self._delay, LONGEST_DELAY_SECONDS)
            await asyncio.sleep(delay * random.uniform(0.5, 1))

    async def _list(self) -> None:
        answer = await self._server.get(self._path, **self._selectors)
        self._objects = {_uid(one): one for one in parts(answer, "items")}
        self._version = answer["metadata"]["resourceVersion"]
        self._delay = FIRST_DELAY_SECONDS
        self._synced.set()
        self._announce()

    async def _watch(self) -> None:
        seconds = round(WATCH_SECONDS * random.uniform(0.8, 1))
        events = self._server.watch(
            self._path,
            **self._selectors,
            resourceVersion=self._version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(seconds),
        )
        async with aclosing(events):
            async for event in events:
                self._take(event["type"], event["object"])

    def _take(self, kind: str, thing: Object) -> None:
        if kind == "ERROR":
            raise refused("GET", self._path, thing)
        self._version = thing["metadata"]["resourceVersion"]
        self._delay = FIRST_DELAY_SECONDS
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            self._objects.pop(_uid(thing), None)
        else:
            self._objects[_uid(thing)] = thing
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _uid(thing: Object) -> str:
    return str(thing["metadata"]["uid"])
