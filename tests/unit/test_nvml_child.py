"""A sick driver costs a reading, never the agent. The children here are real processes."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from gpuslice_agent.discovery import Gpus, Sight
from gpuslice_agent.errors import NvmlError, NvmlHungError
from gpuslice_agent.model import HealthState
from gpuslice_agent.nvml.process import Nvml

# Speaks the protocol for GPUs of its own; `read` is what it does when asked for one.
CHILD = """
import os, signal, socket, sys, time
from gpuslice_agent.model import Gpu, Reading
from gpuslice_agent.nvml.child import receive
from gpuslice_agent.nvml.protocol import (
    Describe, Description, Failure, Observation, Start, Verdict, frame,
)

def read(uuid):
    {read}
    return Observation(Reading(memory_used_bytes=os.getpid()))

GPUS = tuple(Gpu(i, f"GPU-{{i}}", "card", "00000000:01:00.0", 1 << 30) for i in range(2))
agent = socket.socket(fileno=int(sys.argv[1]))
while (request := receive(agent)) is not None:
    if isinstance(request, Start):
        answer = Verdict(True)
    elif isinstance(request, Describe):
        answer = Description("1", "13.0", GPUS)
    else:
        answer = read(request.uuid)
    agent.sendall(frame(answer))
"""


def child(read: str = "pass") -> tuple[str, ...]:
    return (sys.executable, "-c", CHILD.format(read=read))


def with_nvml(command: tuple[str, ...], use: Callable[[Nvml], Awaitable[None]]) -> None:
    async def run() -> None:
        nvml = Nvml(deadline=0.5, start_deadline=30, command=command)
        try:
            await use(nvml)
        finally:
            assert await nvml.end()

    asyncio.run(run())


def test_one_child_answers_call_after_call() -> None:
    async def use(nvml: Nvml) -> None:
        assert [gpu.uuid for gpu in (await nvml.describe()).gpus] == ["GPU-0", "GPU-1"]
        first = await nvml.read("GPU-0")
        assert await nvml.read("GPU-1") == first  # the same process

    with_nvml(child(), use)


def test_a_call_that_hangs_is_given_up_and_the_next_gets_a_new_child() -> None:
    async def use(nvml: Nvml) -> None:
        before = await nvml.read("GPU-0")
        with pytest.raises(NvmlHungError, match=r"did not answer within 0\.5 s"):
            await nvml.read("GPU-1")
        assert await nvml.read("GPU-0") != before

    with_nvml(child("uuid == 'GPU-1' and time.sleep(60)"), use)


def test_a_child_that_dies_in_a_call_is_replaced() -> None:
    async def use(nvml: Nvml) -> None:
        before = await nvml.read("GPU-0")
        with pytest.raises(NvmlError, match="died in a call"):
            await nvml.read("GPU-1")
        assert await nvml.read("GPU-0") != before

    with_nvml(child("uuid == 'GPU-1' and os.kill(os.getpid(), signal.SIGKILL)"), use)


def test_a_refusal_is_passed_on_and_the_child_stays() -> None:
    async def use(nvml: Nvml) -> None:
        before = await nvml.read("GPU-0")
        with pytest.raises(NvmlError, match="lost"):
            await nvml.read("GPU-1")
        assert await nvml.read("GPU-0") == before

    with_nvml(child("if uuid == 'GPU-1': return Failure('lost')"), use)


def test_a_call_that_was_cancelled_leaves_no_answer_for_the_next() -> None:
    async def use(nvml: Nvml) -> None:
        await nvml.describe()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await nvml.read("GPU-1")
        assert (await nvml.read("GPU-0")).memory_used_bytes > 0

    with_nvml(child("uuid == 'GPU-1' and time.sleep(0.3)"), use)


def test_children_that_fail_at_once_are_not_started_without_end(tmp_path: Path) -> None:
    async def use(nvml: Nvml) -> None:
        for _ in range(20):
            with pytest.raises(NvmlError):
                await nvml.describe()

    starts = tmp_path / "starts"
    with_nvml(("sh", "-c", f"echo >> {starts}"), use)
    assert len(starts.read_text()) == 2  # the second at once, the third only after a pause


def test_ending_the_child_ends_it_in_the_middle_of_a_call() -> None:
    async def use(nvml: Nvml) -> None:
        await nvml.describe()
        call = asyncio.create_task(nvml.read("GPU-0"))
        await asyncio.sleep(0.1)
        assert await nvml.end()
        with pytest.raises(NvmlError, match="died in a call"):
            await call

    with_nvml(child("time.sleep(60)"), use)


def test_the_child_does_not_outlive_an_agent_that_is_killed() -> None:
    agent = """
