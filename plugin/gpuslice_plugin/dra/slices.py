"""Keeps the node's ResourceSlices as they should be, whoever deletes or changes them."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from gpuslice_plugin.api import ApiServer, Informer, Object
from gpuslice_plugin.dra.features import probe
from gpuslice_plugin.dra.layout import Features, PublishedSlice
from gpuslice_plugin.dra.names import SLICES
from gpuslice_plugin.dra.plan import Plan, differs, plan
from gpuslice_plugin.errors import ApiError

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.2  # changes come in bursts: a kubelet that starts deletes one after another
FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0


class Slices:
    """`wanted` says for given features what should be there; call `look` when that may differ.

    At rest nothing is written. One instance a node: the ledger's lock sees to that.
    """

    def __init__(
        self,
        server: ApiServer,
        informer: Informer,
        node: str,
        wanted: Callable[[Features], Sequence[PublishedSlice]],
    ) -> None:
        self._server = server
        self._informer = informer
        self._node = node
        self._wanted = wanted
        self._features: Features | None = None
        self._altered: dict[str, tuple[Object, Object]] = {}
        self._look = asyncio.Event()

    def look(self) -> None:
        self._look.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run())
            group.create_task(self._hear())
            group.create_task(self._keep())

    async def _hear(self) -> None:
        async for _ in self._informer.changes():
            self.look()

    async def _keep(self) -> None:
        await self._informer.synced()
        delay = FIRST_DELAY_SECONDS
        while True:
            await self._look.wait()
            self._look.clear()
            try:
                await self._settle()
                delay = FIRST_DELAY_SECONDS
            except ApiError as error:
                log.warning("slices not published node=%s reason=%s", self._node, error)
                self.look()
                await asyncio.sleep(max(delay, error.retry_after))
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)
            await asyncio.sleep(SETTLE_SECONDS)

    async def _settle(self) -> None:
        there = tuple(self._as_sent(one) for one in self._informer.objects.values())
        if self._features is None or not there:
            # Asked again where nothing is published: a newer server may be in its place.
            self._features = await self._probed()
        wanted = self._wanted(self._features)
        if not plan(wanted, there, self._node):
            return
        node = await self._server.get(f"/api/v1/nodes/{self._node}")
        steps = plan(wanted, there, self._node, node["metadata"]["uid"])
        await self._write(steps)
        log.info(
            "slices published node=%s created=%d changed=%d deleted=%d",
            self._node,
            len(steps.create),
            len(steps.update),
            len(steps.delete),
        )

    async def _probed(self) -> Features:
        features = await probe(self._server, self._node)
        if features not in (self._features, Features()):
            log.warning(
                "the API server drops fields of slices sharing=%s taints=%s: only Kubernetes 1.36 "
                "and newer keep them; without sharing whole GPUs alone are offered",
                features.sharing,
                features.taints,
            )
        return features

    async def _write(self, steps: Plan) -> None:
        """What is too much goes first, for it could be allocated."""
        for old in steps.delete:
            metadata = old["metadata"]
            conditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
            await self._server.delete(f"{SLICES}/{metadata['name']}", conditions)
            self._informer.forget(old)
        for changed in steps.update:
            path = f"{SLICES}/{changed['metadata']['name']}"
            self._keep_answer(changed, await self._server.update(path, changed))
        for new in steps.create:
            self._keep_answer(new, await self._server.create(SLICES, new))

    def _keep_answer(self, sent: Object, answer: Object) -> None:
        self._informer.remember(answer)
        name = answer["metadata"]["name"]
        self._altered.pop(name, None)
        if differs(answer["spec"], sent["spec"]):
            log.warning("the API server altered a slice name=%s: it is left so", name)
            self._altered[name] = (sent["spec"], answer["spec"])

    def _as_sent(self, there: Object) -> Object:
        """What the server makes of our words is no difference to write against for ever."""
        sent, answer = self._altered.get(there["metadata"]["name"], (None, None))
        return {**there, "spec": sent} if there["spec"] == answer else there
