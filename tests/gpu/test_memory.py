"""The memory limit on a GPU: what is called free can be allocated, and never more is held."""

import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from .card import Card
from .record import Record
from .tenants import MIB, Command, python_client, run, share_files, share_of, started

LIMIT = 2048 * MIB
BLOCK = 2 * MIB
OUT_OF_MEMORY = 2
SCRIPTS = Path(__file__).parents[1] / "sim" / "scripts"
STORIES = (
    "destroyed_context",
    "reset_primary_context",
    "destroyed_pool",
    "released_while_mapped",
    "pool_makes_room",
    "free_in_stream_order",
    "module",
    "host_memory",
)

KINDS = (
    "cuMemAlloc",
    "cuMemAllocPitch",
    "cuMemAllocManaged",
    "cuMemAllocAsync",
    "cuMemAllocFromPoolAsync",
    "cuArrayCreate",
    "cuArray3DCreate",
    "cuMipmappedArrayCreate",
    "cuMemCreate",
    "cuMemMap",
    "cuMemExportToShareableHandle",
    "cuGraphAddMemAllocNode",
    "cuStreamBeginCapture",
)
# What a mipmap or an array costs is not what was asked for: how much of it is data differs.
PADDED = ("cuArrayCreate", "cuArray3DCreate", "cuMipmappedArrayCreate")
# Comes to the card page by page, as it is touched.
NOT_RESIDENT = ("cuMemAllocManaged",)
KEPT = ("cuMemAllocFromPoolAsync",)
# The driver takes memory for these in larger pieces, in a share as on a whole GPU.
GROWN = (
    "cuMemAllocAsync",
    "cuMemAllocFromPoolAsync",
    "cuGraphAddMemAllocNode",
    "cuStreamBeginCapture",
)
GROWTH = 32 * MIB
# What is dropped while a descriptor of it is open stays charged: who holds it then nobody can tell.
EXPORTED = "cuMemExportToShareableHandle"


@dataclass(frozen=True, slots=True)
class Held:
    """What NVML sees beyond what was there before; bytes."""

    card: Card
    used_before: int
    processes_before: int | None

    def on_the_card(self) -> int:
        return self.card.used_bytes() - self.used_before

    def by_processes(self) -> int | None:
        now = self.card.process_bytes()
        before = self.processes_before
        return None if now is None or before is None else now - before


@pytest.fixture
def held(card: Card) -> Held:
    return Held(card, card.used_bytes(), card.process_bytes())


def never_more_than_the_limit(record: Record, held: Held, what: str) -> None:
    """By processes where NVML says so: what the card itself takes beside them is in the other."""
    record.measured(f"memory: card, {what}", held.on_the_card() / MIB, "MiB")
    by_processes = held.by_processes()
    if by_processes is not None:
        over = max(0, by_processes - LIMIT)
        record.expect(f"memory: over the limit, {what}", 0, over / MIB, 0, "MiB")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_called_free_can_be_allocated_and_no_more(
    record: Record, programs: Path, held: Held, kind: str
) -> None:
    command: Command = (*share_of(mem=LIMIT), programs / "memory_paths", kind, str(128 * MIB))
    with started(*command) as tenant, share_files(tenant) as files:
        ready = tenant.says()
        assert ready["total"] == LIMIT
        context_bytes = files.usage().held_bytes
        record.measured("memory: context as charged", context_bytes / MIB, "MiB")
        record.measured(
            "memory: context by NVML's processes", (held.by_processes() or 0) / MIB, "MiB"
        )
        record.measured("memory: context by NVML's card", held.on_the_card() / MIB, "MiB")

        tenant.hears()
        full = tenant.says()
        assert full["refused"] == OUT_OF_MEMORY
        never_more_than_the_limit(record, held, kind)
        assert files.usage().held_bytes <= LIMIT
        missing = ready["free"] - full["allocated"]
        if kind in PADDED:
            record.measured(f"memory: padding, {kind}", missing / MIB, "MiB")
            missing = full["free"]
        least = GROWTH if kind in GROWN else BLOCK
        record.expect(
            f"memory: free but not to be had, {kind}", 0, missing / MIB, least / MIB, "MiB"
        )
        if kind not in NOT_RESIDENT and (by_processes := held.by_processes()) is not None:
            charged = files.usage().held_bytes
            record.expect(
                f"memory: charged beyond held, {kind}", 0, (charged - by_processes) / MIB, 2, "MiB"
            )

        tenant.hears()
        empty = tenant.says()
        left = ready["free"] - empty["free"]
        if kind == EXPORTED:
            record.measured(f"memory: left after all is freed, {kind}", left / MIB, "MiB")
        elif kind not in KEPT:
            record.expect(f"memory: left after all is freed, {kind}", 0, left / MIB, 2, "MiB")
        tenant.hears()
        tenant.ends()
        assert files.usage().held_bytes == 0


