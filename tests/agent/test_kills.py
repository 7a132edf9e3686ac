"""Tenants and agents are killed at random; afterwards nothing is held and nothing is left."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpuslice_agent.control.client import connect
from gpuslice_agent.run_directory import RunDirectory
from gpuslice_agent.simulation import SimNode

from .daemon import started
from .world import gpus_of

GPUSLICE = (sys.executable, "-m", "gpuslice_agent.cli")
SECONDS = float(os.environ.get("GPUSLICE_STRESS_SECONDS", "10"))
TENANT = """
import ctypes, random, time
cuda = ctypes.CDLL("libcuda.so.1")
context = ctypes.c_void_p()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
held = []
end = time.monotonic() + random.random()
while time.monotonic() < end:
    pointer = ctypes.c_void_p()
    size = ctypes.c_size_t(random.randrange(1, 64 << 20))
    if cuda.cuMemAlloc_v2(ctypes.byref(pointer), size) == 0:
        held.append(pointer)
    if len(held) > 20:
        assert cuda.cuMemFree_v2(held.pop(random.randrange(len(held)))) == 0
"""
# The program's end, its death, and the refusal where the agent was killed as it started.
KILLED = {0, -signal.SIGKILL, 1}


def test_random_kills_leave_no_share_no_file_and_no_byte(node: SimNode) -> None:
    environment = node.environment(os.environ)
    command = [
        *GPUSLICE,
        "run",
        "--cores",
        "20",
        "--mem",
        "2GiB",
        "--",
        sys.executable,
        "-c",
        TENANT,
    ]
    tenants: list[subprocess.Popen[bytes]] = []
    kills = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if len([one for one in tenants if one.poll() is None]) < 4:
            tenants.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
        time.sleep(random.random() * 0.3)
        if random.random() < 0.2:
            random.choice(tenants).kill()
        elif random.random() < 0.2:
            kills += kill_agent(node.run_directory)
    assert {tenant.wait() for tenant in tenants} <= KILLED
    assert kills
    kill_agent(node.run_directory)
    with started(environment, node.run_directory.path) as daemon, daemon.client() as client:
        snapshot = client.list()
    assert snapshot.shares == ()
    assert [gpu.reading.memory_used_bytes for gpu in snapshot.gpus] == [0] * len(gpus_of(node))
    assert os.listdir(node.run_directory.shares) == []


def kill_agent(directory: RunDirectory) -> bool:
    """Whether there was one: its pid may be another's by now."""
    try:
        pid = int(directory.lock.read_text().split()[1])
        process = os.pidfd_open(pid)
    except (OSError, IndexError):
        return False
    try:
        if str(directory.path) not in Path(f"/proc/{pid}/cmdline").read_text():
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(process)
    return True


def test_a_killed_agent_leaves_nothing_that_keeps_the_next_from_starting(node: SimNode) -> None:
    environment = node.environment(os.environ)
    for _ in range(3):
        with started(environment, node.run_directory.path) as daemon:
            daemon.kill()
    with (
        started(environment, node.run_directory.path),
        connect(node.run_directory) as client,
    ):
        assert client.list().gpus
