"""What is run behaves as if it were called directly, but for its share."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpuslice_agent import native_files

from .conftest import GPUSLICE, Cli

SHARE = ("run", "--cores", "30", "--mem", "1GiB", "--")

PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
LOOK = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
assert cuda.cuInit(0) == 0
count = ctypes.c_int()
cuda.cuDeviceGetCount(ctypes.byref(count))
total = ctypes.c_size_t()
for device in range(count.value):
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    print(total.value)
"""


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_the_exit_status_is_the_programs(on_node: Cli, status: int) -> None:
    assert on_node(*SHARE, "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE])
def test_death_by_a_signal_is_death_by_that_signal(on_node: Cli, number: signal.Signals) -> None:
    assert on_node(*SHARE, "sh", "-c", f"kill -{int(number)} $$").returncode == -number


def test_a_shell_sees_128_plus_the_signal(on_node: Cli) -> None:
    script = (
        f"{sys.executable} -m gpuslice_agent.cli {' '.join(SHARE)} sh -c 'kill -TERM $$'; echo $?"
    )
    done = subprocess.run(
        ["sh", "-c", script], env=on_node.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "143\n"


@pytest.mark.parametrize(
    "name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "TSTP", "CONT"]
)
def test_a_signal_sent_to_run_reaches_the_program_once(on_node: Cli, name: str) -> None:
    script = f"trap 'echo got {name}' {name}; echo ready; read line; read line; echo $line"
    with on_node.start(*SHARE, "bash", "-c", script) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.Signals[f"SIG{name}"])
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"got {name}\n"
        rest, _ = process.communicate("\nend\n")
    assert f"got {name}" not in rest
    assert process.returncode == 0


def test_a_stopped_program_shows_as_stopped_to_its_shell(on_node: Cli) -> None:
    with on_node.start(*SHARE, "sh", "-c", "kill -STOP $$; exit 7") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        process.communicate()
    assert process.returncode == 7


def test_nothing_of_its_own_is_printed_unless_asked(on_node: Cli) -> None:
    quiet = on_node(*SHARE, "true")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    loud = on_node("run", "-v", *SHARE[1:], "true")
    assert loud.stdout == ""
    assert loud.stderr.startswith("gpuslice: Share ")


def test_the_program_finds_no_child_that_it_did_not_make(on_node: Cli) -> None:
    done = on_node(*SHARE, "sh", "-c", "read line < /proc/$$/task/$$/children; echo $line")
    assert done.stdout == "\n"


def test_files_that_only_run_used_are_closed(on_node: Cli) -> None:
    done = on_node(*SHARE, sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))")
    assert done.stdout == "['0', '1', '2', '3']\n"  # 3 is the listing's own


def test_a_writer_into_a_closed_pipe_ends_quietly(on_node: Cli) -> None:
    done = on_node(*SHARE, "bash", "-c", "yes | head -1; echo ${PIPESTATUS[0]}")
    assert done.stdout == "y\n141\n"


def test_a_script_without_an_interpreter_line_is_the_shells(on_node: Cli, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo $1\n")
    script.chmod(0o755)
    assert on_node(*SHARE, str(script), "word").stdout == "word\n"


def test_the_shim_comes_last_behind_what_is_preloaded_already(on_node: Cli) -> None:
    libc = "libc.so.6"
    on_node.environment["LD_PRELOAD"] = f"{libc} {native_files.shim()}"
    done = on_node(*SHARE, sys.executable, "-c", PRINT_ENVIRONMENT)
    assert json.loads(done.stdout)["LD_PRELOAD"] == f"{libc}:{native_files.shim()}"


def test_the_program_and_its_children_see_the_share(on_node: Cli) -> None:
    inside = on_node(*SHARE, sys.executable, "-c", LOOK)
    assert (inside.stdout, inside.stderr) == (f"{2**30}\n", "")
    child = on_node(*SHARE, "sh", "-c", f"{sys.executable} -c '{LOOK}'; true")
    assert child.stdout == f"{2**30}\n"


def test_a_run_inside_a_run_has_a_share_of_its_own(on_node: Cli) -> None:
    inner = (*GPUSLICE, "run", "--mem", "2GiB", "--", sys.executable, "-c", LOOK)
    done = on_node(*SHARE, *inner)
    assert (done.stdout, done.stderr) == (f"{2 * 2**30}\n", "")


def test_several_gpus_are_several_shares_of_that_size(on_node: Cli) -> None:
    done = on_node("run", "--mem", "1GiB", "--gpu", "1,0", "--", sys.executable, "-c", LOOK)
    assert done.stdout == f"{2**30}\n{2**30}\n"


def test_without_mem_the_share_of_memory_is_that_of_the_cores(on_node: Cli) -> None:
    gpu = json.loads(on_node("status", "--json").stdout)["gpus"][0]
    done = on_node("run", "--cores", "50", "--", sys.executable, "-c", LOOK)
    assert int(done.stdout) == pytest.approx(gpu["memory_bytes"] / 2, abs=2**21)


def test_more_than_the_card_has_is_refused_with_one_sentence(on_node: Cli) -> None:
    done = on_node("run", "--mem", "1000GiB", "--", "true")
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("gpuslice: ") and done.stderr.count("\n") == 1


def test_an_unknown_gpu_is_a_wrong_call(on_node: Cli) -> None:
    done = on_node("run", "--cores", "10", "--gpu", "7", "--", "true")
    assert done.returncode == 2
    assert done.stderr.startswith("gpuslice: ") and "7" in done.stderr


def test_no_gpu_at_all_is_one_sentence(bare: Cli, tmp_path: Path) -> None:
    bare.environment["LD_LIBRARY_PATH"] = str(tmp_path)
    done = bare("run", "--cores", "10", "--", "true")
    assert done.returncode == 1
    assert done.stderr.startswith("gpuslice: ") and done.stderr.count("\n") == 1


def test_the_private_agent_ends_with_the_last_share(on_node: Cli) -> None:
    done = on_node(*SHARE, "sh", "-c", "cat $GPUSLICE_RUN_DIR/agent.lock")
    kind, pid = done.stdout.split()
    assert kind == "private"
    agent = os.pidfd_open(int(pid))
    try:
        assert select.select([agent], [], [], 60)[0]
    finally:
        os.close(agent)


def test_many_at_once_on_a_fresh_host_share_one_agent(on_node: Cli) -> None:
    show = ("sh", "-c", "cat $GPUSLICE_RUN_DIR/agent.lock")
    started = [on_node.start("run", "--cores", "5", "--", *show) for _ in range(6)]
    said = {process.communicate()[0] for process in started}
    assert len(said) == 1
    assert all(process.returncode == 0 for process in started)
