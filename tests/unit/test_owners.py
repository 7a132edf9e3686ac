"""An owner is a process, not a number."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from gpuslice_agent.errors import RequestError
from gpuslice_agent.model import Owner
from gpuslice_agent.owners import Owners


@pytest.fixture
def owners() -> Iterator[Owners]:
    with closing(Owners()) as owners:
        yield owners


def test_a_share_that_nobody_owns_does_not_end(owners: Owners) -> None:
    owners.hold("one", Owner("claim"))
    assert not owners.is_gone("one", Owner("claim"))


def test_an_owner_is_gone_when_its_process_ends_even_before_it_is_reaped(owners: Owners) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        owner = owners.identified(Owner("run", process.pid))
        owners.hold("one", owner)
        assert not owners.is_gone("one", owner)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert owners.is_gone("one", owner)


def test_a_process_that_got_the_pid_of_the_owner_is_not_the_owner(owners: Owners) -> None:
    me = owners.identified(Owner("run", os.getpid()))
    before = replace(me, start_time=me.start_time - 1)
    owners.hold("one", before)
    assert owners.is_gone("one", before)


def test_a_request_of_a_process_that_is_not_there_is_refused(owners: Owners) -> None:
    with pytest.raises(RequestError, match="There is no process 4194303 to own a share"):
        owners.identified(Owner("run", 4194303))
