"""Two shares of one GPU, by plugin and by claim: what the programs see, and who waits."""

import time
from collections.abc import Callable

import pytest

from . import tenants
from .agreement import wait_agreed
from .api import Object
from .cluster import Cluster, wait
from .tenants import MIB, OUT_OF_MEMORY

MEMORY = 3000  # MiB
WARM_SECONDS = 1.0
MEASURED_SECONDS = 4.0


def by_plugin(cluster: Cluster, namespace: str, name: str, cores: int, *command: str) -> None:
    limits = {"gpucores": cores, "gpumem": MEMORY}
    cluster.api.create("pods", tenants.pod(name, *command, limits=limits), namespace)


def by_claim(cluster: Cluster, namespace: str, name: str, cores: int, *command: str) -> None:
    cluster.api.create("resourceclaimtemplates", tenants.template(name, cores, MEMORY), namespace)
    cluster.api.create("pods", tenants.pod(name, *command, template=name), namespace)


Start = Callable[..., None]


@pytest.fixture(params=[by_plugin, by_claim])
def start(request: pytest.FixtureRequest) -> Start:
    """Starts a pod: cluster, namespace, name, cores, command."""
    if request.param is by_claim:
        request.getfixturevalue("shares_of_claims")
    chosen: Start = request.param
    return chosen


def test_a_program_sees_its_limit_and_is_refused_beyond(
    cluster: Cluster, namespace: str, start: Start
) -> None:
    start(cluster, namespace, "one", 50)
    (gpu,) = tenants.seen(cluster, namespace, "one")
    assert gpu.total_bytes == MEMORY * MIB
    assert gpu.free_bytes < gpu.total_bytes
    assert gpu.refused == OUT_OF_MEMORY
    assert gpu.free_bytes - 2 * MIB <= gpu.took_bytes <= gpu.free_bytes
    wait_agreed(cluster)


def test_two_pods_share_a_gpu_and_a_third_waits_until_one_leaves(
    cluster: Cluster, namespace: str, start: Start
) -> None:
    for name in ("one", "two"):
        start(cluster, namespace, name, 50)
    uuids = {gpu.uuid for name in ("one", "two") for gpu in tenants.seen(cluster, namespace, name)}
    assert len(uuids) == 1
    start(cluster, namespace, "three", 50)
    wait("a sentence that says why", lambda: waiting_for(cluster.pod(namespace, "three")))
    cluster.api.delete("pods", "one", namespace)
    (gpu,) = tenants.seen(cluster, namespace, "three")
    assert gpu.total_bytes == MEMORY * MIB
    wait_agreed(cluster)


def test_a_program_gets_its_half_of_the_gpu_s_time(
    cluster: Cluster, namespace: str, start: Start
) -> None:
    start(cluster, namespace, "one", 50, "tenant", "spin")
    (gpu,) = tenants.seen(cluster, namespace, "one")
    time.sleep(WARM_SECONDS)
    assert busy(cluster, gpu.uuid, MEASURED_SECONDS) == pytest.approx(0.5, abs=0.02)


def busy(cluster: Cluster, uuid: str, seconds: float) -> float:
    """How much of its time a GPU worked, by its own count."""

    def counted() -> tuple[int, int]:
        shown = cluster.gpus.show()
        return shown["now_ns"], next(gpu["busy_ns"] for gpu in shown["gpus"] if gpu["uuid"] == uuid)

    start, before = counted()
    time.sleep(seconds)
    end, after = counted()
    return (after - before) / (end - start)


def waiting_for(pod: Object) -> str:
    """Why the scheduler leaves it waiting."""
    return next(
        (
            one["message"]
            for one in pod["status"].get("conditions", [])
            if one["type"] == "PodScheduled" and one["status"] == "False"
        ),
        "",
    )
