"""A device name means the same GPU for as long as anybody may hold it."""

from pathlib import Path

import pytest

from gpuslice_agent.model import Gpu, Health, HealthState
from gpuslice_plugin.dra.card_record import CardRecord
from gpuslice_plugin.dra.cards import Card, numbered


def gpu(index: int, uuid: str) -> Gpu:
    health = Health(HealthState.HEALTHY)
    return Gpu(index, uuid, "H100", f"0000:{index:02x}:00.0", 80 << 30, health=health)


def known(*cards: Card) -> dict[str, Card]:
    return {card.gpu.uuid: card for card in cards}


def names(cards: tuple[Card, ...]) -> dict[str, int]:
    return {card.gpu.uuid: card.number for card in cards}


def test_gpus_begin_with_their_index() -> None:
    assert names(numbered([gpu(0, "a"), gpu(1, "b")], {}, ())) == {"a": 0, "b": 1}


def test_a_gpu_keeps_its_number_when_the_one_before_it_is_gone() -> None:
    before = known(Card(0, gpu(0, "a")), Card(1, gpu(1, "b")))
    assert names(numbered([gpu(0, "b")], before, ())) == {"b": 1}


def test_a_new_gpu_does_not_take_the_number_of_another() -> None:
    before = known(Card(0, gpu(0, "a")), Card(1, gpu(1, "b")))
    now = numbered([gpu(0, "new"), gpu(1, "b")], before, held={"a"})
    assert names(now) == {"a": 0, "b": 1, "new": 2}


def test_the_number_of_a_gpu_that_nobody_holds_any_more_is_free() -> None:
    before = known(Card(0, gpu(0, "a")), Card(1, gpu(1, "b")))
    assert names(numbered([gpu(0, "new"), gpu(1, "b")], before, ())) == {"b": 1, "new": 0}


def test_a_held_gpu_that_is_gone_stays_and_is_sick_until_it_is_back() -> None:
    before = known(Card(0, gpu(0, "a")))
    (gone,) = numbered([], before, held={"a"})
    assert gone.absent and gone.gpu.health.state is HealthState.UNHEALTHY
    (back,) = numbered([gpu(0, "a")], known(gone), held={"a"})
    assert not back.absent and back.gpu.health.state is HealthState.HEALTHY


def test_numbers_outlive_the_agent(tmp_path: Path) -> None:
    record = CardRecord(tmp_path)
    assert record.read() == {}
    record.write([Card(3, gpu(0, "a"))])
    after = CardRecord(tmp_path).read()
    assert names(numbered([gpu(0, "a")], after, ())) == {"a": 3}


def test_a_damaged_record_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cards.json").write_text("{")
    assert CardRecord(tmp_path).read() == {}
    assert "record of GPU numbers not read" in caplog.text
