"""The agent as its users and the service manager see it."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpuslice_agent.control.client import Client, connect
from gpuslice_agent.errors import (
    AgentAbsentError,
    AgentRefusedError,
    AllocationError,
    RequestError,
    UnknownShareError,
)
from gpuslice_agent.model import HealthState, Owner, Pacing, ShareRequest, Snapshot
from gpuslice_agent.run_directory import RunDirectory
from gpuslice_agent.simulation import SimNode

from .daemon import AGENT, Daemon, started
from .world import BOTH, MIB, gpus_of, program, tenant

SMALL = ShareRequest(cores=30, memory_bytes=1024 * MIB)


@pytest.fixture
def run_dir(node: SimNode) -> Path:
    return node.run_directory.path


@pytest.fixture
def daemon(node: SimNode, run_dir: Path) -> Iterator[Daemon]:
    with started(node.environment(os.environ), run_dir) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with daemon.client() as client:
        yield client


def until(client: Client, seen: Callable[[Snapshot], bool]) -> Snapshot:
    """Watches until it is so; the test's own time-out is the limit."""
    for snapshot in client.watch():
        if seen(snapshot):
            return snapshot
    raise AssertionError("the agent ended")


def test_the_gpus_of_the_node_are_shown(client: Client, node: SimNode) -> None:
    snapshot = client.list()
    assert [(gpu.index, gpu.uuid, gpu.name) for gpu in snapshot.gpus] == [
        (gpu.index, gpu.uuid, gpu.name) for gpu in gpus_of(node)
    ]
    assert snapshot.simulated
    assert snapshot.driver_version and snapshot.cuda_version
    for gpu in snapshot.gpus:
        assert gpu.health.state is HealthState.HEALTHY
        assert gpu.compute_capability == (8, 0)
        assert 79 << 30 < gpu.memory_bytes < 81 << 30


def test_a_share_is_created_shown_resized_and_released(client: Client) -> None:
    (share,) = client.create(SMALL)
    assert Path(share.directory, "grant").exists()
    assert [one.id for one in client.list().shares] == [share.id]
    assert client.resize(share.id, cores=40).limits.cores == 40
    client.release([share.id])
    client.release([share.id])
    assert client.list().shares == ()


def test_refusals_come_with_their_kind_and_sentence(client: Client) -> None:
    with pytest.raises(RequestError, match="101 cores cannot be"):
        client.create(ShareRequest(cores=101))
    with pytest.raises(RequestError, match="There is no GPU '7' here"):
        client.create(ShareRequest(cores=1, gpus=("7",)))
    client.create(ShareRequest(cores=100, gpus=("0",)))
    with pytest.raises(AllocationError, match="GPU 0 has only 0 % of its time"):
        client.create(ShareRequest(cores=1, gpus=("0", "1")))
    with pytest.raises(UnknownShareError):
        client.resize("nobody", cores=1)


def test_a_watcher_sees_a_share_come_and_go(daemon: Daemon) -> None:
    with daemon.client() as client, daemon.client() as other:
        snapshots = client.watch()
        assert next(snapshots).shares == ()
        (share,) = other.create(SMALL)
        while [one.id for one in next(snapshots).shares] != [share.id]:
            pass
        other.release([share.id])
        while next(snapshots).shares:
            pass


def test_a_tenant_is_seen_through_its_share_and_is_no_stranger(
    client: Client, node: SimNode
) -> None:
    (share,) = client.create(replace(SMALL, gpus=("0",)))
    with tenant(node, share, holds=64 * MIB) as process:
        snapshot = until(
            client,
            lambda seen: (
                bool(seen.gpus[0].reading.memory_used_bytes)
                # The arbiter takes a moment to hear of the first process.
                and seen.shares[0].usage.pacing is Pacing.ARBITER
            ),
        )
        (seen,) = snapshot.shares
        assert [one.pid for one in seen.usage.processes] == [process.pid]
        assert seen.usage.used_bytes >= 64 * MIB
        assert seen.usage.over_bytes == 0
        assert snapshot.gpus[0].strangers == ()


def test_a_process_without_a_share_is_a_stranger(client: Client, node: SimNode) -> None:
    with program(node, os.environ, holds=64 * MIB) as process:
        snapshot = until(client, lambda seen: bool(seen.gpus[0].strangers))
        (stranger,) = snapshot.gpus[0].strangers
        assert stranger.pid == process.pid
        assert stranger.memory_bytes >= 64 * MIB
        assert snapshot.gpus[1].strangers == ()


def test_the_cost_of_a_context_is_measured_before_the_first_share(
    client: Client, node: SimNode
) -> None:
    (share,) = client.create(replace(SMALL, gpus=("0",)))
    with tenant(node, share, holds=64 * MIB):
        snapshot = until(client, lambda seen: bool(seen.gpus[0].reading.memory_used_bytes))
        on_the_card = snapshot.gpus[0].reading.memory_used_bytes
        (seen,) = client.list().shares
        assert seen.usage.used_bytes == on_the_card


def test_prometheus_reads_the_snapshot(node: SimNode, run_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        started(node.environment(os.environ), run_dir, metrics=address) as daemon,
        daemon.client() as client,
    ):
        (share,) = client.create(SMALL)
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    samples = {sample.name: sample for family in families for sample in family.samples}
    limit = samples["gpuslice_share_memory_limit_bytes"]
    assert (limit.labels["share"], limit.labels["uuid"]) == (share.id, share.gpu_uuid)
    assert limit.value == 1024 * MIB


