"""NVML's word against that of the shares."""

from dataclasses import replace

from gpuslice_agent.audit import strangers, with_excess
from gpuslice_agent.model import Gpu, GpuProcess, Process, Reading, Usage

from .nodes import GIB, gpu, share

NAMES = {1: "known", 2: "miner"}


def seen(*processes: GpuProcess) -> Gpu:
    return gpu(reading=Reading(processes=processes))


def test_a_process_without_a_share_is_a_stranger() -> None:
    on = seen(GpuProcess(1, GIB), GpuProcess(2, 3 * GIB))
    found = strangers(on, {(on.uuid, 1)}, lambda pid: NAMES.get(pid, ""))
    assert found == (Process(pid=2, name="miner", memory_bytes=3 * GIB),)


def test_a_share_of_another_gpu_is_no_excuse() -> None:
    on = seen(GpuProcess(1, GIB))
    assert strangers(on, {(gpu(1).uuid, 1)}, lambda pid: NAMES.get(pid, ""))


def test_a_process_that_is_gone_is_no_stranger() -> None:
    on = seen(GpuProcess(3, GIB))
    assert strangers(on, (), lambda pid: NAMES.get(pid, "")) == ()


def test_memory_on_the_card_beyond_the_limit_is_reported() -> None:
    held = replace(share(gpu(), gib=2), usage=Usage(processes=(Process(pid=1), Process(pid=2))))
    on = seen(GpuProcess(1, GIB), GpuProcess(2, 3 * GIB), GpuProcess(9, 50 * GIB))
    assert with_excess(held, on).usage.over_bytes == 2 * GIB
    fine = seen(GpuProcess(1, GIB), GpuProcess(2, None))
    assert with_excess(held, fine).usage.over_bytes == 0
