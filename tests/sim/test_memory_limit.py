"""The memory limit, in every way that device memory can be taken: exact, and never exceeded.

The truth is what the simulated node counts as physical memory of the share's processes.
"""

import json
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from gpuslice_agent import simulation

from .c_programs import build
from .share_on_node import BLOCK, GROWN, GROWTH, MIB, Share, Tenant

HERE = Path(__file__).parent
LIMIT = 1024 * MIB
OUT_OF_MEMORY = 2

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
# Of those that take less than a block for less than a block.
SUBDIVIDED = KINDS[:8]


def blocks(size: int) -> int:
    return (size + BLOCK - 1) // BLOCK * BLOCK


@pytest.fixture
def share(node: simulation.SimNode, tmp_path: Path) -> Iterator[Share]:
    share = Share(node, tmp_path, LIMIT, gpu=1)
    yield share
    share.close()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name in ("memory_paths", "memory_random", "memory_threads"):
        build(folder / name, f"{name}.c", "memory_kinds.c", flags=("-lcuda",))
    return folder


def fills_up(share: Share, programs: Path, kind: str, piece_bytes: int) -> Tenant:
    """A tenant that has a context and goes on to take all there is."""
    tenant = share.start(programs / "memory_paths", kind, str(piece_bytes))
    assert tenant.says()["when"] == "ready"
    return tenant