def test_small_allocations_are_charged_by_the_block(
    record: Record, programs: Path, held: Held
) -> None:
    command: Command = (
        *share_of(mem=LIMIT),
        programs / "memory_paths",
        "cuMemAlloc",
        str(64 * 1024),
    )
    with started(*command) as tenant, share_files(tenant) as files:
        free_bytes = tenant.says()["free"]
        tenant.hears()
        full = tenant.says()
        assert full["refused"] == OUT_OF_MEMORY
        never_more_than_the_limit(record, held, "64 KiB")
        missing = free_bytes - full["allocated"]
        record.expect("memory: free but not to be had, 64 KiB", 0, missing / MIB, 2, "MiB")
        assert files.usage().held_bytes <= LIMIT


def test_a_limit_below_what_a_context_needs_refuses_the_context(programs: Path) -> None:
    command: Command = (*share_of(mem=32 * MIB), programs / "memory_paths", "cuMemAlloc", str(MIB))
    with started(*command) as tenant:
        assert tenant.says() == {"when": "context", "refused": OUT_OF_MEMORY}
        tenant.ends()


def filling(programs: Path, kind: str) -> Command:
    return (programs / "memory_paths", kind, str(10 * MIB))


def test_two_processes_are_refused_together(record: Record, programs: Path, held: Held) -> None:
    with started(*share_of(mem=LIMIT), *filling(programs, "cuMemAlloc")) as first:
        first.says()
        with started(*filling(programs, "cuMemAllocAsync"), beside=first) as second:
            second.says()
            first.hears()
            assert first.says()["refused"] == OUT_OF_MEMORY
            second.hears()
            refused = second.says()
            assert refused["refused"] == OUT_OF_MEMORY
            got = (refused["allocated"] + refused["free"]) / MIB
            record.expect("memory: left to a second process", 0, got, 10, "MiB")
            never_more_than_the_limit(record, held, "two processes")


def test_the_memory_of_a_killed_process_is_free_at_the_next_allocation(
    record: Record, programs: Path, held: Held
) -> None:
    with started(*share_of(mem=LIMIT), *filling(programs, "cuMemAlloc")) as first:
        first.says()
        with started(*filling(programs, "cuMemAlloc"), beside=first) as second:
            contexts = LIMIT - second.says()["free"]
            first.hears()
            first.says()
            first.process.kill()
            first.process.wait()
            second.hears()
            missing = LIMIT - contexts // 2 - second.says()["allocated"]
            record.expect("memory: missing after kill -9", 0, missing / MIB, 10, "MiB")
            never_more_than_the_limit(record, held, "after kill -9")


