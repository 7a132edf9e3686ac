"""Faults of simulated GPUs, and what the agent makes of them: told soon, and told over."""

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuslice_agent import native_files, simulation
from gpuslice_agent.control.client import Client
from gpuslice_agent.entities import Action, EntityHealth, EntityState, gpu_entity, pci_address
from gpuslice_agent.model import HealthState, ShareRequest, Snapshot
from gpuslice_agent.simulation import SimNode

from ..agent import world
from ..agent.daemon import started

SOON_SECONDS = 2.0  # from the fault to what everybody reads, as asked
WELL_AGAIN_SECONDS = 60.0


def inject(node: SimNode, *words: str) -> None:
    subprocess.run([native_files.sim_node_program(), "inject", *_split(node, words)], check=True)


def _split(node: SimNode, words: tuple[str, ...]) -> list[str]:
    """`gpu=0` as an option before the node, the rest behind it."""
    named = [word.split("=", 1) for word in words if "=" in word]
    options = [text for name, value in named for text in (f"--{name}", value)]
    return [*options, str(node.path), *(word for word in words if "=" not in word)]


@contextmanager
def agent(node: SimNode, state: Path, *arguments: str) -> Generator[Client]:
    environment = node.environment(os.environ)
    kmsg = () if "--kmsg" in arguments else ("--kmsg", str(node.path / "kmsg"))
    options = ("--state-dir", str(state), *kmsg, *arguments)
    with started(environment, node.path / "run", *options) as daemon, daemon.client() as client:
        yield client
        daemon.stop()


def wait(
    client: Client, right: Callable[[Snapshot], bool], seconds: float = WELL_AGAIN_SECONDS
) -> Snapshot:
    until = time.monotonic() + seconds
    while not right(snapshot := client.list()):
        assert time.monotonic() < until, snapshot.health
        time.sleep(0.05)
    return snapshot


def _of(snapshot: Snapshot, index: int) -> EntityHealth:
    return snapshot.health.of(gpu_entity(pci_address(snapshot.gpus[index].pci_bus_id)))


def is_in(state: EntityState, index: int = 0) -> Callable[[Snapshot], bool]:
    return lambda snapshot: _of(snapshot, index).state is state


