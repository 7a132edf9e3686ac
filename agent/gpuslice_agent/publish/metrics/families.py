"""Families of metrics, and how the two formats of Prometheus write them.

prometheus_client could write them too, in ten times the time: with 640 shares that is half a
second of one core for every snapshot. Sample lines are the same in both formats, so they are
written once; only the lines above them differ.
"""

import re
from collections.abc import Iterable
from enum import StrEnum

# The last word of a name that is a unit, which OpenMetrics wants said.
UNITS = frozenset(("bytes", "celsius", "hertz", "joules", "ratio", "seconds", "watts"))
_SPECIAL = re.compile(r'["\\\n]').search
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"  # its samples end with _total
    INFO = "info"  # its samples end with _info and are 1
    # A counter that somebody else named, without _total: OpenMetrics knows no such counter.
    FOREIGN_COUNTER = "foreign counter"


_SUFFIX = {Kind.COUNTER: "_total", Kind.INFO: "_info"}
_TEXT_TYPE = {Kind.INFO: "gauge", Kind.FOREIGN_COUNTER: "counter"}
_OPENMETRICS_TYPE = {Kind.FOREIGN_COUNTER: "unknown"}


def labels(**pairs: object) -> str:
    """As between the braces of a sample. What comes of it can be joined by commas."""
    return ",".join([f'{name}="{_escaped(str(value))}"' for name, value in pairs.items()])


def _escaped(value: str) -> str:
    """translate() alone takes longer than to see that there is nothing to do."""
    return value.translate(_ESCAPED) if _SPECIAL(value) else value


class Family:
    """All samples of one name. `name` has no suffix of its kind; `text` is one sentence."""

    __slots__ = ("_lines", "_sample", "kind", "name", "text")

    def __init__(self, name: str, text: str, kind: Kind = Kind.GAUGE) -> None:
        self.name = name
        self.text = text
        self.kind = kind
        self._sample = name + _SUFFIX.get(kind, "")
        self._lines: list[str] = []

    def add(self, value: float | None, labels: str = "") -> None:
        """None is no sample: the GPU does not say."""
        if value is not None:
            # One number has one spelling, whichever type it came as.
            number = int(value) if isinstance(value, int) else float(value)
            self._lines.append(f"{self._sample}{{{labels}}} {number!r}\n")

    def add_each(self, rows: Iterable[tuple[str, float | None]]) -> "Family":
        for labels, value in rows:
            self.add(value, labels)
        return self

    @property
    def samples(self) -> str:
        return "".join(self._lines)

    @property
    def text_head(self) -> str:
        kind = _TEXT_TYPE.get(self.kind, self.kind.value)
        return f"# HELP {self._sample} {self.text}\n# TYPE {self._sample} {kind}\n"

    @property
    def openmetrics_head(self) -> str:
        kind = _OPENMETRICS_TYPE.get(self.kind, self.kind.value)
        head = f"# HELP {self.name} {self.text}\n# TYPE {self.name} {kind}\n"
        unit = self.name.rpartition("_")[2]
        return f"{head}# UNIT {self.name} {unit}\n" if unit in UNITS else head
