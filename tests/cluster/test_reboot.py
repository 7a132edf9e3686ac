"""The node reboots under its pods."""

import pytest

from . import tenants
from .agreement import wait_agreed
from .api import Object
from .cluster import Cluster, uid, wait
from .reboot import reboot
from .tenants import MIB

MEMORY = 2000  # MiB
REPLACED_SECONDS = 120.0


@pytest.mark.usefixtures("shares_of_claims")
def test_after_a_reboot_claims_go_on_and_controllers_replace_the_device_plugin_s_pods(
    cluster: Cluster, namespace: str
) -> None:
    pod = tenants.pod("template", limits={"gpucores": 30, "gpumem": MEMORY})
    cluster.api.create("deployments", deployment("replaced", pod), namespace)
    cluster.api.create("resourceclaims", tenants.claim("kept", 30, MEMORY), namespace)
    cluster.api.create("pods", tenants.pod("by-claim", claims=["kept"]), namespace)
    tenants.seen(cluster, namespace, "by-claim")
    (old,) = wait("the deployment's pod", lambda: running(cluster, namespace))
    claimant = uid(cluster.pod(namespace, "by-claim"))

    reboot(cluster)

    def replaced() -> list[Object]:
        return [pod for pod in running(cluster, namespace) if uid(pod) != uid(old)]

    (new,) = wait("the deployment's next pod", replaced, REPLACED_SECONDS)
    assert tenants.seen(cluster, namespace, new["metadata"]["name"])[0].total_bytes == MEMORY * MIB
    wait("the claim's pod to run again", lambda: restarted(cluster.pod(namespace, "by-claim")))
    assert uid(cluster.pod(namespace, "by-claim")) == claimant
    assert tenants.seen(cluster, namespace, "by-claim")[0].total_bytes == MEMORY * MIB
    wait_agreed(cluster)


def deployment(name: str, pod: Object) -> Object:
    labels = {"app": name}
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod["spec"]},
        },
    }


def running(cluster: Cluster, namespace: str) -> list[Object]:
    pods = cluster.api.list("pods", namespace, labelSelector="app=replaced")
    return [pod for pod in pods if any(map(is_up, pod["status"].get("containerStatuses", [])))]


def restarted(pod: Object) -> bool:
    (status,) = pod["status"]["containerStatuses"]
    return bool(status["restartCount"]) and is_up(status)


def is_up(status: Object) -> bool:
    return "running" in status["state"]
