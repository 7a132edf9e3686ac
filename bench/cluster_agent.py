"""What the agent of a test cluster costs its node and the API server, and how long it is missed."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from agent_cost import Taken, percent_of_a_core
from tests.cluster.cluster import Cluster, wait
from tests.cluster.pod_resources import SOCKET
from tests.cluster.simulated_gpus import DIRECTORY

from gpuslice_agent import native_files
from gpuslice_proto.podresources.v1 import podresources_pb2 as messages
from gpuslice_proto.podresources.v1 import podresources_pb2_grpc as services

ACCOUNT = "system:serviceaccount:gpuslice:gpuslice-agent"
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
KUBELET_SOCKET = "var/lib/kubelet/device-plugins/kubelet.sock"
LOOK_SECONDS = 0.002
KUBELET_LOOK_SECONDS = 0.02  # it answers a hundred times a second and no more
NODE_LOOK_SECONDS = 0.1
SETTLED_SECONDS = 5.0
MISSED_SECONDS = 30.0
MB = 1e6


class Requests:
    """Those of the agent that end while the block runs, by the API server's audit log."""

    def __init__(self, cluster: Cluster) -> None:
        self._log = cluster.control_plane.audit_log
        self.counted: Counter[str] = Counter()
        """By verb and resource, such as "patch nodes/status"."""

    def __enter__(self) -> Requests:
        self._from = self._log.stat().st_size
        return self

    def __exit__(self, *_: object) -> None:
        with self._log.open("rb") as log:
            log.seek(self._from)
            events = map(json.loads, log.read().splitlines())
        self.counted.update(_asked(one) for one in events if one["user"]["username"] == ACCOUNT)

    @property
    def writes(self) -> int:
        return sum(n for what, n in self.counted.items() if what.split()[0] in WRITES)

    @property
    def total(self) -> int:
        return self.counted.total()


def _asked(event: dict[str, dict[str, str]]) -> str:
    about = event["objectRef"]
    resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
    return f"{event['verb']} {resource}"


@dataclass(frozen=True, slots=True)
class Rest:
    """A minute in which nobody wants anything."""

    taken: list[Taken]
    requests: Requests
    resident: dict[str, float]
    """MB by process, "all" for their sum; "all, shared pages once" is their PSS."""


def rest(cluster: Cluster, windows: int, seconds: float) -> Rest:
    process = psutil.Process(cluster.agent.process.pid)
    with Requests(cluster) as requests:
        taken = [percent_of_a_core(process, lambda: time.sleep(seconds)) for _ in range(windows)]
    return Rest(taken, requests, resident(process))


def resident(process: psutil.Process) -> dict[str, float]:
    children = process.children(recursive=True)
    every = [one.memory_full_info() for one in (process, *children)]
    return {
        "agent": every[0].rss / MB,
        "its children": sum(one.rss for one in every[1:]) / MB,
        "all": sum(one.rss for one in every) / MB,
        "all, shared pages once": sum(one.pss for one in every) / MB,
    }


def registered_again(cluster: Cluster) -> dict[str, float]:
    """Restarts the kubelet; seconds from when its socket is there until it has taken us again."""
    kubelet = cluster.node.root / KUBELET_SOCKET
    log = cluster.agent.process.log
    before = _changed_at(kubelet)
    cluster.kubelet.process.stop()
    start = log.stat().st_size  # a kubelet that ends may still take us
    starting = threading.Thread(target=cluster.kubelet.start)
    starting.start()
    _when(lambda: _changed_at(kubelet) not in (0, before))
    there = _changed_at(kubelet) / 1e9

    def said(*sentences: str) -> Callable[[], bool]:
        return lambda: all(one in _since(log, start) for one in sentences)

    resources = (f"registered resource=nvidia.com/{name} " for name in ("gpu", "gpucores"))
    plugin = _when(said(*resources))
    driver = _when(said("registered with the kubelet plugin="))
    starting.join()
    cluster.wait_served()
    return {"device plugin": max(0.0, plugin - there), "DRA driver": max(0.0, driver - there)}


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_ctime_ns
    except FileNotFoundError:
        return 0


def _since(log: Path, start: int) -> str:
    with log.open() as file:
        file.seek(start)
        return file.read()


def _when(condition: Callable[[], bool]) -> float:
    until = time.perf_counter() + MISSED_SECONDS
    while not condition():
        if time.perf_counter() > until:
            raise RuntimeError("the agent or the kubelet did not come back")
        time.sleep(LOOK_SECONDS)
    return time.time()


@dataclass(frozen=True, slots=True)
class HandOver:
    kubelet_seconds: float
    """For which the kubelet had fewer devices of ours to give than before."""
    node_seconds: float
    """For which the node's status, which the scheduler reads, said so."""
    requests: Requests


def hand_over(cluster: Cluster, instance: str, **settings: object) -> HandOver:
    """A newer agent takes over from the one that serves, as two pods of a DaemonSet do."""
    old = cluster.agent.process
    with Requests(cluster) as requests, Devices(cluster) as devices:
        log = cluster.agent.start(pod_uid=instance, **settings).log
        start = log.stat().st_size
        wait("it to serve", lambda: "registered resource=" in _since(log, start), MISSED_SECONDS)
        time.sleep(SETTLED_SECONDS)
    old.stop()
    cluster.wait_served()
    return HandOver(devices.missed("kubelet"), devices.missed("node"), requests)


def lose_a_gpu(cluster: Cluster) -> None:
    """One that the device plugin has falls off the bus and comes back."""

    def inject(*fault: str) -> None:
        cluster.node.run(native_files.sim_node_program(), "inject", DIRECTORY, *fault)

    inject("xid", "79")
    time.sleep(SETTLED_SECONDS)
    inject("reset")
    time.sleep(SETTLED_SECONDS)
    cluster.wait_served()


class Devices:
    """How many the kubelet could give, and what the node's status said, while the block runs."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._seen: dict[str, list[tuple[float, int]]] = {"kubelet": [], "node": []}
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._look, args=(name, count, seconds))
            for name, count, seconds in (
                ("kubelet", self._of_kubelet, KUBELET_LOOK_SECONDS),
                ("node", self._of_node, NODE_LOOK_SECONDS),
            )
        ]

    def __enter__(self) -> Devices:
        options = [("grpc.default_authority", "localhost")]
        self._channel = grpc.insecure_channel(f"unix:{self._cluster.node.root / SOCKET}", options)
        self._lister = services.PodResourcesListerStub(self._channel)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()

    def missed(self, name: str) -> float:
        """Seconds with fewer than at first."""
        seen = self._seen[name]
        full = seen[0][1]
        pairs = itertools.pairwise(seen)
        return sum(after[0] - before[0] for before, after in pairs if before[1] < full)

    def _look(self, name: str, count: Callable[[], int], seconds: float) -> None:
        while not self._over.wait(seconds):
            self._seen[name].append((time.perf_counter(), count()))

    def _of_kubelet(self) -> int:
        answer = self._lister.GetAllocatableResources(messages.AllocatableResourcesRequest())
        return sum(len(one.device_ids) for one in answer.devices)

    def _of_node(self) -> int:
        allocatable = self._cluster.node_status()["allocatable"]
        return sum(int(allocatable.get(f"nvidia.com/{one}", 0)) for one in ("gpu", "gpucores"))
