"""Pods of a test cluster, from the request that creates them until the API server says they run."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from tests.cluster import tenants
from tests.cluster.api import Object
from tests.cluster.cluster import Cluster

from gpuslice_plugin.api import ApiServer

METRICS_PORT = 9477
CALLS = "gpuslice_kubelet_call_seconds"
START_SECONDS = 120.0
CORES, MEBIBYTES = 10, 8000  # ten such shares fill a simulated H100
TEMPLATE = "share"


@dataclass(frozen=True, slots=True)
class Start:
    """What it took until one pod ran."""

    seconds: float
    calls: dict[str, float]
    """Seconds that the agent took for the kubelet's calls, by their method."""


def without_gpu(name: str, *command: str) -> Object:
    return tenants.pod(name, *command)


def by_plugin(name: str, *command: str) -> Object:
    return tenants.pod(name, *command, limits={"gpucores": CORES, "gpumem": MEBIBYTES})


def by_claim(name: str, *command: str) -> Object:
    return tenants.pod(name, *command, template=TEMPLATE)


Kind = Callable[..., Object]
METHODS: dict[Kind, str] = {by_plugin: "PreStartContainer", by_claim: "NodePrepareResources"}


class Pods:
    """Those of one namespace, as a watch tells of them."""

    def __init__(self, cluster: Cluster, server: ApiServer, namespace: str) -> None:
        self._cluster = cluster
        self._server = server
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._runs: dict[str, asyncio.Event] = {}
        self._number = 0

    async def start(self, kind: Kind, *command: str) -> Start:
        """Returns when it runs and the agent's metrics, which lag behind, tell of its calls."""
        name = self._new_name(kind)
        before = self._spent()
        began = time.perf_counter()
        await self._run(name, kind, *command)
        seconds = time.perf_counter() - began
        method = METHODS.get(kind)
        after = self._spent()
        async with asyncio.timeout(START_SECONDS):
            while method and after[method] == before[method]:
                await asyncio.sleep(0.1)
                after = self._spent()
        return Start(seconds, {method: after[method] - before[method]} if method else {})

    async def start_all(self, count: int, kind: Kind, *command: str) -> None:
        names = [self._new_name(kind) for _ in range(count)]
        await asyncio.gather(*(self._run(name, kind, *command) for name in names))

    async def end_all(self) -> None:
        """Does not wait for their ends."""
        for name in list(self._runs):
            await self._server.delete(f"{self._path}/{name}")
            del self._runs[name]

    async def follow(self) -> None:
        while True:
            listed = await self._server.get(self._path)
            version = listed["metadata"]["resourceVersion"]
            async for event in self._server.watch(self._path, resourceVersion=version):
                pod = event["object"]
                runs = self._runs.get(pod.get("metadata", {}).get("name"))
                if runs and pod["status"]["phase"] == "Running":
                    runs.set()

    def _new_name(self, kind: Kind) -> str:
        self._number += 1
        return f"{kind.__name__.replace('_', '-')}-{self._number}"

    async def _run(self, name: str, kind: Kind, *command: str) -> None:
        runs = self._runs[name] = asyncio.Event()
        await self._server.create(self._path, kind(name, *command))
        async with asyncio.timeout(START_SECONDS):
            await runs.wait()

    def _spent(self) -> defaultdict[str, float]:
        """Seconds by method, as the agent's own histogram has them."""
        url = f"http://{self._cluster.node.address}:{METRICS_PORT}/metrics"
        with urllib.request.urlopen(url) as answer:
            text = answer.read().decode()
        spent: defaultdict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{CALLS}_sum":
                    spent[sample.labels["method"]] += sample.value
        return spent


@asynccontextmanager
async def pods_of(cluster: Cluster, server: ApiServer, namespace: str) -> AsyncGenerator[Pods]:
    """In a namespace of their own, which has the template that `by_claim` names."""
    cluster.create_namespace(namespace)
    template = tenants.template(TEMPLATE, CORES, MEBIBYTES)
    cluster.api.create("resourceclaimtemplates", template, namespace)
    pods = Pods(cluster, server, namespace)
    following = asyncio.create_task(pods.follow())
    try:
        yield pods
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await asyncio.to_thread(cluster.remove_namespace, namespace)
