"""The kernel log of a simulated node, as the agent reads it."""

import errno
import os
import select
import subprocess
from pathlib import Path

import pytest

from gpuslice_agent import native_files, simulation
from gpuslice_agent.simulated_kmsg import SimulatedKmsg
from gpuslice_agent.simulation import SimNode


def say(node: SimNode, text: str) -> None:
    program = native_files.sim_node_program()
    subprocess.run([program, "inject", str(node.path), "line", text], check=True)


def test_a_node_names_its_log_which_begins_with_the_driver() -> None:
    with simulation.temporary("t4", None) as node:
        path = node.environment({})["GPUSLICE_KMSG"]
        log = SimulatedKmsg(path)
        assert log.read(8192).startswith(b"5,0,")
        with pytest.raises(BlockingIOError):
            log.read(8192)
        log.close()


def test_what_is_said_wakes_who_waits_and_is_a_users() -> None:
    with simulation.temporary("t4", None) as node:
        log = SimulatedKmsg(node.path / "kmsg")
        log.seek(0, os.SEEK_END)
        assert select.select([log], [], [], 0)[0] == []
        say(node, "NVRM: Xid (PCI:0000:04:00): 13, pid=1, name=a")
        assert select.select([log], [], [], 5)[0] == [log]
        record = log.read(8192)
        assert record.startswith(b"12,1,")
        assert record.endswith(b";NVRM: Xid (PCI:0000:04:00): 13, pid=1, name=a\n")
        log.close()


def test_a_small_buffer_and_a_strange_seek_are_told_as_the_kernel_does() -> None:
    with simulation.temporary("t4", None) as node:
        log = SimulatedKmsg(node.path / "kmsg")
        with pytest.raises(OSError, match="Invalid argument") as small:
            log.read(4)
        assert small.value.errno == errno.EINVAL
        with pytest.raises(OSError, match="Illegal seek") as seek:
            log.seek(7, os.SEEK_SET)
        assert seek.value.errno == errno.ESPIPE
        log.close()


def test_a_log_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SimulatedKmsg(tmp_path / "kmsg")
