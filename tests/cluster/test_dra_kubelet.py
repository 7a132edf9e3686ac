"""What the kubelet's own tests ask of a DRA driver: restarts, failures, pods that go meanwhile."""

import json
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from . import tenants
from .agreement import CDI_FILES, wait_agreed
from .api import Object
from .cluster import Cluster, wait
from .tenants import MIB

FROZEN_SECONDS = 90.0


def start(cluster: Cluster, namespace: str, name: str, cores: int = 30) -> None:
    """A pod with a share of its own by a claim template."""
    cluster.api.create("resourceclaimtemplates", tenants.template(name, cores, 1000), namespace)
    pod = tenants.pod(name, "tenant", "1", template=name)
    cluster.api.create("pods", pod, namespace)


def runs(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.wait_phase(namespace, name, "Running")
    (gpu,) = tenants.seen(cluster, namespace, name)
    assert gpu.total_bytes == 1000 * MIB


def slices(cluster: Cluster) -> list[Object]:
    return cluster.api.list("resourceslices", fieldSelector="spec.driver=gpu.gpuslice.io")


def slice_uids(cluster: Cluster) -> set[str]:
    return {one["metadata"]["uid"] for one in slices(cluster)}


@contextmanager
def without_kubelet(cluster: Cluster) -> Generator[None]:
    cluster.kubelet.process.stop()
    try:
        yield
    finally:
        cluster.start_kubelet()


@contextmanager
def without_agent(cluster: Cluster) -> Generator[None]:
    cluster.agent.stop()
    try:
        yield
    finally:
        cluster.start_agent()


@contextmanager
def frozen_agent(cluster: Cluster) -> Generator[None]:
    agent = cluster.agent.process
    entering = int(Path(f"/proc/{agent.pid}/stat").read_text().rpartition(")")[2].split()[1])
    agent.send(signal.SIGSTOP)
    try:
        yield
    finally:
        agent.send(signal.SIGCONT)
        os.kill(entering, signal.SIGCONT)  # nsenter stops with its child, and does not go on so


@contextmanager
def unwritable_cdi_directory(cluster: Cluster) -> Generator[None]:
    """Nothing can be written where the container runtime reads CDI files."""
    cluster.node.run("mount", "--bind", "/run/cdi", "/run/cdi")
    cluster.node.run("mount", "-o", "remount,bind,ro", "/run/cdi")
    try:
        yield
    finally:
        cluster.node.run("umount", "/run/cdi")


def test_the_driver_registers_again_after_a_kubelet_restart(
    cluster: Cluster, namespace: str
) -> None:
    cluster.restart_kubelet()
    start(cluster, namespace, "after")
    runs(cluster, namespace, "after")


def test_the_driver_registers_again_after_its_own_restart(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, "before")
    runs(cluster, namespace, "before")
    with without_agent(cluster):
        pass
    start(cluster, namespace, "after")
    runs(cluster, namespace, "after")
    wait_agreed(cluster)


def test_a_driver_that_was_killed_finds_its_claims_again(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, "before")
    runs(cluster, namespace, "before")
    cluster.agent.kill()
    cluster.start_agent()
    world = wait_agreed(cluster)
    assert [share.owner.namespace for share in world.shares] == [namespace]
    start(cluster, namespace, "after")
    runs(cluster, namespace, "after")


def test_a_pod_created_while_the_kubelet_is_down_starts_with_it(
    cluster: Cluster, namespace: str
) -> None:
    with without_kubelet(cluster):
        start(cluster, namespace, "meanwhile")
        wait("it to be bound", lambda: cluster.pod(namespace, "meanwhile")["spec"].get("nodeName"))
    runs(cluster, namespace, "meanwhile")


def test_a_pod_deleted_while_the_kubelet_is_down_is_never_prepared(
    cluster: Cluster, namespace: str
) -> None:
    with without_kubelet(cluster):
        start(cluster, namespace, "short")
        wait("it to be bound", lambda: cluster.pod(namespace, "short")["spec"].get("nodeName"))
        cluster.api.delete("pods", "short", namespace, grace=0)
        cluster.wait_gone("pods", namespace, "short")
    world = wait_agreed(cluster)
    assert not [share for share in world.shares if share.owner.namespace == namespace]


def test_a_pod_runs_after_prepare_fails_and_then_succeeds(cluster: Cluster, namespace: str) -> None:
    with unwritable_cdi_directory(cluster):
        start(cluster, namespace, "patient")
        wait(
            "an attempt to prepare it",
            lambda: [one for one in cluster.agent.snapshot().shares if one.owner.claim_uid],
        )
        assert cluster.pod(namespace, "patient")["status"]["phase"] == "Pending"
    runs(cluster, namespace, "patient")
    wait_agreed(cluster)


def test_what_was_prepared_in_vain_is_unprepared_after_a_force_delete(
    cluster: Cluster, namespace: str
) -> None:
    with unwritable_cdi_directory(cluster):
        start(cluster, namespace, "unlucky")
        wait(
            "an attempt to prepare it",
            lambda: [one for one in cluster.agent.snapshot().shares if one.owner.claim_uid],
        )
        cluster.api.delete("pods", "unlucky", namespace, grace=0)
        cluster.wait_gone("pods", namespace, "unlucky")
        wait("its share to end", lambda: not cluster.agent.snapshot().shares)
    wait_agreed(cluster)


def test_a_claim_is_unprepared_after_a_force_delete(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, "one")
    runs(cluster, namespace, "one")
    cluster.api.delete("pods", "one", namespace, grace=0)
    wait("its share to end", lambda: not cluster.agent.snapshot().shares)
    wait_agreed(cluster)


def test_a_pod_deleted_while_the_driver_is_down_goes_when_it_is_back(
    cluster: Cluster, namespace: str
) -> None:
    start(cluster, namespace, "one")
    runs(cluster, namespace, "one")
    with without_agent(cluster):
        cluster.api.delete("pods", "one", namespace, grace=1)
        wait(
            "its container to end",
            lambda: any(
                "terminated" in one["state"]
                for one in cluster.pod(namespace, "one")["status"]["containerStatuses"]
            ),
        )
        assert cluster.pod(namespace, "one")["metadata"]["deletionTimestamp"]
    cluster.wait_gone("pods", namespace, "one")
    wait_agreed(cluster)


def test_slices_that_the_kubelet_wipes_come_back(cluster: Cluster) -> None:
    before = slice_uids(cluster)
    cluster.restart_kubelet()

    def back() -> bool:
        now = slices(cluster)
        pools = {json.dumps(one["spec"]["pool"], sort_keys=True) for one in now}
        return len(now) == len(before) and not before & slice_uids(cluster) and len(pools) == 1

    wait("new slices of one pool", back)


def test_slices_that_somebody_deletes_or_changes_are_put_right(cluster: Cluster) -> None:
    *_, last = sorted(one["metadata"]["name"] for one in slices(cluster))
    devices = len(slices(cluster)[-1]["spec"]["devices"])
    cluster.api.patch("resourceslices", last, {"spec": {"devices": []}})
    wait(
        "its devices to be back",
        lambda: (
            len((cluster.api.get("resourceslices", last) or {})["spec"].get("devices") or [])
            == devices
        ),
    )
    cluster.api.delete("resourceslices", last)
    wait("the slice to be back", lambda: cluster.api.get("resourceslices", last))


def test_at_rest_the_slices_are_not_written(cluster: Cluster) -> None:
    before = {one["metadata"]["resourceVersion"] for one in slices(cluster)}
    cluster.agent.snapshot()
    with without_agent(cluster):
        pass
    assert {one["metadata"]["resourceVersion"] for one in slices(cluster)} == before


def test_a_driver_that_stays_away_loses_its_slices_and_gets_them_back(cluster: Cluster) -> None:
    with without_agent(cluster):
        wait("the kubelet to wipe the slices", lambda: not slices(cluster), FROZEN_SECONDS)
    assert slices(cluster)


@pytest.mark.parametrize("damage", ["", "{", '{"cdiVersion": "0.5.0"}'])
def test_a_damaged_cdi_file_is_written_anew(cluster: Cluster, namespace: str, damage: str) -> None:
    start(cluster, namespace, "one")
    runs(cluster, namespace, "one")
    (path,) = cluster.node.root.glob(CDI_FILES)
    right = path.read_text()
    path.write_text(damage)
    cluster.agent.kill()
    cluster.start_agent()
    wait("the file to be right again", lambda: path.read_text() == right)
    wait_agreed(cluster)


def test_a_kubelet_that_hears_nothing_from_the_driver_gets_an_answer_once_it_goes_on(
    cluster: Cluster, namespace: str
) -> None:
    with frozen_agent(cluster):
        start(cluster, namespace, "patient")
        wait("it to be bound", lambda: cluster.pod(namespace, "patient")["spec"].get("nodeName"))
        assert cluster.pod(namespace, "patient")["status"]["phase"] == "Pending"
    runs(cluster, namespace, "patient")
