"""What claims can ask for, on a real cluster: shares, whole GPUs, settings, admin access."""

from gpuslice_agent.model import Policy, Priority, Share

from . import tenants
from .agreement import wait_agreed
from .api import Object
from .cluster import Cluster, uid, wait
from .tenants import MIB

EVERYTHING = 100
CONFIG = {"apiVersion": "gpu.gpuslice.io/v1alpha1", "kind": "ShareConfig"}


def request(name: str, device_class: str = "share.gpuslice.io", **exactly: object) -> Object:
    return {"name": name, "exactly": {"deviceClassName": device_class, **exactly}}


def sized(cores: int, mebibytes: int) -> Object:
    return {"requests": {"gpucores": str(cores), "gpumem": f"{mebibytes}Mi"}}


def claim(name: str, *requests: Object, config: Object | None = None) -> Object:
    devices: Object = {"requests": list(requests)}
    if config is not None:
        devices["config"] = [{"opaque": {"driver": "gpu.gpuslice.io", "parameters": config}}]
    return {"metadata": {"name": name}, "spec": {"devices": devices}}


def shares_of(cluster: Cluster, namespace: str, name: str) -> list[Share]:
    found = cluster.api.get("resourceclaims", name, namespace)
    assert found
    return [one for one in cluster.agent.snapshot().shares if one.owner.claim_uid == uid(found)]


def create(cluster: Cluster, namespace: str, made: Object, *pods: Object) -> None:
    cluster.api.create("resourceclaims", made, namespace)
    for pod in pods:
        cluster.api.create("pods", pod, namespace)


def test_a_whole_gpu_is_nobody_else_s_until_it_is_given_back(
    cluster: Cluster, namespace: str
) -> None:
    whole = claim("whole", request("gpu", "gpu.gpuslice.io"))
    create(cluster, namespace, whole, tenants.pod("one", "tenant", "1", claims=["whole"]))
    seen = tenants.seen(cluster, namespace, "one")
    (share,) = shares_of(cluster, namespace, "whole")
    assert share.limits.whole
    # Without device nodes nothing hides the other simulated GPU.
    (gpu,) = (one for one in seen if one.uuid == share.gpu_uuid)
    assert gpu.total_bytes > share.limits.memory_bytes - MIB
    small = claim("small", request("gpu", capacity=sized(10, 1000)))
    create(cluster, namespace, small, tenants.pod("two", "tenant", "1", claims=["small"]))
    wait(
        "the scheduler to say that nothing is free",
        lambda: any("cannot allocate" in one for one in cluster.events(namespace, "two")),
    )
    cluster.api.delete("pods", "one", namespace, grace=0)
    (after,) = tenants.seen(cluster, namespace, "two")
    assert after.total_bytes == 1000 * MIB
    wait_agreed(cluster)


def test_pods_that_use_one_claim_share_what_it_was_given(cluster: Cluster, namespace: str) -> None:
    shared = claim("shared", request("gpu", capacity=sized(50, 3000)))
    pods = [tenants.pod(name, "tenant", "1200", claims=["shared"]) for name in ("one", "two")]
    create(cluster, namespace, shared, *pods)
    seen = [gpu for name in ("one", "two") for gpu in tenants.seen(cluster, namespace, name)]
    assert {gpu.total_bytes for gpu in seen} == {3000 * MIB}
    assert len(shares_of(cluster, namespace, "shared")) == 1
    assert sum(gpu.took_bytes for gpu in seen) < 3000 * MIB
    assert any(gpu.refused == tenants.OUT_OF_MEMORY for gpu in seen)
    cluster.api.delete("pods", "one", namespace, grace=0)
    cluster.wait_gone("pods", namespace, "one")
    assert len(shares_of(cluster, namespace, "shared")) == 1
    cluster.api.delete("pods", "two", namespace, grace=0)
    wait("the share to end", lambda: not shares_of(cluster, namespace, "shared"))
    wait_agreed(cluster)


def test_each_container_gets_the_request_that_it_names(cluster: Cluster, namespace: str) -> None:
    both = claim(
        "both",
        request("small", capacity=sized(10, 1000)),
        request("large", capacity=sized(30, 2000)),
    )
    pod = tenants.pod("one", "tenant", "1", claims=["both"])
    pod["spec"]["containers"] = [tenants.container_of(n, "tenant", "1") for n in ("small", "large")]
    for container in pod["spec"]["containers"]:
        container["resources"] = {"claims": [{"name": "c0", "request": container["name"]}]}
    create(cluster, namespace, both, pod)
    for name, mebibytes in (("small", 1000), ("large", 2000)):
        (gpu,) = tenants.seen(cluster, namespace, "one", name)
        assert gpu.total_bytes == mebibytes * MIB
    wait_agreed(cluster)


