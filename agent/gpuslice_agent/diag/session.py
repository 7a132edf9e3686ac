"""Runs the tests: a child process for each GPU, and a deadline for each of its answers."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gpuslice_agent.diag import judge, measures
from gpuslice_agent.diag.results import GpuReport, Report, Result, failed, skipped
from gpuslice_agent.errors import NvmlError, NvmlStuckError
from gpuslice_agent.model import Gpu, HealthState, Snapshot
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.nvml.vitals import Vitals

WORKER = ("-P", "-m", "gpuslice_agent.diag.worker")
# By level, what is tried on a GPU beside NVML's own words.
_OF_THE_WORKER: dict[int, tuple[str, ...]] = {
    1: (),
    2: ("h2d", "d2h", "d2d", "memory"),
    3: ("h2d", "d2h", "d2d", "memory", "burn"),
}
LONG_TESTS = ("memory", "burn")  # on level 3
END_SECONDS = 2.0
SHORT_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Plan:
    level: int
    seconds: float  # how long each of the long tests lasts
    deadline: float  # seconds within which each test ends, beyond those
    memory_bytes: int  # at most so much is tested
    ptx: Path
    environment: Mapping[str, str]  # of the children

    @property
    def tests(self) -> tuple[str, ...]:
        """What follows the words of NVML."""
        tried = _OF_THE_WORKER[self.level]
        return (*tried, "counted") if tried else ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of the worker, before the tests."""
        long = self.level == 3
        size = self.memory_bytes if long else min(self.memory_bytes, SHORT_MEMORY_BYTES)
        return str(self.ptx), str(self.seconds if long else 0.0), str(size)

    def longest(self, test: str) -> float:
        """Seconds after which the driver hangs."""
        long = self.level == 3 and test in LONG_TESTS
        return self.deadline + (self.seconds if long else 0.0)


async def report(plan: Plan, snapshot: Snapshot, gpus: Sequence[Gpu], nvml: Nvml) -> Report:
    """`gpus`: those to be tested, which are nobody else's."""
    vitals = await _all_vitals(nvml, snapshot.gpus)
    on_node = [judge.nvml(snapshot), await _cuda(plan, snapshot, vitals)]
    tested = [await _of_gpu(plan, gpu, vitals[gpu.uuid], nvml) for gpu in gpus]
    driver, cuda = snapshot.driver_version, snapshot.cuda_version
    return Report(plan.level, driver, cuda, tuple(on_node), tuple(tested))


async def _all_vitals(nvml: Nvml, gpus: Sequence[Gpu]) -> dict[str, Vitals | NvmlError]:
    """A driver that does not start, or holds on to who asked it, is asked once."""
    vitals: dict[str, Vitals | NvmlError] = {}
    stuck: NvmlStuckError | None = None
    for gpu in gpus:
        seen = stuck or await _vitals(nvml, gpu)
        vitals[gpu.uuid] = seen
        stuck = seen if isinstance(seen, NvmlStuckError) else None
    return vitals


async def _vitals(nvml: Nvml, gpu: Gpu) -> Vitals | NvmlError:
    try:
        return await nvml.examine(gpu.uuid)
    except NvmlError as error:
        return error


async def _cuda(plan: Plan, snapshot: Snapshot, vitals: Mapping[str, Vitals | NvmlError]) -> Result:
    """Without a context on any GPU: others may be in use."""
    if not snapshot.gpus:
        return skipped(["cuda"], "No GPU is there.")[0]
    hidden = {uuid for uuid, seen in vitals.items() if isinstance(seen, Vitals) and seen.mig}
    everyone = {gpu.uuid for gpu in snapshot.gpus} - hidden
    ((_, answer),) = await _answers(plan, ("cuda",), plan.environment)
    if isinstance(answer, measures.Cuda):
        return judge.cuda(answer, snapshot.cuda_version, everyone)
    return failed("cuda", str(answer))


async def _of_gpu(plan: Plan, gpu: Gpu, vitals: Vitals | NvmlError, nvml: Nvml) -> GpuReport:
    results = [judge.health(gpu)]
    if isinstance(vitals, NvmlError):
        results.append(failed("errors", f"{vitals}."))
        why = "NVML does not answer for this GPU."
        results.extend(skipped(("pcie", *plan.tests), why))
    else:
        results += [judge.errors(vitals), judge.link(vitals)]
        if why := _why_not(gpu, vitals):
            results.extend(skipped(plan.tests, why))
        elif plan.tests:
            results += await _touched(plan, gpu, vitals, nvml)
    return GpuReport(gpu.index, gpu.uuid, gpu.name, tuple(results))


async def _touched(plan: Plan, gpu: Gpu, vitals: Vitals, nvml: Nvml) -> list[Result]:
    """The tests that need a context, and what the driver has counted meanwhile."""
    environment = {**plan.environment, "CUDA_VISIBLE_DEVICES": gpu.uuid}
    answers = await _answers(plan, _OF_THE_WORKER[plan.level], environment)
    results = [_judged(test, answer, vitals) for test, answer in answers]
    missing = _OF_THE_WORKER[plan.level][len(answers) :]
    results += skipped(missing, "Not reached: a test before it did not end.")
    after = await _vitals(nvml, gpu)
    if isinstance(after, NvmlError):
        return [*results, failed("counted", f"{after}.")]
    return [*results, judge.counted(vitals, after)]


def _why_not(gpu: Gpu, vitals: Vitals) -> str:
    if gpu.health.state is HealthState.UNHEALTHY:
        return "It is unhealthy, and nobody may have it."
    return "It is in MIG mode: there is no whole GPU to test." if vitals.mig else ""


def _judged(test: str, answer: measures.Measure | str, vitals: Vitals) -> Result:
    match answer:
        case measures.Copied() if test == "d2d":
            return judge.device_copy(answer)
        case measures.Copied():
            return judge.host_copy(test, answer, vitals)
        case measures.Matched():
            return judge.memory(answer)
        case measures.Burnt():
            return judge.burn(answer)
        case _:
            return failed(test, str(answer))


async def _answers(
    plan: Plan, tests: Sequence[str], environment: Mapping[str, str]
) -> list[tuple[str, measures.Measure | str]]:
    """Each test with its measure, or with the sentence that says why there is none."""
    if not tests:
        return []
    child = await asyncio.create_subprocess_exec(
        sys.executable, *WORKER, *plan.arguments, *tests,
        env=environment, cwd="/",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    answers: list[tuple[str, measures.Measure | str]] = []
    try:
        for test in tests:
            answer = await _answer(child, plan.longest(test))
            answers.append((test, answer))
            if isinstance(answer, str):
                break
    finally:
        await _end(child)
    return answers


async def _answer(child: asyncio.subprocess.Process, deadline: float) -> measures.Measure | str:
    assert child.stdout is not None
    try:
        async with asyncio.timeout(deadline):
            while line := await child.stdout.readline():
                said: measures.Line = measures.decode(line)
                if isinstance(said, measures.Broken):
                    return f"{said.sentence}."
                if not isinstance(said, measures.Begun):
                    return said
    except TimeoutError:
        return f"No answer within {deadline:g} s: the driver hangs."
    except msgspec.DecodeError:
        pass  # what a dying process wrote in half
    return "The process that tested it died."


async def _end(child: asyncio.subprocess.Process) -> None:
    """One that is stuck in the driver cannot be killed, and is left alone."""
    with suppress(ProcessLookupError):
        child.kill()
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await child.wait()
