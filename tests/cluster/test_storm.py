"""A hundred pods of random sizes at once: nothing is given twice, nothing is lost."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from . import tenants
from .agreement import wait_agreed
from .api import Object
from .cluster import Cluster, wait
from .tenants import MIB

PODS = 100
ROUNDS = 3
SETTLE_SECONDS = 120.0
AT_ONCE = 8  # requests


@pytest.mark.usefixtures("shares_of_claims")
@pytest.mark.timeout(600)
def test_a_hundred_pods_come_and_go_at_once(
    cluster: Cluster, namespace: str, chance: random.Random
) -> None:
    for number in range(ROUNDS):
        pods = [create_one(cluster, namespace, f"r{number}-{n}", chance) for n in range(PODS)]
        with ThreadPoolExecutor(AT_ONCE) as crowd:
            for created in [
                crowd.submit(cluster.api.create, "pods", pod, namespace) for pod in pods
            ]:
                created.result()
        wait("the node to be full and quiet", lambda: is_quiet(cluster, namespace), SETTLE_SECONDS)
        world = wait_agreed(cluster)
        running = [pod for pod in world.pods if pod["status"]["phase"] == "Running"]
        assert len(running) >= 8
        for pod in running:
            assert seen_limit(cluster, pod) == asked_limit(pod)
        cluster.api.delete_all("pods", namespace, grace=1)
        wait("no pod", lambda: not cluster.api.list("pods", namespace), SETTLE_SECONDS)
        assert not wait_agreed(cluster).shares


def create_one(cluster: Cluster, namespace: str, name: str, chance: random.Random) -> Object:
    """The pod is still to be created. Every third ends by itself and makes room."""
    cores, memory = chance.randint(1, 20), chance.randint(450, 6000)
    command = ("timeout", "2", "tenant", "2") if chance.random() < 0.33 else ("tenant", "2")
    if chance.random() < 0.5:
        pod = tenants.pod(name, *command, limits={"gpucores": cores, "gpumem": memory})
    else:
        cluster.api.create(
            "resourceclaimtemplates", tenants.template(name, cores, memory), namespace
        )
        pod = tenants.pod(name, *command, template=name)
    pod["metadata"]["annotations"] = {"memory": str(memory * MIB)}
    pod["spec"]["restartPolicy"] = "Never"
    return pod


def is_quiet(cluster: Cluster, namespace: str) -> bool:
    """Whoever has a node runs or has ended, and whoever has none is known to find no room."""
    return all(map(is_settled, cluster.api.list("pods", namespace)))


def is_settled(pod: Object) -> bool:
    if "nodeName" not in pod["spec"]:
        return bool(pod["status"].get("conditions"))
    statuses: list[Object] = pod["status"].get("containerStatuses", [])
    short = "timeout" in pod["spec"]["containers"][0]["command"]
    ended = {"terminated"} if short else {"terminated", "running"}
    return any(ended & status["state"].keys() for status in statuses)


def asked_limit(pod: Object) -> int:
    return int(pod["metadata"]["annotations"]["memory"])


def seen_limit(cluster: Cluster, pod: Object) -> int:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    (gpu,) = tenants.seen(cluster, namespace, name)
    return gpu.total_bytes
