"""How long the kubelet's calls took and how they ended, for /metrics."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from prometheus_client import Histogram

# The goal is tens of milliseconds; the kubelet waits 45 s.
BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 45.0)


class Calls:
    def __init__(self) -> None:
        self.histogram = Histogram(
            "gpuslice_kubelet_call_seconds",
            "Time that the kubelet waited for an answer, for each claim, container or pod.",
            ("method", "outcome"),
            registry=None,
            buckets=BUCKETS,
        )

    @contextmanager
    def timed(self, method: str) -> Generator[None]:
        """outcome: ok, or error where the block raised."""
        began = time.perf_counter()
        outcome = "error"
        try:
            yield
            outcome = "ok"
        finally:
            self.histogram.labels(method, outcome).observe(time.perf_counter() - began)
