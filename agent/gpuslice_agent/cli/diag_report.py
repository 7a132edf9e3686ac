"""A report of `gpuslice diag`, for people and for programs."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from gpuslice_agent.diag.results import Report, Result

VERSION = 1


def lines(report: Report) -> Iterator[str]:
    node = "Node" if not report.driver_version else f"Node, driver {report.driver_version}"
    yield from _section(node, report.results)
    for gpu in report.gpus:
        yield from _section(f"GPU {gpu.index} {gpu.uuid} {gpu.name}", gpu.results)
    yield "Something failed." if report.failed else "All passed."


def document(report: Report) -> str:
    return json.dumps(
        {
            "version": VERSION,
            "level": report.level,
            "driver_version": report.driver_version,
            "cuda_version": report.cuda_version,
            "result": "fail" if report.failed else "pass",
            "tests": _tests(report.results),
            "gpus": [
                {
                    "index": gpu.index,
                    "uuid": gpu.uuid,
                    "name": gpu.name,
                    "tests": _tests(gpu.results),
                }
                for gpu in report.gpus
            ],
        },
        indent=2,
    )


def _section(title: str, results: Iterable[Result]) -> Iterator[str]:
    yield title
    for one in results:
        yield f"    {one.test:<8}{one.outcome.upper():<6}{one.reason}".rstrip()


def _tests(results: Iterable[Result]) -> list[dict[str, object]]:
    return [asdict(one) for one in results]
