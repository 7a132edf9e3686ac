"""The ledger keeps what was promised, or says why it cannot."""

import ctypes
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gpuslice_agent.errors import LedgerError
from gpuslice_agent.ledger import SCHEMA, Ledger
from gpuslice_agent.model import (
    Limits,
    Overcommit,
    Owner,
    OwnerKind,
    Priority,
    Share,
    ShareState,
)

LASTING = Share("lasting", "GPU-1", Limits(30, 1 << 30, weight=3), Owner("claim"), 1.5)
OF_POD = Share(
    "of pod",
    "GPU-2",
    Limits(100, 7, overcommit=Overcommit.SWAP, whole=True),
    Owner(
        "team/train main",
        kind=OwnerKind.CONTAINER,
        key="pod/uid-1/main/0",
        namespace="team",
        pod="train",
        pod_uid="uid-1",
        container="main",
        moments=(1, 2),
        cdi_devices=("one", "two"),
    ),
    3.5,
)
OWNED = Share("owned", "GPU-2", Limits(0, 5, priority=Priority.HIGH), Owner("run", 7, 8), 2.5)


def test_what_was_inserted_is_there_after_a_restart(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, "boot")) as ledger:
        ledger.insert([LASTING, OWNED])
    with closing(Ledger(tmp_path, "boot")) as ledger:
        assert ledger.shares() == (LASTING, OWNED)


def test_what_was_deleted_stays_deleted_and_deleting_it_again_is_no_error(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, "boot")) as ledger:
        ledger.insert([LASTING, OWNED])
        ledger.delete(["owned"])
        ledger.delete(["owned"])
        assert ledger.shares() == (LASTING,)


def test_new_limits_and_the_end_of_a_share_are_remembered(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, "boot")) as ledger:
        ledger.insert([LASTING])
        ledger.set_limits("lasting", Limits(50, 2 << 30))
        ledger.set_ending(["lasting"])
    with closing(Ledger(tmp_path, "boot")) as ledger:
        (share,) = ledger.shares()
    assert share.limits == Limits(50, 2 << 30)
    assert share.state is ShareState.ENDING


def test_shares_of_one_request_are_recorded_all_or_none(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, "boot")) as ledger:
        ledger.insert([OWNED])
        with pytest.raises(LedgerError):
            ledger.insert([LASTING, OWNED])
        assert ledger.shares() == (OWNED,)


def test_a_reboot_ends_the_shares_that_processes_owned(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, "one boot")) as ledger:
        ledger.insert([LASTING, OWNED])
    with closing(Ledger(tmp_path, "the next")) as ledger:
        assert ledger.shares() == (LASTING,)


def test_the_cost_of_a_context_is_remembered_with_its_driver(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, "boot")) as ledger:
        assert ledger.context_overhead("GPU-1") is None
        ledger.set_context_overhead("GPU-1", "580", 500 << 20)
        ledger.set_context_overhead("GPU-1", "590", 600 << 20)
        assert ledger.context_overhead("GPU-1") == ("590", 600 << 20)


def test_a_second_agent_is_refused_the_ledger(tmp_path: Path) -> None:
    with (
        closing(Ledger(tmp_path, "boot")),
        pytest.raises(LedgerError, match="Another agent has the ledger"),
    ):
        Ledger(tmp_path, "boot")


def test_a_damaged_ledger_is_set_aside_whole_and_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = b"not a database, " * 1000
    (tmp_path / "ledger.sqlite").write_bytes(damaged)
    with closing(Ledger(tmp_path, "boot")) as ledger:
        assert ledger.is_new
        ledger.insert([LASTING])
    (aside,) = tmp_path.glob("ledger.sqlite.damaged-*")
    assert aside.read_bytes() == damaged
    (line,) = caplog.messages
    assert "is damaged (file is not a database): it is set aside" in line
    with closing(Ledger(tmp_path, "boot")) as ledger:
        assert not ledger.is_new
        assert ledger.shares() == (LASTING,)


def test_a_damaged_record_is_not_skipped(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, "boot")) as ledger:
        ledger.insert([LASTING, OWNED])
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as database:
        database.execute("UPDATE shares SET limits = '{' WHERE id = 'owned'")
        database.commit()
    with closing(Ledger(tmp_path, "boot")) as ledger:
        assert ledger.is_new
        assert ledger.shares() == ()


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, "boot")) as ledger:
        ledger.insert([LASTING])
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as database:
        database.execute("PRAGMA user_version = 3")
    with pytest.raises(LedgerError, match="written by a newer gpuslice"):
        Ledger(tmp_path, "boot")


def test_a_ledger_of_version_1_is_carried_over(tmp_path: Path) -> None:
    limits = '{"cores":30,"memory_bytes":1073741824,"policy":"hard","priority":"normal","weight":3}'
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as database:
        database.executescript(SCHEMA)
        database.execute("INSERT INTO boot VALUES ('boot')")
        database.execute(
            "INSERT INTO shares VALUES ('lasting', 'GPU-1', ?, ?, 1.5, 0)",
            (limits, '{"name":"claim","pid":0,"start_time":0}'),
        )
        database.execute("PRAGMA user_version = 1")
        database.commit()
    with closing(Ledger(tmp_path, "boot")) as ledger:
        assert not ledger.is_new
        assert ledger.shares() == (LASTING,)
        ledger.insert([OF_POD])
        with pytest.raises(LedgerError):
            ledger.insert([replace(OF_POD, id="the same pod again")])


def test_an_owner_is_remembered_as_it_is_and_has_one_share(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, "boot")) as ledger:
        ledger.insert([LASTING, OF_POD])
        with pytest.raises(LedgerError):
            ledger.insert([replace(OF_POD, id="the same pod again")])
        named = replace(OF_POD.owner, pod="another name")
        ledger.set_owner("of pod", named)
    with closing(Ledger(tmp_path, "another boot")) as ledger:
        assert ledger.shares() == (LASTING, replace(OF_POD, owner=named))


def test_a_share_that_was_ending_may_be_held_on_to(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, "boot")) as ledger:
        ledger.insert([LASTING])
        ledger.set_ending(["lasting"])
        ledger.insert([OF_POD], revived=["lasting"])
        assert ledger.shares() == (LASTING, OF_POD)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    libc = ctypes.CDLL(None)
    at = os.fsencode(tmp_path)
    if libc.mount(b"small", at, b"tmpfs", 0, b"size=128k") != 0:
        pytest.skip("no file system can be mounted here")
    yield tmp_path
    libc.umount2(at, 2)


def test_a_full_disk_is_said_and_the_ledger_is_as_before(small_disk: Path) -> None:
    written = 0
    with closing(Ledger(small_disk, "boot")) as ledger:
        with pytest.raises(LedgerError, match="disk is full; nothing was changed"):
            for written in range(1000):
                owner = Owner("x" * 4096)
                ledger.insert([Share(f"{written}", "GPU-1", LASTING.limits, owner, 1.0)])
        assert len(ledger.shares()) == written
    with closing(Ledger(small_disk, "boot")) as ledger:
        assert len(ledger.shares()) == written
