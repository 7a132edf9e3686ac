"""`gpuslice sim` puts a node around a program; afterwards nothing of it is left."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from .conftest import Cli

COUNT = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
assert cuda.cuInit(0) == 0
count = ctypes.c_int()
cuda.cuDeviceGetCount(ctypes.byref(count))
print(count.value)
"""


def wait_until_gone(path: Path) -> None:
    """Nodes and agents end just after their program, not before `sim` returns."""
    deadline = time.monotonic() + 60
    while path.exists():
        assert time.monotonic() < deadline, f"{path} is still there"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("profile", "gpus"), [("t4", 1), ("2xa100-80g", 2), ("dgx-h100", 8), ("h200", 1)]
)
def test_a_profile_has_its_gpus(bare: Cli, profile: str, gpus: int) -> None:
    assert (
        bare("sim", "--profile", profile, "--", sys.executable, "-c", COUNT).stdout == f"{gpus}\n"
    )


def test_the_number_of_gpus_can_be_set(bare: Cli) -> None:
    done = bare("sim", "--profile", "h200", "--gpus", "3", "--", sys.executable, "-c", COUNT)
    assert done.stdout == "3\n"


def test_the_profiles_are_listed(bare: Cli) -> None:
    done = bare("sim", "--list")
    assert done.returncode == 0
    for profile in ("t4", "2xa100-80g", "dgx-h100", "h200"):
        assert profile in done.stdout


def test_an_unknown_profile_is_one_sentence(bare: Cli) -> None:
    done = bare("sim", "--profile", "gtx-9000", "--", "true")
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("gpuslice: ") and "gtx-9000" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("status", [0, 3])
def test_the_exit_status_is_the_programs(bare: Cli, status: int) -> None:
    done = bare("sim", "--profile", "t4", "--", "sh", "-c", f"exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_node_is_removed_however_its_program_ends(bare: Cli, number: signal.Signals) -> None:
    with bare.start(
        "sim", "--profile", "t4", "--", "sh", "-c", "echo $GPUSLICE_SIM_NODE; read x"
    ) as process:
        assert process.stdout is not None
        node = Path(process.stdout.readline().strip())
        assert node.is_dir()
        process.send_signal(number)
        process.communicate()
    assert process.returncode == -number
    wait_until_gone(node)


def test_a_node_that_is_not_used_because_there_is_no_program_leaves_nothing(
    bare: Cli, tmp_path: Path
) -> None:
    bare.environment["TMPDIR"] = str(tmp_path)
    assert bare("sim", "--profile", "t4", "--", "no-such-program").returncode == 127
    assert list(tmp_path.iterdir()) == []


def test_run_nests_in_sim(bare: Cli) -> None:
    look = (
        "import ctypes; cuda = ctypes.CDLL('libcuda.so.1'); cuda.cuInit(0);"
        "total = ctypes.c_size_t(); cuda.cuDeviceTotalMem_v2(ctypes.byref(total), 0);"
        "print(total.value)"
    )
    done = bare(
        "sim", "--profile", "h200", "--", sys.executable, "-m", "gpuslice_agent.cli",
        "run", "--cores", "30", "--mem", "8GiB", "--", sys.executable, "-c", look,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{8 * 2**30}\n", "")


def test_the_nodes_agent_ends_with_the_node(bare: Cli) -> None:
    script = (
        f"{sys.executable} -m gpuslice_agent.cli run --cores 30 -- "
        "sh -c 'echo $GPUSLICE_SIM_NODE; cat $GPUSLICE_RUN_DIR/agent.lock'"
    )
    done = bare("sim", "--profile", "t4", "--", "sh", "-c", script)
    node, agent = done.stdout.splitlines()
    wait_until_gone(Path(node))
    wait_until_gone(Path("/proc", agent.split()[1]))


def test_nothing_outside_finds_the_node(bare: Cli) -> None:
    done = bare("sim", "--profile", "t4", "--", "env")
    inside = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert inside["GPUSLICE_RUN_DIR"] == f"{inside['GPUSLICE_SIM_NODE']}/run"
    assert inside["GPUSLICE_RUN_DIR"] != bare.environment["GPUSLICE_RUN_DIR"]


def test_two_nodes_at_once_are_strangers(bare: Cli) -> None:
    script = "echo $GPUSLICE_SIM_NODE; read x"
    with (
        bare.start("sim", "--profile", "t4", "--", "sh", "-c", script) as one,
        bare.start("sim", "--profile", "t4", "--", "sh", "-c", script) as other,
    ):
        assert one.stdout is not None and other.stdout is not None
        assert one.stdout.readline() != other.stdout.readline()
        one.communicate("\n")
        other.communicate("\n")


def test_a_share_of_outside_means_nothing_inside(bare: Cli) -> None:
    bare.environment["GPUSLICE_SHARES"] = "/nonexistent"
    done = bare("sim", "--profile", "t4", "--", sys.executable, "-c", COUNT)
    assert done.stdout == "1\n"


def test_status_works_on_a_fresh_node(bare: Cli) -> None:
    done = bare(
        "sim", "--profile", "dgx-h100", "--", sys.executable, "-m", "gpuslice_agent.cli",
        "status", "--json",
    )  # fmt: skip
    assert len(json.loads(done.stdout)["gpus"]) == 8
    assert os.environ.get("GPUSLICE_SIM_NODE") is None
