"""Of two agents on a node the newer takes over from the older, which stands by."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from gpuslice_agent.control.client import Client, connect
from gpuslice_agent.errors import ControlError, GpusliceError
from gpuslice_agent.model import Pacing, ShareRequest, Snapshot
from gpuslice_agent.run_directory import RunDirectory
from gpuslice_agent.simulation import SimNode

from .daemon import AGENT, Daemon, started
from .world import MIB, tenant

SMALL = ShareRequest(cores=30, memory_bytes=1024 * MIB, gpus=("0",))


@pytest.fixture
def run_dir(node: SimNode) -> Path:
    return node.run_directory.path


def pod(uid: str) -> tuple[str, str]:
    return "--pod-uid", uid


def owner_of(daemon: Daemon) -> int:
    return int(daemon.directory.lock.read_text().split()[1])


def paced(client: Client) -> Snapshot:
    """When its one share is paced by an arbiter; the test's own time-out is the limit."""
    return next(seen for seen in client.watch() if seen.shares[0].usage.pacing is Pacing.ARBITER)


def until_owned_by(daemon: Daemon, pid: int) -> None:
    while owner_of(daemon) != pid:
        time.sleep(0.05)
    while True:
        try:
            with connect(daemon.directory) as client:
                client.list()
            return
        except GpusliceError:
            time.sleep(0.05)


def test_the_newer_agent_takes_over_and_shares_and_tenants_go_on(
    node: SimNode, run_dir: Path
) -> None:
    environment = node.environment(os.environ)
    with started(environment, run_dir, *pod("old")) as old:
        with old.client() as client:
            (share,) = client.create(SMALL)
        with (
            tenant(node, share, holds=64 * MIB) as process,
            started(environment, run_dir, *pod("new")) as new,
            new.client() as client,
        ):
            assert owner_of(new) == new.process.pid
            (seen,) = paced(client).shares
            assert seen.id == share.id
            assert [one.pid for one in seen.usage.processes] == [process.pid]
            assert old.process.poll() is None
            assert new.stop() == 0
            until_owned_by(old, old.process.pid)


def test_the_older_agent_takes_over_again_when_the_newer_is_killed(
    node: SimNode, run_dir: Path
) -> None:
    environment = node.environment(os.environ)
    with started(environment, run_dir, *pod("old")) as old:
        with started(environment, run_dir, *pod("new")) as new:
            new.kill()
        until_owned_by(old, old.process.pid)
        with old.client() as client:
            client.create(SMALL)


def test_an_agent_that_gave_way_never_asks_for_its_place_back(node: SimNode, run_dir: Path) -> None:
    environment = node.environment(os.environ)
    with (
        started(environment, run_dir, *pod("old")) as old,
        started(environment, run_dir, *pod("new")) as new,
    ):
        old.kill()  # its container is started again, and comes back with the same pod
        again = subprocess.Popen(
            [*AGENT, "--run-dir", str(run_dir), "--metrics-address", "", *pod("old")],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        with again:
            assert again.stderr is not None
            assert "standing by" in again.stderr.readline()
            assert owner_of(new) == new.process.pid
            again.terminate()
            assert again.wait() == 0


def test_upgrades_follow_each_other(node: SimNode, run_dir: Path) -> None:
    environment = node.environment(os.environ)
    with (
        started(environment, run_dir, *pod("one")) as one,
        started(environment, run_dir, *pod("two")) as two,
    ):
        assert one.stop() == 0
        with started(environment, run_dir, *pod("three")) as three:
            assert two.stop() == 0
            assert owner_of(three) == three.process.pid
            assert RunDirectory(run_dir).gave_way() == ("one", "two")


def test_an_agent_that_is_no_pod_keeps_its_place(node: SimNode, run_dir: Path) -> None:
    environment = node.environment(os.environ)
    with started(environment, run_dir) as service:
        with service.client() as client, pytest.raises(ControlError, match="The agent here is no"):
            client.hand_over("pod")
        ended = subprocess.run(
            [*AGENT, "--run-dir", str(run_dir), "--metrics-address", "", *pod("pod")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert "The agent here is no pod and gives its place to none" in ended.stderr
        with service.client() as client:
            client.create(SMALL)


def test_a_change_under_way_is_finished_or_refused_never_half_done(
    node: SimNode, run_dir: Path
) -> None:
    environment = node.environment(os.environ)
    made: list[str] = []

    def keep_creating(directory: RunDirectory, over: threading.Event) -> None:
        while not over.is_set():
            try:
                with connect(directory) as client:
                    made.extend(one.id for one in client.create(ShareRequest(0, MIB)))
            except GpusliceError:
                time.sleep(0.01)

    over = threading.Event()
    with started(environment, run_dir, *pod("old")) as old:
        asker = threading.Thread(target=keep_creating, args=(old.directory, over))
        asker.start()
        try:
            with started(environment, run_dir, *pod("new")) as new:
                over.set()
                asker.join()
                with new.client() as client:
                    there = {share.id for share in client.list().shares}
                assert set(made) <= there
                assert len(there) - len(made) <= 1  # one may have been made without its answer
        finally:
            over.set()
            asker.join()