def test_a_share_config_says_how_the_share_is_held(cluster: Cluster, namespace: str) -> None:
    settings = {**CONFIG, "policy": "elastic", "priority": "high"}
    made = claim("mine", request("gpu", capacity=sized(20, 1000)), config=settings)
    create(cluster, namespace, made, tenants.pod("one", "tenant", "1", claims=["mine"]))
    cluster.wait_phase(namespace, "one", "Running")
    (share,) = shares_of(cluster, namespace, "mine")
    assert (share.limits.policy, share.limits.priority) == (Policy.ELASTIC, Priority.HIGH)
    assert (share.owner.namespace, share.owner.claim) == (namespace, "mine")
    assert share.owner.pod == "one"


def test_a_mistake_in_a_share_config_is_told_in_the_pod_s_events(
    cluster: Cluster, namespace: str
) -> None:
    settings = {**CONFIG, "policy": "soft"}
    made = claim("wrong", request("gpu", capacity=sized(20, 1000)), config=settings)
    create(cluster, namespace, made, tenants.pod("one", claims=["wrong"]))
    sentence = "The ShareConfig has policy 'soft': write one of hard, elastic."
    wait(
        "the sentence",
        lambda: any(sentence in one for one in cluster.events(namespace, "one")),
    )
    assert cluster.pod(namespace, "one")["status"]["phase"] == "Pending"
    cluster.api.delete("pods", "one", namespace, grace=0)
    wait_agreed(cluster)


def test_the_claim_s_status_says_what_its_device_is(cluster: Cluster, namespace: str) -> None:
    made = claim("mine", request("gpu", capacity=sized(20, 1000)))
    create(cluster, namespace, made, tenants.pod("one", "tenant", "1", claims=["mine"]))

    def told() -> list[Object]:
        found = cluster.api.get("resourceclaims", "mine", namespace)
        devices: list[Object] = (found or {}).get("status", {}).get("devices", [])
        return devices

    (device,) = wait("the claim's status", told)
    (condition,) = device["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "True")
    assert (device["data"]["cores"], device["data"]["memoryBytes"]) == (20, 1000 * MIB)
    result = (cluster.api.get("resourceclaims", "mine", namespace) or {})["status"]["allocation"]
    assert device["shareID"] == result["devices"]["results"][0]["shareID"]


def test_an_extended_resource_is_a_share_of_the_default_size(
    cluster: Cluster, namespace: str
) -> None:
    pod = tenants.pod("one", "tenant", "1")
    pod["spec"]["containers"][0]["resources"] = {"limits": {"gpuslice.io/share": "1"}}
    cluster.api.create("pods", pod, namespace)
    (gpu,) = tenants.seen(cluster, namespace, "one")
    (share,) = (one for one in cluster.agent.snapshot().shares if one.owner.namespace == namespace)
    assert (share.limits.cores, share.limits.whole) == (EVERYTHING, False)
    assert gpu.total_bytes == share.limits.memory_bytes


def test_an_extended_resource_is_a_whole_gpu(cluster: Cluster, namespace: str) -> None:
    pod = tenants.pod("one", "tenant", "1")
    pod["spec"]["containers"][0]["resources"] = {"limits": {"gpuslice.io/gpu": "1"}}
    cluster.api.create("pods", pod, namespace)
    tenants.seen(cluster, namespace, "one")
    (share,) = (one for one in cluster.agent.snapshot().shares if one.owner.namespace == namespace)
    assert share.limits.whole


def test_an_administrator_sees_a_gpu_that_others_hold_and_takes_nothing(
    cluster: Cluster, namespace: str
) -> None:
    cluster.api.patch(
        "namespaces",
        namespace,
        {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}},
    )
    whole = claim("whole", request("gpu", "gpu.gpuslice.io"))
    create(cluster, namespace, whole, tenants.pod("one", "tenant", "1", claims=["whole"]))
    tenants.seen(cluster, namespace, "one")
    (held,) = shares_of(cluster, namespace, "whole")
    everything = [{"operator": "Exists"}]
    admin = request("gpu", "admin.gpuslice.io", adminAccess=True, tolerations=everything)
    watching = claim("watching", admin)
    create(cluster, namespace, watching, tenants.pod("admin", "tenant", "1", claims=["watching"]))
    seen = tenants.seen(cluster, namespace, "admin")
    (gpu,) = (one for one in seen if one.uuid == held.gpu_uuid)
    assert gpu.total_bytes > held.limits.memory_bytes - MIB
    assert shares_of(cluster, namespace, "watching") == []
    cluster.api.delete("pods", "admin", namespace, grace=0)
    cluster.wait_gone("pods", namespace, "admin")
    wait_agreed(cluster)