def test_every_kind_has_a_test(programs: Path, share: Share) -> None:
    named = subprocess.run(
        [programs / "memory_paths", "kinds"],
        env=share.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert tuple(named.stdout.split()) == KINDS


@pytest.mark.parametrize(
    ("kind", "piece_bytes"),
    [(kind, size) for kind in KINDS for size in (3 * MIB + 4096, 64 * MIB)]
    + [(kind, 64 * 1024) for kind in SUBDIVIDED],
)
def test_what_is_called_free_can_be_allocated_and_not_a_byte_more(
    share: Share, programs: Path, kind: str, piece_bytes: int
) -> None:
    tenant = share.start(programs / "memory_paths", kind, str(piece_bytes))
    ready = tenant.says()
    context_bytes = share.held()
    assert context_bytes > 0
    assert (ready["free"], ready["total"]) == (LIMIT - context_bytes, LIMIT)
    assert share.charged() == context_bytes

    tenant.goes_on()
    full = tenant.says()
    assert full["refused"] == OUT_OF_MEMORY
    least = GROWTH if kind in GROWN else blocks(piece_bytes) if piece_bytes < 4 * MIB else BLOCK
    assert LIMIT - least < share.held() <= LIMIT
    assert share.charged() == share.held()
    assert full["free"] == LIMIT - share.held()

    tenant.goes_on()
    empty = tenant.says()
    assert share.charged() == share.held()
    assert empty["free"] == LIMIT - share.held()
    if kind != "cuMemAllocFromPoolAsync":  # that pool keeps all it ever had
        assert share.held() == context_bytes
    tenant.goes_on()
    tenant.ends()
    assert share.charged() == 0


def test_a_limit_below_what_a_context_needs_refuses_the_context(
    node: simulation.SimNode, tmp_path: Path, programs: Path
) -> None:
    share = Share(node, tmp_path, 100 * MIB)
    tenant = share.start(programs / "memory_paths", "cuMemAlloc", str(MIB))
    assert tenant.says() == {"when": "context", "refused": OUT_OF_MEMORY}
    tenant.ends()
    assert (share.charged(), share.held()) == (0, 0)
    share.close()


def test_a_known_context_that_does_not_fit_is_never_made(
    node: simulation.SimNode, tmp_path: Path, programs: Path
) -> None:
    share = Share(node, tmp_path, 100 * MIB, overhead_bytes=101 * MIB)
    tenant = share.start(programs / "memory_paths", "cuMemAlloc", str(MIB))
    assert tenant.says() == {"when": "context", "refused": OUT_OF_MEMORY}
    tenant.ends()
    share.close()


def test_two_processes_are_refused_together(share: Share, programs: Path) -> None:
    first = fills_up(share, programs, "cuMemAlloc", 8 * MIB)
    second = fills_up(share, programs, "cuMemAllocAsync", 8 * MIB)
    first.goes_on()
    assert first.says()["refused"] == OUT_OF_MEMORY
    second.goes_on()
    refused = second.says()
    assert (refused["refused"], refused["allocated"], refused["free"]) == (OUT_OF_MEMORY, 0, 0)
    assert share.held() == share.charged() == LIMIT
    for tenant in (first, second):
        tenant.goes_on()
        tenant.says()
        tenant.goes_on()
        tenant.ends()


def test_the_memory_of_a_killed_process_is_free_at_the_next_allocation(
    share: Share, programs: Path
) -> None:
    first = fills_up(share, programs, "cuMemAlloc", 8 * MIB)
    second = fills_up(share, programs, "cuMemAlloc", 8 * MIB)
    first.goes_on()
    first.says()
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    second.goes_on()
    context_bytes = (LIMIT - second.says()["allocated"]) // BLOCK * BLOCK
    assert share.held() == share.charged() == LIMIT
    second.goes_on()
    second.says()
    assert share.held() == context_bytes
    second.goes_on()
    second.ends()


@pytest.mark.parametrize("seed", range(8))
def test_after_each_random_step_the_charge_is_what_the_node_holds(
    share: Share, programs: Path, seed: int
) -> None:
    tenant = share.start(programs / "memory_random", str(seed), "150", str(300 * MIB))
    assert tenant.process.stdout
    while line := tenant.process.stdout.readline():
        assert share.charged() == share.held(), line
        assert share.held() <= LIMIT, line
        tenant.goes_on()
    tenant.ends()


# Not exports in two processes: who holds one after its exporter is told from what others take
# at that moment, and then it may stay charged.
@pytest.mark.parametrize(
    ("processes", "kinds"), [(1, KINDS), (2, tuple(k for k in KINDS if "Export" not in k))]
)
def test_many_threads_never_exceed_the_limit(
    share: Share, programs: Path, processes: int, kinds: tuple[str, ...]
) -> None:
    program = programs / "memory_threads"
    tenants = [share.start(program, "4", "600", str(128 * MIB), *kinds) for _ in range(processes)]
    for tenant in tenants:
        tenant.says()
    for tenant in tenants:
        tenant.goes_on()
    pending: list[IO[str]] = [tenant.process.stdout for tenant in tenants if tenant.process.stdout]
    while pending:
        assert share.held() <= LIMIT
        done, _, _ = select.select(pending, [], [], 0.005)
        pending = [stream for stream in pending if stream not in done]
    for tenant in tenants:
        tenant.says()
    assert share.charged() == share.held()
    for tenant in tenants:
        tenant.goes_on()
        tenant.ends()


def test_an_import_is_charged_to_its_exporter(share: Share) -> None:
    script = HERE / "scripts" / "memory_shared.py"
    exporter = share.start_python(script, "exporter")
    handle = exporter.says()["handle"]
    importer = share.start_python(script, "importer", handle)
    importer.says()
    assert share.charged() == share.held()
    importer.goes_on()
    importer.says()
    assert share.charged() == share.held()
    exporter.goes_on()
    exporter.says()
    assert share.charged() == share.held()
    for tenant in (exporter, importer):
        tenant.goes_on()
        tenant.ends()


def test_what_an_importer_still_holds_is_not_given_back_to_its_exporter(share: Share) -> None:
    script = HERE / "scripts" / "memory_shared.py"
    exporter = share.start_python(script, "exporter")
    importer = share.start_python(script, "importer", exporter.says()["handle"])
    importer.says()
    before = share.held()
    exporter.goes_on()
    exporter.says()
    assert share.charged() == share.held() == before
    importer.goes_on()
    importer.says()
    assert share.held() == before - 100 * MIB
    assert share.charged() >= share.held()
    for tenant in (importer, exporter):
        tenant.goes_on()
        tenant.ends()


def test_pinned_host_memory_is_shown_and_not_charged(share: Share) -> None:
    tenant = share.start_python(HERE / "scripts" / "memory_pinned.py")
    assert tenant.process.stdout
    seen: list[int] = []
    while line := tenant.process.stdout.readline():
        seen.append(json.loads(line)["pinned"])
        assert share.pinned() == seen[-1], seen
        assert share.charged() == share.held()
        tenant.goes_on()
    tenant.ends()
    assert max(seen) > 6 * MIB
    assert seen[-1] == 0


@pytest.mark.parametrize(
    "story",
    [
        "destroyed_context",
        "reset_primary_context",
        "second_context",
        "destroyed_pool",
        "released_while_mapped",
        "pool_makes_room",
        "free_in_stream_order",
        "queued_frees_of_what_is_destroyed",
        "exported_neighbours_unmapped_at_once",
        "nothing_named",
        "module",
        "code_loaded_at_the_first_launch",
        "code_of_a_library_loaded_at_the_first_launch",
        "code_loaded_for_a_graph",
        "host_memory",
        "other_gpu",
    ],
)
def test_the_account_survives(share: Share, story: str) -> None:
    tenant = share.start_python(HERE / "scripts" / "memory_stories.py", story)
    assert tenant.process.stdout
    looks = 0
    while line := tenant.process.stdout.readline():
        assert share.charged() == share.held(), line
        assert share.held() <= LIMIT, line
        looks += 1
        tenant.goes_on()
    tenant.ends()
    assert looks > 0
