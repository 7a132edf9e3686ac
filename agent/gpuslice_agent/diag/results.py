"""What the tests came to: immutable values, no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Result:
    """One test of one GPU, or of the node."""

    test: str
    outcome: Outcome
    reason: str = ""  # a sentence; of a test that passed, what it has looked at
    value: float | None = None  # measured, where something was
    least: float | None = None  # of which that was to be expected
    unit: str = ""


@dataclass(frozen=True, slots=True)
class GpuReport:
    index: int
    uuid: str
    name: str
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Report:
    level: int
    driver_version: str
    cuda_version: str
    results: tuple[Result, ...]  # of the node
    gpus: tuple[GpuReport, ...]

    @property
    def failed(self) -> bool:
        every = (*self.results, *(one for gpu in self.gpus for one in gpu.results))
        return any(one.outcome is Outcome.FAIL for one in every)


def passed(test: str, reason: str = "") -> Result:
    return Result(test, Outcome.PASS, reason)


def failed(test: str, reason: str) -> Result:
    return Result(test, Outcome.FAIL, reason)


def skipped(tests: Iterable[str], reason: str) -> tuple[Result, ...]:
    return tuple(Result(test, Outcome.SKIP, reason) for test in tests)
