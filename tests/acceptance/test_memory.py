"""The memory limit, as a user meets it: `gpuslice sim … gpuslice run --mem 1GiB -- PROGRAM`.

The truth is what the simulated node counts as physical memory of the program's processes.
"""

import json
import signal
import sys
from pathlib import Path

import pytest

from gpuslice_agent.model import Snapshot

from ..sim.c_programs import build, build_by_lookup
from ..sim.share_on_node import BLOCK, GROWN, GROWTH, MIB
from .node import Node, Run

SCRIPTS = Path(__file__).parents[1] / "sim" / "scripts"
GIB = 2**30
OUT_OF_MEMORY = 2
NO_DEVICE = 100
PIECE = 64 * MIB
DIRECT, LOOKUP, BINDINGS, NUMBA = "direct", "lookup", "memory_bindings.py", "memory_numba.py"
KINDS = (
    "cuMemAlloc",
    "cuMemAllocPitch",
    "cuMemAllocManaged",
    "cuMemAllocAsync",
    "cuMemAllocFromPoolAsync",
    "cuMemCreate",
    "cuGraphAddMemAllocNode",
    "cuArrayCreate",
    "cuArray3DCreate",
    "cuMipmappedArrayCreate",
)
# Their padding is nobody's data: what of them is allocated shows only in what is held.
PADDED = KINDS[7:]
# Shared and captured memory is legal to free in ways that only these programs know.
FREED_IN_MANY_WAYS = ("cuMemMap", "cuMemExportToShareableHandle", "cuStreamBeginCapture")
# An explicit pool keeps all it ever had.
KEPT = "cuMemAllocFromPoolAsync"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    sources = ("memory_paths.c", "memory_kinds.c")
    build(folder / DIRECT, *sources, flags=("-lcuda",))
    build_by_lookup(folder / LOOKUP, *sources)
    return folder


def filler(node: Node, programs: Path, program: str, kind: str) -> Run:
    if program.endswith(".py"):
        return node.run_python("--mem 1GiB", SCRIPTS / program, kind, str(PIECE))
    return node.run("--mem 1GiB", programs / program, kind, str(PIECE))


@pytest.mark.parametrize(
    ("program", "kind"),
    [(program, kind) for program in (DIRECT, LOOKUP) for kind in (*KINDS, *FREED_IN_MANY_WAYS)]
    + [(BINDINGS, kind) for kind in KINDS]
    + [(NUMBA, kind) for kind in ("cuMemAlloc", "cuMemAllocManaged")],
)
def test_a_program_gets_what_is_called_free_and_not_a_byte_more(
    node: Node, programs: Path, program: str, kind: str
) -> None:
    run = filler(node, programs, program, kind)
    ready = run.says()
    context_bytes = run.held()
    assert (ready["free"], ready["total"]) == (GIB - context_bytes, GIB)

    run.goes_on()
    full = run.says()
    assert full["refused"] == OUT_OF_MEMORY
    least = GROWTH if kind in GROWN else BLOCK
    assert GIB - least < run.held() <= GIB
    assert run.charged() == run.held()
    if kind not in PADDED:
        assert ready["free"] - least <= full["allocated"] <= ready["free"]

    run.goes_on()
    empty = run.says()
    assert run.charged() == run.held()
    assert empty["free"] == GIB - run.held()
    if kind != KEPT:
        assert run.held() == context_bytes
    run.goes_on()
    run.ends()
    assert run.held() == 0


def test_two_processes_of_one_share_are_refused_together(node: Node, programs: Path) -> None:
    first = filler(node, programs, DIRECT, "cuMemAlloc")
    first.says()
    second = first.join(programs / LOOKUP, "cuMemAllocAsync", str(PIECE))
    second.says()
    first.goes_on()
    assert first.says()["refused"] == OUT_OF_MEMORY
    second.goes_on()
    refused = second.says()
    assert (refused["refused"], refused["allocated"], refused["free"]) == (OUT_OF_MEMORY, 0, 0)
    assert first.held() == first.charged() == GIB


