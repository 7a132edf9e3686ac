"""Pods that are on this node and find no room: since when, why, and what becomes of them."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gpuslice_plugin.eviction import Eviction
from gpuslice_plugin.pods import NodePods, Pod

LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Waiting:
    pod: Pod
    reason: str
    since: float  # of the clock


class UnfitPods(Collector):
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, Waiting] = {}
        self.evicted = 0

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def add(self, pod: Pod, reason: Exception) -> None:
        known = self._waiting.get(pod.uid)
        since = known.since if known else self._clock()
        self._waiting[pod.uid] = Waiting(pod, str(reason), since)

    def discard(self, uid: str) -> None:
        self._waiting.pop(uid, None)

    def keep(self, uids: Iterable[str]) -> None:
        """Forgets pods that are not among these any more."""
        for uid in self._waiting.keys() - set(uids):
            self.discard(uid)

    def longer_than(self, seconds: float) -> tuple[Waiting, ...]:
        before = self._clock() - seconds
        return tuple(one for one in self._waiting.values() if one.since <= before)

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "gpuslice_unfit_pods",
            "Pods on this node whose containers wait for room on its GPUs.",
            len(self._waiting),
        )
        yield CounterMetricFamily(
            "gpuslice_evicted_pods",
            "Pods deleted so that their controllers try elsewhere.",
            self.evicted,
        )


class UnfitEviction:
    """Pods that found no room for a while; with `unfit: wait` they are only counted."""

    def __init__(
        self, eviction: Eviction, unfit: UnfitPods, pods: NodePods, after_seconds: float | None
    ) -> None:
        self._eviction = eviction
        self._unfit = unfit
        self._pods = pods
        self._after_seconds = after_seconds

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._unfit.is_empty:
                continue
            self._unfit.keep(pod.uid for pod in self._pods.all() if not pod.terminal)
            if self._after_seconds is not None:
                await self._evict(self._unfit.longer_than(self._after_seconds))

    async def _evict(self, unfit: Sequence[Waiting]) -> None:
        for waiting in unfit:
            if await self._eviction.evict(waiting.pod, waiting.reason):
                self._unfit.discard(waiting.pod.uid)
                self._unfit.evicted += 1
