"""What the agents' watches cost the API server: as many as a fleet's agents hold open, with their
field selectors, against a real kube-apiserver of one machine, in steps. Then slices of one node are
written: processor time of the API server for a write, beside that with the fewest watches, and the
time until that node's watch has heard of it. Nodes are watches here, nothing else.

    PYTHONPATH=. python bench/kubernetes_watches.py
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import resource
import ssl
import statistics
import sys
import time
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

import pairs
import psutil
from tests.cluster import binaries
from tests.cluster.api import Object
from tests.cluster.cluster import Cluster, temporary

from gpuslice_plugin.dra.names import DRIVER, SLICES

# Those of one agent, of its pods, its node and its slices.
WATCHES = (
    ("/api/v1/pods", "spec.nodeName={node}"),
    ("/api/v1/nodes", "metadata.name={node}"),
    (SLICES, f"spec.driver={DRIVER},spec.nodeName={{node}}"),
)
AT_ONCE = 64  # handshakes
WRITES = 100
REST_SECONDS = 10.0
MIB = 1 << 20


class Server:
    """Its address, trust and our right to ask, from the administrator's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        (cluster,), (user,) = config["clusters"], config["users"]
        self._address = urllib.parse.urlsplit(str(cluster["cluster"]["server"]))
        authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        self._token: str = user["user"]["token"]
        self._kept: list[asyncio.StreamWriter] = []  # a connection ends with its writer

    async def watch(self, path: str, selector: str) -> asyncio.StreamReader:
        """A connection that stays; what comes first is what is there, then bookmarks."""
        query = {"watch": "true", "fieldSelector": selector, "allowWatchBookmarks": "true"}
        host, port = self._address.hostname, self._address.port or 443
        # A watch of nothing needs little: asyncio would keep a buffer of 64 KiB for each.
        reader, writer = await asyncio.open_connection(host, port, ssl=self._context, limit=1 << 14)
        request = (
            f"GET {path}?{urllib.parse.urlencode(query)} HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {self._token}\r\n\r\n"
        )
        writer.write(request.encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"the API server does not let us watch {path}: {status!r}")
        self._kept.append(writer)
        return reader


class Fleet:
    """The watches of so many nodes; what they hear is thrown away, but for that of one slice."""

    def __init__(self, cluster: Cluster) -> None:
        self._server = Server(cluster.kubeconfig)
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Semaphore(AT_ONCE)
        self.nodes = 0
        self.heard: asyncio.Queue[float] = asyncio.Queue()

    async def grow(self, nodes: int) -> None:
        wanted = [
            (path, selector.format(node=f"node-{number}"))
            for number in range(self.nodes, nodes)
            for path, selector in WATCHES
        ]
        await asyncio.gather(*(self._open(*one) for one in wanted))
        self.nodes = nodes

    async def _open(self, path: str, selector: str) -> None:
        async with self._turn:
            reader = await self._server.watch(path, selector)
        counts = path == SLICES and selector.endswith("=node-0")
        self._tasks.append(asyncio.create_task(self._follow(reader, counts)))

    async def _follow(self, reader: asyncio.StreamReader, counts: bool) -> None:
        while chunk := await reader.read(1 << 13):
            if counts and b'"MODIFIED"' in chunk:
                self.heard.put_nowait(time.perf_counter())


def new_slice(node: str) -> Object:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node}-gpus"},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "gpu-0"}],
        },
    }


async def write(cluster: Cluster, fleet: Fleet) -> tuple[float, float]:
    """Milliseconds: of the API server's processor for a write, until the node hears of it."""
    apiserver = psutil.Process(cluster.node.process("kube-apiserver").pid)
    name = new_slice("node-0")["metadata"]["name"]
    took: list[float] = []
    before = spent(apiserver)
    for number in range(WRITES):
        change = {"metadata": {"labels": {"number": str(number)}}}
        began = time.perf_counter()
        await asyncio.to_thread(cluster.api.patch, "resourceslices", name, change)
        took.append(await fleet.heard.get() - began)
    return 1e3 * (spent(apiserver) - before) / WRITES, 1e3 * statistics.median(took)


def spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def measured(cluster: Cluster, steps: Iterable[int]) -> list[pairs.Figure]:
    fleet = Fleet(cluster)
    apiserver = psutil.Process(cluster.node.process("kube-apiserver").pid)
    cluster.api.create("resourceslices", new_slice("node-0"))
    empty = apiserver.memory_info().rss / MIB
    figures: list[pairs.Figure] = []
    for nodes in steps:
        await fleet.grow(nodes)
        start = spent(apiserver)
        await asyncio.sleep(REST_SECONDS)
        idle = 100 * (spent(apiserver) - start) / REST_SECONDS
        resident = apiserver.memory_info().rss / MIB - empty
        rows = [await write(cluster, fleet) for _ in range(3)]
        state = f"{nodes} nodes, {nodes * len(WATCHES)} watches"
        figures += [
            pairs.figure(f"API server's memory, {state}", "MiB more", [resident]),
            pairs.figure(f"API server's processor at rest, {state}", "% of a core", [idle]),
            pairs.figure(
                f"API server's processor for a write, {state}", "ms", [row[0] for row in rows]
            ),
            pairs.figure(f"write to the node's watch, {state}", "ms", [row[1] for row in rows]),
        ]
        print(state, f"{resident:.0f} MiB {idle:.1f} % {rows}", file=sys.stderr)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", default="1,500,1000,2000,5000", help="steps, growing")
    steps = [int(one) for one in parser.parse_args().nodes.split(",")]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with temporary(f"bench-{os.getpid()}", "2xa100-80g", binaries.NEWEST) as cluster:
        figures = asyncio.run(measured(cluster, steps))
    pairs.report("kubernetes_watches", "simulated fleet", figures)


if __name__ == "__main__":
    main()