import asyncio, os, sys
from gpuslice_agent.nvml.process import Nvml
async def run():
    nvml = Nvml(5, 5)
    try:
        await nvml.describe()
    except Exception:
        pass  # without a driver the child stays all the same
    with open("/proc/thread-self/children") as children:
        print(children.read(), flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(run())
"""

    killed = subprocess.run([sys.executable, "-c", agent], stdout=subprocess.PIPE, check=False)
    while is_running(int(killed.stdout)):
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def looked(command: tuple[str, ...], times: int = 1) -> Sight:
    seen: list[Sight] = []

    async def use(nvml: Nvml) -> None:
        gpus = Gpus(nvml)
        seen.extend([await gpus.look() for _ in range(times)])

    with_nvml(command, use)
    return seen[-1]


def test_a_hung_gpu_is_unhealthy_and_the_others_are_not() -> None:
    sight = looked(child("uuid == 'GPU-0' and time.sleep(60)"), times=2)
    assert [gpu.health.state for gpu in sight.gpus] == [HealthState.UNHEALTHY, HealthState.HEALTHY]
    assert sight.gpus[0].health.reason == "NVML did not answer within 0.5 s"


def test_a_gpu_that_answers_again_is_healthy_again(tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    sick.touch()
    read = f"""
    if os.path.exists({str(sick)!r}):
        os.remove({str(sick)!r})
        return Failure("it is sick")
    """
    assert looked(child(read), times=2).gpus[0].health.state is HealthState.HEALTHY


def test_a_machine_without_a_driver_is_told_what_to_do() -> None:
    try:
        import ctypes

        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        sight = looked(())
        assert sight.gpus == ()
        assert "libnvidia-ml.so.1 was not found): install it, or try" in sight.problem
    else:
        pytest.skip("this machine has a driver")


def test_all_gpus_that_were_there_are_unhealthy_when_the_driver_goes(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    starts = tmp_path / "starts"
    script = f"if [ -e {gone} ]; then exit 1; fi; touch {gone}; echo >> {starts}; exec "
    dies = child("uuid == 'GPU-1' and os._exit(1)")
    sight = looked(("sh", "-c", script + '"$@"', "sh", *dies), times=2)
    assert [gpu.health.state for gpu in sight.gpus] == [HealthState.UNHEALTHY] * 2
    assert sight.problem == ""


def test_gpus_that_all_fail_are_looked_at_with_a_new_child(tmp_path: Path) -> None:
    old = tmp_path / "old"
    read = f"""
    if not os.path.exists({str(old)!r} + uuid):
        open({str(old)!r} + uuid, "w").close()
        return Failure("driver and library are of different versions")
    """
    sight = looked(child(read), times=2)
    assert {gpu.health.state for gpu in sight.gpus} == {HealthState.HEALTHY}


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A control group in which processes ignore SIGKILL, as those stuck in a driver do."""
    group = Path(f"/sys/fs/cgroup/freezer/gpuslice-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no freezer of control groups version 1 here")
    yield group
    (group / "freezer.state").write_text("THAWED")
    while (group / "cgroup.procs").read_text():
        time.sleep(0.01)
    group.rmdir()


def test_no_second_child_joins_one_that_is_stuck_in_the_driver(
    freezer: Path, tmp_path: Path
) -> None:
    frozen = tmp_path / "frozen"
    freeze = f"""
    if not os.path.exists({str(frozen)!r}):
        open({str(frozen)!r}, "w").close()
        open("{freezer}/cgroup.procs", "w").write("0")
        open("{freezer}/freezer.state", "w").write("FROZEN")
        time.sleep(1)  # the kernel's answer may come a moment later
    """

    async def use(nvml: Nvml) -> None:
        with pytest.raises(NvmlHungError, match="did not answer"):
            await nvml.read("GPU-0")
        with pytest.raises(NvmlHungError, match="is stuck in the driver and cannot be killed"):
            await nvml.read("GPU-0")
        (freezer / "freezer.state").write_text("THAWED")
        assert (await nvml.read("GPU-0")).memory_used_bytes > 0

    with_nvml(child(freeze), use)