def test_after_kill_9_the_next_allocation_finds_the_memory_free(node: Node, programs: Path) -> None:
    survivor = filler(node, programs, DIRECT, "cuMemAlloc")
    survivor.says()
    killed = survivor.join(programs / DIRECT, "cuMemCreate", str(PIECE))
    killed.says()
    killed.goes_on()
    assert killed.says()["refused"] == OUT_OF_MEMORY
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    survivor.goes_on()
    full = survivor.says()
    assert full["allocated"] > 0
    assert survivor.held() == survivor.charged() == GIB


def uuids(snapshot: Snapshot) -> list[str]:
    return [gpu.uuid for gpu in snapshot.gpus]


SEEN = """
import json, sys
from cuda.bindings import driver
import gpustat, nvitop, pynvml
def ok(result):
    assert result[0] == 0, result
    return result[1]
ok((*driver.cuInit(0), None))
devices = [ok(driver.cuDeviceGet(i)) for i in range(ok(driver.cuDeviceGetCount()))]
pynvml.nvmlInit()
handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
print(json.dumps({
    "cuda": [bytes(ok(driver.cuDeviceGetUuid(device)).bytes).hex() for device in devices],
    "cuda_total": [ok(driver.cuDeviceTotalMem(device)) for device in devices],
    "nvml": [pynvml.nvmlDeviceGetUUID(handle) for handle in handles],
    "nvml_total": [pynvml.nvmlDeviceGetMemoryInfo(handle).total for handle in handles],
    "nvitop_total": [device.memory_total() for device in nvitop.Device.all()],
    "gpustat_mib": [gpu.memory_total for gpu in gpustat.new_query().gpus],
}))
"""


def seen(node: Node, options: str, *prefix: str) -> dict[str, list[str | int]]:
    done = node.gpuslice("run", *options.split(), "--", *prefix, sys.executable, "-c", SEEN)
    assert done.returncode == 0, done.stderr
    result: dict[str, list[str | int]] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    ("asked", "given"), [("0,1", [0, 1]), ("1,0", [1, 0]), ("1", [1]), ("0", [0])]
)
def test_the_gpus_of_the_shares_are_seen_in_the_order_given_and_no_other(
    node: Node, asked: str, given: list[int]
) -> None:
    said = seen(node, f"--mem 1GiB --gpu {asked}")
    wanted = [uuids(node.snapshot())[index] for index in given]
    assert said["nvml"] == wanted
    assert said["cuda"] == [uuid.removeprefix("GPU-").replace("-", "") for uuid in wanted]
    for total in ("cuda_total", "nvml_total", "nvitop_total"):
        assert said[total] == [GIB] * len(given)
    assert said["gpustat_mib"] == [1024] * len(given)


@pytest.mark.parametrize(("visible", "left"), [("1", [0]), ("1,0", [0, 1]), ("0", [1])])
def test_cuda_visible_devices_chooses_among_the_shares(
    node: Node, visible: str, left: list[int]
) -> None:
    """It counts as the program sees them: the shares were given in the order 1, 0."""
    said = seen(node, "--mem 1GiB --gpu 1,0", "env", f"CUDA_VISIBLE_DEVICES={visible}")
    plain = [uuid.removeprefix("GPU-").replace("-", "") for uuid in uuids(node.snapshot())]
    assert said["cuda"] == [plain[index] for index in left]
    assert len(said["nvml"]) == 2


def test_cuda_visible_devices_may_leave_none(node: Node) -> None:
    script = "from cuda.bindings import driver; print(int(driver.cuInit(0)[0]))"
    options = "run --mem 1GiB -- env CUDA_VISIBLE_DEVICES="
    done = node.gpuslice(*options.split(), sys.executable, "-c", script)
    assert (done.stdout, done.stderr) == (f"{NO_DEVICE}\n", "")