@pytest.fixture
def node() -> Iterator[SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


def test_a_lost_gpu_is_told_within_two_seconds_and_well_again_by_itself(
    node: SimNode, tmp_path: Path
) -> None:
    with agent(node, tmp_path) as client:
        time.sleep(1)  # a fault that comes while the agent starts may take as long as that
        inject(node, "gpu=0", "xid", "79")
        snapshot = wait(client, is_in(EntityState.UNHEALTHY), SOON_SECONDS)
        assert _of(snapshot, 0).action is Action.RESTART_BM
        assert [gpu.health.state for gpu in snapshot.gpus] == [
            HealthState.UNHEALTHY,
            HealthState.HEALTHY,
        ]
        inject(node, "gpu=0", "reset")
        wait(client, is_in(EntityState.RECOVERING))
        snapshot = wait(client, is_in(EntityState.HEALTHY))
        assert snapshot.gpus[0].health.state is HealthState.HEALTHY
        counts = {(one.code, one.count) for one in snapshot.health.counts}
        assert (79, 1) in counts  # told by the log, with its number and in words, and by NVML


def test_a_gpu_that_was_lost_before_the_agent_started_hides_no_other(
    node: SimNode, tmp_path: Path
) -> None:
    inject(node, "gpu=0", "xid", "79")
    with agent(node, tmp_path) as client:
        snapshot = wait(client, lambda now: bool(now.health.entities), 10)
        assert [gpu.index for gpu in snapshot.gpus] == [1]
        assert snapshot.gpus[0].health.state is HealthState.HEALTHY
        (lost,) = snapshot.health.entities
        assert (lost.state, lost.action) == (EntityState.UNHEALTHY, Action.RESTART_BM)


def test_an_xid_of_a_program_is_told_to_its_share_and_changes_nothing_else(
    node: SimNode, tmp_path: Path
) -> None:
    with agent(node, tmp_path) as client:
        (share,) = client.create(ShareRequest(cores=10, memory_bytes=1 << 30, gpus=("0",)))
        with world.tenant(node, share) as tenant:
            wait(client, lambda now: any(one.usage.processes for one in now.shares))
            inject(node, "gpu=0", f"pid={tenant.pid}", "xid", "13")
            snapshot = wait(client, lambda now: bool(now.health.incidents), SOON_SECONDS)
        (incident,) = snapshot.health.incidents
        assert (incident.share, incident.code, incident.blamed) == (share.id, 13, True)
        assert all(_of(snapshot, index).state is EntityState.HEALTHY for index in range(2))


def test_what_is_ill_stays_ill_when_the_agent_starts_anew(node: SimNode, tmp_path: Path) -> None:
    with agent(node, tmp_path) as client:
        inject(node, "gpu=1", "xid", "95")
        wait(client, is_in(EntityState.UNHEALTHY, 1))
    with agent(node, tmp_path) as client:
        snapshot = wait(client, is_in(EntityState.UNHEALTHY, 1), SOON_SECONDS)
        time.sleep(1)  # the log is read again from its beginning
        snapshot = client.list()
        assert [one.count for one in snapshot.health.counts if one.code == 95] == [1]


def test_a_row_that_waits_to_be_remapped_keeps_the_gpu_free(node: SimNode, tmp_path: Path) -> None:
    with agent(node, tmp_path) as client:
        inject(node, "gpu=0", "remap-pending", "1")
        snapshot = wait(client, is_in(EntityState.DEGRADED))
        assert snapshot.gpus[0].health.state is HealthState.UNHEALTHY
        assert snapshot.gpus[1].health.state is HealthState.HEALTHY


def test_a_storm_of_faults_is_few_words_and_its_loss_is_counted(
    node: SimNode, tmp_path: Path
) -> None:
    library = ctypes.CDLL(str(native_files.simulation() / "libgpuslice_sim_kmsg.so"))
    log = str(node.path / "kmsg").encode()
    with agent(node, tmp_path) as client:
        pci = pci_address(client.list().gpus[0].pci_bus_id)
        line = f"NVRM: Xid (PCI:{pci}): 62, pid='<unknown>', name=<unknown>, 323b6a66 000066f0"
        for _ in range(10_000):
            assert library.sim_kmsg_append(log, 4, line.encode()) >= 0
        snapshot = wait(client, is_in(EntityState.UNHEALTHY), 10)
        assert len(snapshot.gpus[0].health.reason.encode()) <= 1024
        told = sum(one.count for one in snapshot.health.counts)
        assert told <= 10_000
        assert told == 10_000 or snapshot.health.kernel_log_gaps > 0


def test_a_missing_log_is_named_and_nvml_tells_the_faults(node: SimNode, tmp_path: Path) -> None:
    with agent(node, tmp_path, "--kmsg", str(tmp_path / "nowhere")) as client:
        wait(client, lambda now: any(why for _, why in now.health.sources), 10)
        time.sleep(1)
        inject(node, "gpu=0", "xid", "95")
        snapshot = wait(client, is_in(EntityState.UNHEALTHY), SOON_SECONDS)
        assert "nowhere cannot be read" in dict(snapshot.health.sources)["kernel log"]


def _with_gpus(path: Path, count: int) -> SimNode:
    """The same GPUs each time, as many as there still are."""
    create = ("create", "--profile", "2xa100-80g", "--seed", "7", "--gpus", str(count), str(path))
    path.mkdir()
    subprocess.run([native_files.sim_node_program(), *create], check=True)
    (path / "run").mkdir()
    return SimNode(path)


def test_a_gpu_that_is_missing_after_a_start_is_named_and_the_other_goes_on(tmp_path: Path) -> None:
    before, after = (_with_gpus(tmp_path / str(count), count) for count in (2, 1))
    with agent(before, tmp_path) as client:
        two = wait(client, lambda now: len(now.gpus) == 2).gpus
        time.sleep(1)
    with agent(after, tmp_path) as client:
        place = gpu_entity(pci_address(two[1].pci_bus_id))
        ill = EntityState.UNHEALTHY
        snapshot = wait(client, lambda now: now.health.of(place).state is ill, 10)
        missing = snapshot.health.of(place)
        assert missing.uuid == two[1].uuid
        assert two[1].uuid in missing.evidence[0]
        # Its links went to the one that is missing, which takes nothing from who uses it alone.
        assert snapshot.gpus[0].health.state is HealthState.HEALTHY


def test_a_gpu_that_hangs_is_suspected_first_and_taken_out_when_it_stays_so(
    node: SimNode, tmp_path: Path
) -> None:
    with agent(node, tmp_path, "--nvml-deadline", "1") as client:
        time.sleep(1)
        inject(node, "gpu=0", "hang")
        wait(client, is_in(EntityState.SUSPECT), 15)
        snapshot = wait(client, is_in(EntityState.UNHEALTHY), 30)
        assert snapshot.gpus[0].health.state is HealthState.UNHEALTHY
        assert _of(snapshot, 0).action is Action.RESET_GPU
        assert snapshot.gpus[1].health.state is HealthState.HEALTHY
