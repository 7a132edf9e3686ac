"""What the agent takes of a node of Kubernetes where nobody wants anything, and of the API server:
without a share, and with ten on each GPU of a simulated DGX H100 whose programs hold memory and do
nothing. Requests are counted in the API server's audit log. Nearly all that the NVML child takes it
takes in the simulated NVML, which asks about every process; a real driver is another matter.

    PYTHONPATH=. python bench/kubernetes_rest.py
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterable

import cluster_agent
import pairs
from cluster_agent import Rest
from cluster_pods import METRICS_PORT, by_claim, by_plugin, pods_of
from tests.cluster import binaries
from tests.cluster.cluster import Cluster, temporary

from gpuslice_plugin.api import ApiServer

PROFILE = "dgx-h100"
# In a test cluster the agent looks five times a second; here it does what it does by default.
SETTINGS = {"metrics_address": f"0.0.0.0:{METRICS_PORT}", "poll_interval": 1.0}
SHARES = {by_plugin: 60, by_claim: 20}  # six GPUs belong to the plugin, two to claims
REST_SECONDS = 15.0  # the agent's longest sleep


def figures_of(state: str, rest: Rest) -> Iterable[pairs.Figure]:
    for part in rest.taken[0]:
        asked = "≤ 1" if part == "agent" else ""
        taken = [one[part] for one in rest.taken]
        yield pairs.figure(f"processor, {part}, {state}", "% of a core", taken, asked)
    for name, megabytes in rest.resident.items():
        asked = "≤ 90" if name == "all" else ""
        yield pairs.figure(f"resident, {name}, {state}", "MB", [megabytes], asked)
    window = f"in {len(rest.taken) * REST_SECONDS:.0f} s"
    requests = rest.requests
    yield pairs.figure(f"API writes {window}, {state}", "requests", [requests.writes], "0")
    yield pairs.figure(f"API requests {window}, {state}", "requests", [requests.total])


async def measured(cluster: Cluster, windows: int) -> list[pairs.Figure]:
    server = ApiServer.configured(str(cluster.kubeconfig))

    async def rest() -> Rest:
        await asyncio.sleep(REST_SECONDS)  # what it does once
        return await asyncio.to_thread(cluster_agent.rest, cluster, windows, REST_SECONDS)

    try:
        figures = [*figures_of("no share", await rest())]
        async with pods_of(cluster, server, "shares") as pods:
            for kind, count in SHARES.items():
                await pods.start_all(count, kind, "tenant", "10")
            return [*figures, *figures_of("8 GPUs with 10 shares each", await rest())]
    finally:
        await server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4, help="windows of 15 s")
    windows: int = parser.parse_args().pairs
    with temporary(f"bench-{os.getpid()}", PROFILE, binaries.NEWEST) as cluster:
        cluster.agent.start(**SETTINGS)
        cluster.wait_served()
        figures = asyncio.run(measured(cluster, windows))
    pairs.report("kubernetes_rest", f"simulated {PROFILE}", figures)


if __name__ == "__main__":
    main()
