"""What a container asks for: every row of the table, and what can never be."""

import pytest

from gpuslice_agent.errors import RequestError
from gpuslice_plugin.device_plugin.asks import Ask, Words, ask, parse, sums, words


def asked(text: str, annotation: str | None = None) -> Ask | None:
    return ask(parse(text), annotation)


def refusal(text: str, annotation: str | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        asked(text, annotation)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant", "counted"),
    [
        ("gpucores=50,gpumem=3000", Ask(1, 50, 3000), "gpu=1,gpucores=50,gpumem=3000"),
        ("gpu=2", Ask(2, 100, whole=True), "gpu=2,gpucores=200"),
        ("gpu=2,gpumem=3000", Ask(2, 0, 3000), "gpu=2,gpumem=6000"),
        (
            "gpu=2,gpucores=30,gpumem=3000",
            Ask(2, 30, 3000),
            "gpu=2,gpucores=60,gpumem=6000",
        ),
        ("gpu=3,gpucores=30", Ask(3, 30, None, 30), "gpu=3,gpucores=90"),
        ("gpucores=30", Ask(1, 30, None, 30), "gpu=1,gpucores=30"),
        ("gpucores=100", Ask(1, 100, whole=True), "gpu=1,gpucores=100"),
        ("gpucores=200", Ask(2, 100, whole=True), "gpu=2,gpucores=200"),
        ("gpumem=3000", Ask(1, 0, 3000), "gpu=1,gpumem=3000"),
        ("gpumem-percentage=25", Ask(1, 0, None, 25), "gpu=1,gpumem-percentage=25"),
        (
            "gpu=2,gpucores=10,gpumem-percentage=50",
            Ask(2, 10, None, 50),
            "gpu=2,gpucores=20,gpumem-percentage=100",
        ),
        ("gpucores=100,gpumem=3000", Ask(1, 100, 3000), "gpu=1,gpucores=100,gpumem=3000"),
        (
            "gpucores=100,gpumem-percentage=100",
            Ask(1, 100, whole=True),
            "gpu=1,gpucores=100,gpumem-percentage=100",
        ),
    ],
)
def test_each_row_of_the_table_and_how_the_scheduler_has_to_count_it(
    written: str, meant: Ask, counted: str
) -> None:
    assert asked(written) == meant
    assert sums(parse(written)) == parse(counted)


@pytest.mark.parametrize(
    "written", ["gpu=2,gpumem=3000", "gpu=2", "gpumem=7", "gpu=3,gpucores=30", "gpucores=400"]
)
def test_sums_mean_what_the_annotation_says(written: str) -> None:
    counted = str(sums(parse(written)))
    assert asked(counted, written) == asked(written)
    assert asked(written, written) == asked(written), "a policy that was not there"


def test_an_annotation_that_says_more_than_the_scheduler_counted_is_refused() -> None:
    text = refusal("gpu=1,gpucores=10", "gpu=8")
    assert "gpu=1,gpucores=10" in text
    assert "gpu=8,gpucores=800" in text
    assert "says 'lots'" in refusal("gpu=1", "lots")


def test_nothing_is_asked_where_nothing_or_zero_is_written() -> None:
    assert ask(Words()) is None
    assert ask(words({"nvidia.com/gpu": 0, "cpu": 4}, "nvidia.com")) is None
    assert words({"nvidia.com/gpu": 1, "gpu.example/gpu": 2}, "gpu.example") == Words(gpu=2)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("gpumem=1,gpumem-percentage=1", "write one"),
        ("gpucores=150", "in hundreds"),
        ("gpu=3,gpucores=200", "in hundreds"),
        ("gpucores=200,gpumem=3000", "write gpu: N"),
        ("gpumem-percentage=101", "one GPU's memory"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(written: str, why: str) -> None:
    assert why in refusal(written)


def test_an_ask_reads_well_in_a_sentence() -> None:
    assert str(Ask(1, 100, whole=True)) == "a whole GPU"
    assert str(Ask(2, 100, whole=True)) == "2 whole GPUs"
    assert str(Ask(1, 50, 3000)) == "50 % of a GPU's time and 3000 MiB"
    assert str(Ask(2, 0, None, 25)) == (
        "0 % of a GPU's time and 25 % of its memory on each of 2 GPUs"
    )
