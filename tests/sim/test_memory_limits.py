"""The kernel's wall on the simulated node, set through NVML: pynvml's own binding of the call."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pynvml  # pyright: ignore[reportMissingTypeStubs]
import pytest

from gpuslice_agent import simulation
from gpuslice_agent.simulation import SimNode

from .nvml_node import look
from .share_on_node import MIB, Share

GIB = 1 << 30
MOUNTS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))

# Says, as JSON, what became of each call: an error's number, or what was found.
ASK = """
import ctypes, json, sys
import pynvml as nvml
nvml.nvmlInit()
gpu = nvml.nvmlDeviceGetHandleByIndex(0)
found = []
for name, soft, hard in json.loads(sys.argv[1]):
    path = name.encode() if name else None
    try:
        if hard is None:
            limits = nvml.c_nvmlGetMemoryLimits_v1_t(path)
            nvml.nvmlDeviceGetMemoryLimits_v1(gpu, limits)
            found.append([limits.softLimit, limits.hardLimit, limits.currentUsed])
        else:
            limits = nvml.c_nvmlSetMemoryLimits_v1_t(path, soft, hard)
            nvml.nvmlDeviceSetMemoryLimits_v1(gpu, limits)
            found.append(0)
    except nvml.NVMLError as error:
        found.append(error.value)
print(json.dumps(found))
"""

# Takes memory in pieces until there is none; prints the sum with the context's own.
FILL = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_void_p()
assert cuda.cuInit(0) == 0
status = cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
if status:
    print(-status)
    sys.exit()
cuda.cuCtxSetCurrent(context)
total, piece = 0, 1 << 30
while piece >= 2 << 20:
    status = cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(piece))
    if status == 0:
        total += piece
    else:
        assert status == 2, status
        piece //= 2
print(total)
"""

MAX = (1 << 64) - 1
INVALID, UNSUPPORTED, NO_PERMISSION, NOT_FOUND, OPERATING_SYSTEM = 2, 3, 4, 6, 17
OUT_OF_MEMORY = 2


@pytest.fixture
def cgroup() -> Iterator[Path]:
    mount = next((one for one in MOUNTS if (one / "cgroup.procs").exists()), None)
    if mount is None or os.geteuid() != 0 or not os.access(mount, os.W_OK):
        pytest.skip("no cgroup can be made here")
    made = mount / f"gpuslice-test-{os.getpid()}"
    made.mkdir()
    try:
        yield made
    finally:
        with suppress(FileNotFoundError):
            made.rmdir()


def ask(
    node: SimNode, *calls: tuple[Path | str, int, int | None], prefix: tuple[str, ...] = ()
) -> Any:
    return look(
        node,
        ASK,
        json.dumps([(str(path), soft, hard) for path, soft, hard in calls]),
        prefix=prefix,
    )


def fill(node: SimNode, cgroup: Path, environment: dict[str, str] | None = None) -> int:
    """What a program in this cgroup gets of GPU 0."""
    script = f'echo $$ > {cgroup}/cgroup.procs; exec "$0" -c "$1"'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, FILL],
        env=environment or node.environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_limits_are_set_and_read_back(node: SimNode, cgroup: Path) -> None:
    assert ask(node, (cgroup, 0, None), (cgroup, GIB, 4 * GIB), (cgroup, 0, None)) == [
        NOT_FOUND,
        0,
        [GIB, 4 * GIB, 0],
    ]


def test_what_cannot_be_a_limit_is_refused(node: SimNode, cgroup: Path) -> None:
    assert ask(
        node,
        (cgroup, 5 * GIB, 4 * GIB),
        (cgroup, 0, 1 << 50),
        ("", 0, GIB),
        (cgroup / "none", 0, GIB),
        ("/proc", 0, GIB),
        ("/proc", 0, None),
    ) == [INVALID, INVALID, INVALID, OPERATING_SYSTEM, OPERATING_SYSTEM, OPERATING_SYSTEM]


def test_only_an_administrator_sets_limits(node: SimNode, cgroup: Path) -> None:
    prefixes = [
        ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"),
        ("unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro "$0" && exec "$@"'),
    ]
    (without_right,) = ask(node, (cgroup, 0, GIB), prefix=prefixes[0])
    assert without_right == NO_PERMISSION
    of_a_container = (*prefixes[1], str(cgroup.parent))
    assert ask(node, (cgroup, 0, GIB), prefix=of_a_container) == [NO_PERMISSION]


def test_a_driver_before_r615_has_no_wall(cgroup: Path) -> None:
    with simulation.temporary("2xa100-80g", None, "580.95.05") as node:
        assert ask(node, (cgroup, 0, GIB), (cgroup, 0, None)) == [UNSUPPORTED, UNSUPPORTED]


def test_a_program_gets_no_more_than_its_cgroup_has(node: SimNode, cgroup: Path) -> None:
    free = fill(node, cgroup)
    assert ask(node, (cgroup, 0, 4 * GIB)) == [0]
    held = fill(node, cgroup)
    assert 3 * GIB < held < 4 * GIB < free
    assert held == 4 * GIB - overhead(node)


def overhead(node: SimNode) -> int:
    program = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
free, total, context = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
cuda.cuInit(0)
cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
cuda.cuCtxSetCurrent(context)
cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
print(json.dumps(total.value - free.value))
"""
    return int(look(node, program))


def test_a_limit_below_a_context_refuses_the_context(node: SimNode, cgroup: Path) -> None:
    assert ask(node, (cgroup, 0, overhead(node) - 2 * MIB)) == [0]
    assert fill(node, cgroup) == -OUT_OF_MEMORY


def test_a_cleared_limit_is_none(node: SimNode, cgroup: Path) -> None:
    assert ask(node, (cgroup, 0, GIB), (cgroup, 0, MAX), (cgroup, 0, None)) == [0, 0, NOT_FOUND]
    assert fill(node, cgroup) > 4 * GIB


def test_what_a_running_program_holds_counts_from_the_first_moment(
    node: SimNode, cgroup: Path
) -> None:
    holder = f'echo $$ > {cgroup}/cgroup.procs; exec "$0" -c "$1"'
    program = FILL.replace("print(total)", "print(total, flush=True); sys.stdin.read()")
    environment, context = node.environment(os.environ), overhead(node)
    for prefix in ((), ("unshare", "--pid", "--fork", "--mount-proc")):
        with subprocess.Popen(
            [*prefix, "sh", "-c", holder, sys.executable, program],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            held = int(process.stdout.readline())
            (_, (_, _, used)) = ask(node, (cgroup, 0, GIB), (cgroup, 0, None))
            assert used == held + context
            process.communicate()
        ask(node, (cgroup, 0, MAX))


def test_behind_the_shim_the_wall_refuses_nothing_that_the_share_allows(
    node: SimNode, cgroup: Path, tmp_path: Path
) -> None:
    share = Share(node, tmp_path, 4 * GIB)
    alone = fill(node, cgroup, share.environment())
    assert ask(node, (cgroup, 0, share.memory_bytes)) == [0]
    assert fill(node, cgroup, share.environment()) == alone == 4 * GIB - overhead(node)
    share.close()


def test_the_binding_has_the_structs_of_the_header() -> None:
    assert ctypes.sizeof(pynvml.c_nvmlSetMemoryLimits_v1_t) == 24
    assert ctypes.sizeof(pynvml.c_nvmlGetMemoryLimits_v1_t) == 32