@pytest.mark.parametrize("seed", range(2))
def test_after_each_random_step_no_more_is_held_than_is_charged(
    record: Record, programs: Path, held: Held, seed: int
) -> None:
    steps, most_over, most_under = 0, 0, 0
    command: Command = (programs / "memory_random", str(seed), "150", str(300 * MIB))
    with started(*share_of(mem=LIMIT), *command) as tenant, share_files(tenant) as files:
        for _ in tenant.says_until_it_ends():
            by_processes = held.by_processes()
            if by_processes is not None:
                charged = files.usage().held_bytes
                most_over = max(most_over, by_processes - LIMIT)
                most_under = max(most_under, by_processes - charged)
            steps += 1
            tenant.hears()
        assert tenant.process.wait() == 0
    assert steps >= 150
    record.expect(f"memory: over the limit, random {seed}", 0, most_over / MIB, 0, "MiB")
    record.measured(f"memory: held but not charged, random {seed}", most_under / MIB, "MiB")


def test_threads_at_the_limit_never_exceed_it(record: Record, programs: Path, held: Held) -> None:
    command: Command = (programs / "memory_threads", "4", "400", str(128 * MIB))
    with started(*share_of(mem=LIMIT), *command) as tenant, share_files(tenant) as files:
        tenant.says()
        tenant.hears()
        tenant.says(120)
        never_more_than_the_limit(record, held, "four threads")
        assert files.usage().held_bytes <= LIMIT
        tenant.hears()
        tenant.ends()


LOOK = """
import pynvml
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
print(memory.total, memory.used, memory.free, pynvml.nvmlDeviceGetCount())
"""


def test_nvml_speaks_of_the_share(record: Record) -> None:
    said = run(*share_of(mem=LIMIT), sys.executable, "-c", LOOK)
    total, used, free, count = map(int, said.split())
    record.expect("memory: NVML's total in a share", LIMIT / MIB, total / MIB, 0, "MiB")
    assert (used, free, count) == (0, LIMIT, 1)


def test_nvidia_smi_speaks_of_the_share(card: Card, record: Record) -> None:
    if card.simulated:
        pytest.skip("no NVIDIA driver, so no nvidia-smi")
    program = shutil.which("nvidia-smi") or "/usr/local/nvidia/bin/nvidia-smi"
    query = ("--query-gpu=memory.total,memory.used", "--format=csv,noheader,nounits")
    total, used = run(*share_of(mem=LIMIT), program, *query).split(",")
    record.expect("memory: nvidia-smi's total in a share", LIMIT / MIB, float(total), 0, "MiB")
    assert float(used) == 0


@pytest.mark.parametrize("module", ["cuda.bindings", "numba.cuda"])
def test_a_python_program_gets_what_is_called_free(record: Record, module: str) -> None:
    """numba is too large to bring along: it is there or it is not."""
    if module == "numba.cuda" and not find_spec("numba"):
        pytest.skip("numba-cuda is not installed")
    script = SCRIPTS / f"memory_{'numba' if 'numba' in module else 'bindings'}.py"
    command: Command = (*python_client(), script, "cuMemAlloc", str(128 * MIB))
    with started(*share_of(mem=LIMIT), *command) as tenant:
        ready = tenant.says()
        assert ready["total"] == LIMIT
        tenant.hears()
        full = tenant.says()
        assert full["refused"] == OUT_OF_MEMORY
        missing = ready["free"] - full["allocated"]
        record.expect(f"memory: free but not to be had, {module}", 0, missing / MIB, 2, "MiB")
        tenant.hears()
        left = ready["free"] - tenant.says()["free"]
        record.expect(f"memory: left after all is freed, {module}", 0, left / MIB, 2, "MiB")
        tenant.hears()
        tenant.ends()


@pytest.mark.parametrize("story", STORIES)
def test_the_account_survives(record: Record, held: Held, story: str) -> None:
    """What the stories assert themselves, and that no more is held than is charged."""
    most_under = 0
    command: Command = (*python_client(), SCRIPTS / "memory_stories.py", story)
    with started(*share_of(mem=LIMIT), *command) as tenant, share_files(tenant) as files:
        while tenant.line():
            if (by_processes := held.by_processes()) is not None:
                most_under = max(most_under, by_processes - files.usage().held_bytes)
            tenant.hears()
        tenant.ends()
    record.expect(f"memory: held but not charged, {story}", 0, most_under / MIB, 2, "MiB")
