"""The parser takes whatever comes: it neither raises nor takes long."""

import random
import string
import time

from hypothesis import given, settings
from hypothesis import strategies as some

from gpuslice_agent.health import catalogue
from gpuslice_agent.health.judge import judge
from gpuslice_agent.health.line import Line, parse
from gpuslice_agent.health.record import parse as parse_record

from .kernel_lines import KNOWN, WRAPPERS

CATALOGUE = catalogue.load()
# What the patterns look for: words of these, in any order, reach further in than letters do.
WORDS = (
    "NVRM: ", "Xid (", "PCI:", "0000:3b:00", ".0", " GPU-I:05", " GPU-CI:00", "): ", "79", "154",
    "74", "145", ", pid=", "7194", "'<unknown>'", ", name=", "python3", ", ", "GPU ", "GPU4 ",
    "The NVIDIA GPU ", "fallen off the bus", "nvidia-nvswitch0: SXid (PCI:", "Fatal", "Data ",
    "GPU recovery action changed from 0x0 (None) to 0x", "ffffffff", "caused by previous Xid ",
    "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008", "on link 14(0x100000, 0x0",
    "\n", "\\x0a", "\\xff", "4,1,1,-;", "Nov 20 14:03:07 node kernel: ", "9" * 30, "é", "\x00",
)  # fmt: skip
FRAGMENTS = some.lists(some.sampled_from(WORDS), max_size=40).map("".join)
ANYTHING = some.one_of(some.text(max_size=400), FRAGMENTS)


def look_at(text: str) -> None:
    line = parse(text)
    assert line is None or isinstance(line, Line)
    if line is not None:
        judge(line, CATALOGUE)


@settings(max_examples=2000, deadline=None)
@given(ANYTHING)
def test_any_text_is_taken(text: str) -> None:
    look_at(text)


@settings(max_examples=500, deadline=None)
@given(some.binary(max_size=400))
def test_any_bytes_are_taken(data: bytes) -> None:
    record = parse_record(data)
    look_at(data.decode("utf-8", "replace"))
    assert record is None or record.text is not None


@settings(max_examples=1000, deadline=None)
@given(
    some.sampled_from(KNOWN),
    some.sampled_from(sorted(WRAPPERS)),
    some.integers(0, 300),
    some.integers(0, 20),
    some.text(string.printable, max_size=10),
)
def test_a_damaged_line_is_taken(
    known: object, wrapper: str, at: int, length: int, instead: str
) -> None:
    line = WRAPPERS[wrapper](getattr(known, "text"))  # noqa: B009
    look_at(line[:at] + instead + line[at + length :])


def test_a_million_lines_are_taken() -> None:
    """More than hypothesis has time for; the seed makes a failure come again."""
    source = random.Random(20_261_120)
    for _ in range(1_000_000):
        parse("".join(source.choices(WORDS, k=source.randrange(1, 10))))


def test_the_time_grows_with_the_length_only() -> None:
    """A pattern that is quadratic takes 64 times as long for eight times the length."""
    for word in (*WORDS, "NVRM: Xid (PCI:0000:01:00): 31, name=", "NVRM: GPU 0000:01:00:", "x "):
        short = min(seconds(word * 2000) for _ in range(3))
        long = min(seconds(word * 16000) for _ in range(3))
        assert long < 30 * short + 0.02, word


def seconds(text: str) -> float:
    begin = time.thread_time()
    look_at(text)
    return time.thread_time() - begin
