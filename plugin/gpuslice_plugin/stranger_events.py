"""Says on a pod that a program of it uses a GPU as it should not."""

import asyncio

from gpuslice_agent.audit import Breach, Finding
from gpuslice_agent.enforcement import Strangers
from gpuslice_plugin.pod_events import PodEvents
from gpuslice_plugin.pods import NodePods

# A pod that starts such programs one after another is not worth the API server's time.
MOST_WAITING = 100
MIB = 1 << 20

TEXTS = {
    Breach.ROUND_THE_SHIM: ("GpuShareBypassed", "goes round its share of"),
    Breach.WITHOUT_A_SHARE: ("GpuUsedWithoutShare", "has no share of"),
    Breach.BEYOND_THE_LIMIT: ("GpuShareExceeded", "holds more than its share of"),
}


class StrangerEvents:
    def __init__(self, strangers: Strangers, pods: NodePods, events: PodEvents) -> None:
        self._pods = pods
        self._events = events
        self._waiting: asyncio.Queue[tuple[Finding, bool]] = asyncio.Queue(MOST_WAITING)
        strangers.listen(self._hear)

    async def run(self) -> None:
        while True:
            finding, stopped = await self._waiting.get()
            pod = self._pods.get(finding.process.pod_uid)
            if pod is not None:
                reason, text = TEXTS[finding.breach]
                await self._events.warn(pod, reason, _message(finding, text, stopped))

    def _hear(self, finding: Finding, stopped: bool) -> None:
        if finding.process.pod_uid and not self._waiting.full():
            self._waiting.put_nowait((finding, stopped))


def _message(finding: Finding, text: str, stopped: bool) -> str:
    process = finding.process
    size = f"{process.memory_bytes // MIB} MiB of its memory"
    container = f" in container {process.container_id[:12]}" if process.container_id else ""
    return (
        f"Program {process.name} (pid {process.pid} of the node){container} {text} GPU "
        f"{finding.gpu_uuid} and holds {size}"
        f"{': it was stopped' if stopped else ''}."
    )
