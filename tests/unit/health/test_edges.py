"""The sources of faults, on the real things: the kernel's log of this machine, files, processes."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from gpuslice_agent.entities import gpu_entity
from gpuslice_agent.errors import CatalogueError, HealthError
from gpuslice_agent.health import catalogue, journal
from gpuslice_agent.health.kernel_log import KernelLog, written_at
from gpuslice_agent.health.known import KnownGpus
from gpuslice_agent.health.record import Record
from gpuslice_agent.health.states import Case, found, sensed
from gpuslice_agent.health.store import KnownGpu, Remembered, Store
from gpuslice_agent.nvml.vitals import Vitals

from ..nodes import gpu

KMSG = Path("/dev/kmsg")


def all_records(log: KernelLog) -> list[Record]:
    records: list[Record] = []
    more = True
    while more:
        batch, more = log.read()
        records += batch.records
    return records


@pytest.fixture
def machines_log() -> KernelLog:
    try:
        return KernelLog(KMSG)
    except OSError as error:
        pytest.skip(f"{KMSG} is not for us: {error.strerror}")


def test_the_machines_own_log_is_read_record_by_record(machines_log: KernelLog) -> None:
    records = all_records(machines_log)
    machines_log.close()
    assert records, "the kernel has said nothing"
    sequences = [one.sequence for one in records]
    assert sequences == sorted(set(sequences))
    assert {one.facility for one in records} == {0}


def test_what_a_program_writes_to_the_machines_log_is_not_read(machines_log: KernelLog) -> None:
    all_records(machines_log)
    mark = f"gpuslice test {os.getpid()}"
    try:
        KMSG.write_text(f"<4>{mark}\n")
    except OSError:
        pytest.skip("this machine's log cannot be written")
    assert [one for one in all_records(machines_log) if mark in one.text] == []
    machines_log.close()


def test_the_time_of_a_record_is_on_peoples_clock(machines_log: KernelLog) -> None:
    now = written_at(Record(0, 1, 10**15, ""))  # later than now: the clocks differ a little
    assert written_at(Record(0, 1, 0, "")) < now
    machines_log.close()


def test_the_journal_is_read_where_the_log_is_not_for_us() -> None:
    lines = [
        json.dumps({"MESSAGE": "one", "SYSLOG_FACILITY": "0", "_TRANSPORT": "kernel"}),
        json.dumps({"MESSAGE": "forged", "SYSLOG_FACILITY": "1"}),
        "no JSON",
        json.dumps({"MESSAGE": [78, 86, 82, 77, 255], "SYSLOG_FACILITY": "0"}),
        json.dumps({"MESSAGE": None}),
    ]
    script = f"print({chr(10).join(lines)!r}); import sys; sys.exit('no permission')"

    async def read() -> list[str]:
        texts: list[str] = []
        with pytest.raises(HealthError, match="cannot be read: no permission"):
            async for one in journal.records((sys.executable, "-c", script)):
                texts.append(one.text)  # noqa: PERF401 # those before the error count
        return texts

    assert asyncio.run(read()) == ["one", "NVRM\ufffd"]


def test_a_machine_without_a_journal_says_so() -> None:
    async def read() -> None:
        async for _ in journal.records(("/nowhere/journalctl",)):
            pass

    with pytest.raises(HealthError, match="The journal cannot be read: No such file"):
        asyncio.run(read())


def test_what_is_remembered_comes_back_and_a_damaged_file_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    assert store.load() == Remembered()
    case = found(Case(gpu_entity("0000:3b:00")), sensed("remap pending", "seen", 5.0))
    remembered = Remembered("boot", 7, (KnownGpu("0000:3b:00", "GPU-0"),), (case,))
    store.save(remembered)
    assert Store(tmp_path / "state").load() == remembered
    (tmp_path / "state" / "health.json").write_text("{")
    with pytest.raises(HealthError, match="health begins anew"):
        store.load()


def test_seven_gpus_of_eight_after_a_boot_are_noticed() -> None:
    eight = tuple(gpu(index) for index in range(8))
    known = KnownGpus()
    known.saw(eight)
    known.examined("0000:03:00", Vitals(serial="1652", nvlinks_up=18))
    after = KnownGpus(known.all())
    assert after.saw(eight[:3] + eight[4:]) == ()
    assert [(one.pci, one.serial) for one in after.missing(eight[:3] + eight[4:])] == [
        ("0000:03:00", "1652")
    ]


def test_a_gpu_in_the_place_of_another_takes_over_nothing_of_it() -> None:
    known = KnownGpus([KnownGpu("0000:00:00", "GPU-old", nvlinks=18)])
    assert known.saw([gpu(0)]) == ("0000:00:00",)
    assert known.missing([gpu(0)]) == ()
    assert known.nvlinks("0000:00:00") == 0


def test_a_file_is_laid_over_the_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        'version = 1\n[xid]\n13 = { class = "engine", action = "RESET_GPU", meaning = "Ours." }\n'
        '4242 = { class = "application", action = "RESTART_APP", meaning = "New." }\n'
    )
    ours = catalogue.load(file)
    assert ours.xid(13).action == "RESET_GPU"
    assert ours.xid(4242).kind == "application"
    assert ours.xid(79) == catalogue.load().xid(79)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("version = 1\n[xid]\n13 = 7\n", "is wrong"),
        ("version = 2\n", "it is of version 2"),
        ('version = 1\n[xid]\nx = { class = "bus", action = "IGNORE", meaning = "" }', "x is no"),
        ("version = ", "is wrong"),
    ],
)
def test_a_wrong_catalogue_is_refused_with_a_reason(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(CatalogueError, match=why):
        catalogue.load(file)


def test_a_catalogue_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot be read"):
        catalogue.load(tmp_path / "nowhere.toml")


def test_every_code_up_to_the_newest_driver_has_an_entry() -> None:
    ours = catalogue.load()
    assert all(ours.xid(code).meaning for code in range(1, 177))
    assert not ours.knows(177)
