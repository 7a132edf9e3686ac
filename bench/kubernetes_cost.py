"""What pods wait for the agent on a node of Kubernetes: the real components of tests/cluster on one
machine and a simulated DGX H100, of which the device plugin has six GPUs and the DRA driver two.
Calls of the kubelet are timed inside the agent, beside the time from a pod's creation until it
runs; pods without a GPU, by plugin and by claim take turns. Requests: by the audit log.

    PYTHONPATH=. python bench/kubernetes_cost.py
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterable

import cluster_agent
import pairs
from cluster_agent import HandOver
from cluster_pods import METRICS_PORT, Pods, Start, by_claim, by_plugin, pods_of, without_gpu
from tests.cluster import binaries
from tests.cluster.cluster import Cluster, temporary

from gpuslice_plugin.api import ApiServer

PROFILE = "dgx-h100"
KINDS = (without_gpu, by_plugin, by_claim)
METHODS = {"by plugin": "PreStartContainer", "by claim": "NodePrepareResources"}
# In a test cluster the agent looks five times a second; here it does what it does by default.
SETTINGS = {"metrics_address": f"0.0.0.0:{METRICS_PORT}", "poll_interval": 1.0}


async def starts(pods: Pods, count: int) -> list[tuple[Start, ...]]:
    rows: list[tuple[Start, ...]] = []
    for number in range(count + 1):
        shift = number % len(KINDS)
        order = (*KINDS[shift:], *KINDS[:shift])
        taken = {kind: await pods.start(kind, "sleep", "inf") for kind in order}
        rows.append(tuple(taken[kind] for kind in KINDS))
        await pods.end_all()
    return rows[1:]


def figures_of_starts(rows: list[tuple[Start, ...]]) -> Iterable[pairs.Figure]:
    for place, method in enumerate(METHODS.values(), 1):
        ms = [1e3 * row[place].calls[method] for row in rows]
        yield pairs.figure(f"{method}, all calls of a pod, p50", "ms", ms, "≤ 20")
        yield pairs.quantile_figure(f"{method}, all calls of a pod, p99", "ms", ms, 0.99, "≤ 60")
    yield pairs.figure(
        "created to running, without a GPU", "ms", [1e3 * r[0].seconds for r in rows]
    )
    for place, (name, method) in enumerate(METHODS.items(), 1):
        added = [1e3 * (row[place].seconds - row[0].seconds) for row in rows]
        yield pairs.figure(f"created to running, {name} adds", "ms", added)
        of_start = [100 * row[place].calls[method] / row[place].seconds for row in rows]
        yield pairs.figure(f"created to running, {name}: {method} is", "% of it", of_start)


def figures_of_hand_overs(found: list[HandOver]) -> Iterable[pairs.Figure]:
    kubelet = [one.kubelet_seconds for one in found]
    yield pairs.figure("devices missing at the kubelet in an upgrade", "s", kubelet, "< 1")
    node = [one.node_seconds for one in found]
    yield pairs.figure("allocatable missing in the node's status in an upgrade", "s", node, "< 1")
    yield pairs.figure(
        "API requests of an upgrade", "requests", [one.requests.total for one in found]
    )
    yield pairs.figure(
        "API writes of an upgrade", "requests", [one.requests.writes for one in found]
    )
    print("an upgrade", dict(found[-1].requests.counted), file=sys.stderr)


def figures_of_health(cluster: Cluster) -> Iterable[pairs.Figure]:
    with cluster_agent.Requests(cluster) as requests:
        cluster_agent.lose_a_gpu(cluster)
    yield pairs.figure("API requests when a GPU is lost and back", "requests", [requests.total])
    yield pairs.figure("API writes when a GPU is lost and back", "requests", [requests.writes])
    print("a GPU is lost and back", dict(requests.counted), file=sys.stderr)


async def figures_of_pods(cluster: Cluster, count: int) -> list[pairs.Figure]:
    server = ApiServer.configured(str(cluster.kubeconfig))
    try:
        async with pods_of(cluster, server, "measured") as pods:
            return list(figures_of_starts(await starts(pods, count)))
    finally:
        await server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--restarts", type=int, default=8, help="of the kubelet, and hand-overs")
    arguments = parser.parse_args()
    with temporary(f"bench-{os.getpid()}", PROFILE, binaries.NEWEST) as cluster:
        cluster.agent.start(pod_uid="agent-0", **SETTINGS)
        cluster.wait_served()
        figures = asyncio.run(figures_of_pods(cluster, arguments.pairs))
        restarts = range(arguments.restarts)
        again = [cluster_agent.registered_again(cluster) for _ in restarts]
        for name in again[0]:
            label = f"{name} known again after the kubelet's restart"
            figures.append(pairs.figure(label, "s", [one[name] for one in again], "< 1"))
        handed = [
            cluster_agent.hand_over(cluster, f"agent-{number + 1}", **SETTINGS)
            for number in restarts
        ]
        figures += figures_of_hand_overs(handed)
        figures += figures_of_health(cluster)
    pairs.report("kubernetes_cost", f"simulated {PROFILE}", figures)


if __name__ == "__main__":
    main()
