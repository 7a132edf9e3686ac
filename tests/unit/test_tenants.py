"""Pids of other pid namespaces are translated."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuslice_agent.enforcement.tenants import Tenants

from .nodes import slot


def namespace_of(pid: int | str) -> int:
    return os.stat(f"/proc/{pid}/ns/pid").st_ino


def test_a_pid_of_our_own_namespace_is_itself() -> None:
    assert Tenants().pid_of(slot(pid=4711, pid_namespace=namespace_of("self"))) == 4711


def test_a_pid_of_a_container_is_found_from_outside() -> None:
    inside = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", inside],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as unshare:
        assert unshare.stdout is not None
        if not unshare.stdout.readline():
            pytest.skip("no pid namespace can be made here")
        (pid,) = map(
            int, Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
        )
        assert Tenants().pid_of(slot(pid=1, pid_namespace=namespace_of(pid))) == pid
        assert Tenants().pid_of(slot(pid=2, pid_namespace=namespace_of(pid))) == 0
        assert unshare.stdin is not None
        unshare.stdin.close()


def test_a_namespace_that_nobody_lives_in_has_no_pids() -> None:
    assert Tenants().pid_of(slot(pid=1, pid_namespace=1)) == 0
