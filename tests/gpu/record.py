"""What the tests of a GPU measured, kept whether they pass or not: docs/performance.md is written
from it. One file a kind of GPU, `gpu-NAME.json`; a later run replaces the rows that it measures.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Machine:
    gpu: str
    driver_version: str
    cuda_version: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """`asked` and `tolerance` are None where nothing was promised. `held`: within the tolerance."""

    what: str
    unit: str
    asked: float | None
    got: float | str
    tolerance: float | None
    held: bool | None


class Record:
    def __init__(self, folder: Path, machine: Machine) -> None:
        slug = re.sub(r"[^a-z0-9]+", "-", machine.gpu.lower()).strip("-")
        self._path = folder / f"gpu-{slug}.json"
        self._machine = machine
        self._rows: dict[str, dict[str, Any]] = {}
        self._broken: list[str] = []
        if self._path.exists():
            self._rows = {row["what"]: row for row in json.loads(self._path.read_text())["rows"]}

    def measured(self, what: str, got: float | str, unit: str) -> None:
        """Nothing was promised of it."""
        self._keep(Row(what, unit, None, got, None, None))

    def expect(self, what: str, asked: float, got: float, tolerance: float, unit: str) -> None:
        """What does not hold is told at the end of the test: what comes after it is worth knowing
        too, and a GPU is not there every day.
        """
        held = abs(got - asked) <= tolerance
        self._keep(Row(what, unit, asked, got, tolerance, held))
        if not held:
            self._broken.append(f"{what}: asked {asked} ± {tolerance} {unit}, got {got}")

    def broken(self) -> list[str]:
        """Since it was last asked."""
        broken, self._broken = self._broken, []
        return broken

    def _keep(self, row: Row) -> None:
        self._rows[row.what] = asdict(row)
        words = {"machine": asdict(self._machine), "rows": list(self._rows.values())}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(words, indent=1) + "\n")