def test_an_agent_that_was_killed_takes_up_its_shares_again(node: SimNode, run_dir: Path) -> None:
    environment = node.environment(os.environ)
    with started(environment, run_dir) as daemon:
        with daemon.client() as client:
            shares = client.create(BOTH)
        with tenant(node, shares[0], holds=64 * MIB) as process:
            daemon.kill()
            with started(environment, run_dir) as again, again.client() as client:
                after = client.list().shares
                assert [share.id for share in after] == [share.id for share in shares]
                assert [one.pid for one in after[0].usage.processes] == [process.pid]
                until(client, lambda seen: seen.shares[0].usage.pacing is Pacing.ARBITER)


def test_a_share_ends_with_its_owner(client: Client) -> None:
    with subprocess.Popen(["sleep", "60"]) as owner:
        client.create(replace(SMALL, owner=Owner("sleep", owner.pid)))
        owner.kill()
        owner.wait()
        until(client, lambda seen: seen.shares == ())


def test_the_agent_ends_on_sigterm_and_shares_outlive_it(daemon: Daemon) -> None:
    with daemon.client() as client:
        (share,) = client.create(SMALL)
    assert daemon.stop() == 0
    assert Path(share.directory, "grant").exists()
    with pytest.raises(AgentRefusedError):  # it will be back: nobody takes its shares over
        connect(daemon.directory)


def test_open_watchers_do_not_keep_the_agent(daemon: Daemon) -> None:
    with daemon.client() as client:
        snapshots = client.watch()
        next(snapshots)
        assert daemon.stop() == 0
        with pytest.raises(AgentAbsentError):
            list(snapshots)


def test_the_service_manager_hears_that_the_agent_lives_and_stops(daemon: Daemon) -> None:
    assert daemon.notifications.recv(100) == b"WATCHDOG=1"
    daemon.process.send_signal(signal.SIGTERM)
    heard = daemon.notifications.recv(100)
    while heard == b"WATCHDOG=1":
        heard = daemon.notifications.recv(100)
    assert heard == b"STOPPING=1"


def test_a_private_agent_ends_with_its_last_share(node: SimNode, run_dir: Path) -> None:
    environment = node.environment(os.environ)
    with started(environment, run_dir, "--private", "--private-grace", "0.3") as daemon:
        assert daemon.directory.socket.stat().st_mode & 0o777 == 0o600
        with daemon.client() as client:
            (share,) = client.create(SMALL)
            with tenant(node, share):
                client.release([share.id])
                time.sleep(1)
                assert daemon.process.poll() is None
        assert daemon.process.wait() == 0
        assert not daemon.directory.socket.exists()


def test_a_private_agent_that_nobody_asks_ends(node: SimNode, run_dir: Path) -> None:
    environment = node.environment(os.environ)
    with started(environment, run_dir, "--private", "--private-grace", "0.1") as daemon:
        assert daemon.process.wait() == 0


def test_a_private_agent_stays_while_somebody_watches(node: SimNode, run_dir: Path) -> None:
    environment = node.environment(os.environ)
    with started(environment, run_dir, "--private", "--private-grace", "0.1") as daemon:
        with daemon.client() as client:
            snapshots = client.watch()
            next(snapshots)
            time.sleep(1)
            assert daemon.process.poll() is None
        assert daemon.process.wait() == 0


def test_an_address_in_use_is_said_in_one_sentence(node: SimNode, run_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = subprocess.run(
            [*AGENT, "--run-dir", str(run_dir), "--metrics-address", address],
            env=node.environment(os.environ),
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert f"/metrics cannot be served on {address}" in ended.stderr.splitlines()[-1]


def test_a_node_without_a_driver_is_served_and_says_so(tmp_path: Path) -> None:
    # No library path leads to a simulated NVML here.
    with started(os.environ, tmp_path / "run") as daemon, daemon.client() as client:
        snapshot = client.list()
        if snapshot.gpus:
            pytest.skip("this machine has GPUs")
        assert "No GPU can be seen" in snapshot.problem
        with pytest.raises(AllocationError, match="No GPU can be seen"):
            client.create(SMALL)


def test_the_agent_writes_nothing_at_rest(node: SimNode, run_dir: Path) -> None:
    def written(directory: Path) -> dict[Path, int]:
        files = [path for path in directory.rglob("*") if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in files}

    environment = node.environment(os.environ)
    with started(environment, run_dir, "--idle-interval", "0.1") as daemon:
        with daemon.client() as client:
            client.create(SMALL)
        before = written(run_dir)
        assert before
        time.sleep(1)
        assert written(run_dir) == before


def test_a_path_too_long_for_a_socket_is_said(node: SimNode, tmp_path: Path) -> None:
    ended = subprocess.run(
        [*AGENT, "--run-dir", str(tmp_path / ("x" * 100)), "--metrics-address", ""],
        env=node.environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "agent.sock cannot be made: a run directory's path has at most" in ended.stderr


def test_a_directory_that_is_owned_is_refused_to_a_second_agent(daemon: Daemon) -> None:
    ended = subprocess.run(
        [*AGENT, "--run-dir", str(daemon.directory.path), "--metrics-address", ""],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert f"Another agent (service {daemon.process.pid}) owns" in ended.stderr
    with connect(RunDirectory(daemon.directory.path)) as client:
        client.list()
