"""How long a scrape of /metrics takes on a node with 8 GPUs of 80 shares each, as Prometheus asks
for it (OpenMetrics, gzip, one connection), while the agent has another snapshot every second. A
pair is the 99th percentile of 300 scrapes, and that of a node without shares right beside it.

    python bench/metrics_page.py
"""

from __future__ import annotations

import argparse
import http.client
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pairs
from prometheus_client import CollectorRegistry

from gpuslice_agent.config import Config
from gpuslice_agent.model import (
    Gpu,
    Limits,
    Owner,
    OwnerKind,
    Process,
    Reading,
    Share,
    Snapshot,
    Usage,
)
from gpuslice_agent.publish.metrics import serve_metrics
from gpuslice_agent.publish.metrics.content import content
from gpuslice_agent.publish.metrics.page import Format, Page

GPUS = 8
SHARES = 80
SCRAPES = 300
GIB = 1 << 30
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def node(shares: int) -> Snapshot:
    """Every GPU says all it can, every share has a pod, two processes and work."""
    cards = tuple(
        Gpu(
            index,
            f"GPU-{index:08d}-1111-2222-3333-444444444444",
            "NVIDIA A100-SXM4-80GB",
            f"00000000:{index + 1:02x}:00.0",
            80 * GIB,
            reading=Reading(40 * GIB, 0.93, 61.0, 371.2, 0.4, 1410e6, 1593e6, 123456.789, 1),
        )
        for index in range(GPUS)
    )
    held = tuple(share(card, number) for card in cards for number in range(shares))
    return Snapshot(time.time(), "615.1", "13.5", gpus=cards, shares=held)


def share(card: Gpu, number: int) -> Share:
    pod = f"inference-{card.index}-{number}-7d4b9c6f5-x2x{number:02d}"
    owner = Owner(pod, 0, 0, OwnerKind.CONTAINER, "", "team-language", pod, pod, "server")
    usage = Usage(GIB // 2, time.time_ns(), 0.0123, time.time_ns() // 7)
    usage = replace(usage, processes=(Process(1), Process(2)))
    return Share(f"{card.index}-{number}", card.uuid, Limits(1, GIB), owner, 1.0, usage=usage)


def serve(address: str, shares: int) -> None:
    """A process of its own, as the agent is, until its stdin ends."""
    current = [node(shares)]
    nowhere = Path("/nonexistent")
    config = Config(run_dir=nowhere, state_dir=nowhere, metrics_address=address)
    with serve_metrics(config, lambda: current[0]):
        print("serving", flush=True)
        ending = threading.Thread(target=sys.stdin.read)
        ending.start()
        while ending.is_alive():
            current[0] = node(shares)
            ending.join(1.0)


@contextmanager
def serving(shares: int) -> Generator[Callable[[], float]]:
    """Measures the 99th percentile of SCRAPES scrapes, in ms."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, __file__, "--serve", address, "--shares", str(shares)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        connection = http.client.HTTPConnection(address)
        try:
            yield lambda: statistics.quantiles((scrape(connection) for _ in range(SCRAPES)), n=100)[
                98
            ]
        finally:
            connection.close()
            server.communicate("")


def scrape(connection: http.client.HTTPConnection) -> float:
    begin = time.perf_counter()
    connection.request("GET", "/metrics", headers={"Accept": ACCEPT, "Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read()
    taken = time.perf_counter() - begin
    time.sleep(0.005)  # as many a second as no Prometheus asks, and still many snapshots a round
    return taken * 1e3


def writing(shares: int) -> Callable[[], float]:
    """Processor time that one page takes in the form that Prometheus asks for, in ms."""
    snapshot = node(shares)

    def measure() -> float:
        begin = time.thread_time()
        Page(snapshot, content()(snapshot), CollectorRegistry()).body(Format.OPENMETRICS, True)
        return (time.thread_time() - begin) * 1e3

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--serve", metavar="ADDRESS", help="what the bench starts for itself")
    parser.add_argument("--shares", type=int, default=SHARES)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.shares)
        return
    with ExitStack() as servers:
        full, empty = (servers.enter_context(serving(shares)) for shares in (SHARES, 0))
        rows = pairs.interleave(arguments.pairs, full, empty, writing(SHARES), writing(0))
    pairs.report(
        "metrics_page",
        "no GPU",
        [
            pairs.figure(
                "p99 of a scrape, 8 GPUs of 80 shares", "ms", [row[0] for row in rows], "≤ 10"
            ),
            pairs.figure("p99 of a scrape, 8 GPUs without shares", "ms", [row[1] for row in rows]),
            pairs.figure(
                "640 shares add to the p99", "ms", [row[0] - row[1] for row in rows], "≤ 10"
            ),
            pairs.figure("writing the page, 640 shares", "ms", [row[2] for row in rows]),
            pairs.figure("writing the page, without shares", "ms", [row[3] for row in rows]),
        ],
    )


if __name__ == "__main__":
    main()
