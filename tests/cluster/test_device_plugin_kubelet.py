"""The device plugin beside a kubelet that restarts, forgets and starts containers again."""

from gpuslice_agent import native_files

from . import ledger, tenants
from .agreement import wait_agreed
from .api import Object
from .cluster import Cluster, wait
from .simulated_gpus import DIRECTORY
from .tenants import MIB

PLUGINS = "var/lib/kubelet/device-plugins"
HALF = {"gpucores": 50, "gpumem": 3000}


def begin(cluster: Cluster, namespace: str, name: str, *command: str) -> None:
    cluster.api.create("pods", tenants.pod(name, *command, limits=HALF), namespace)
    cluster.wait_phase(namespace, name, "Running")


def share_of(cluster: Cluster, name: str, container: str = "main") -> str:
    (share,) = [
        share
        for share in ledger.shares(cluster.agent.state)
        if (share.owner.pod, share.owner.container) == (name, container)
    ]
    return share.id


def is_missed(cluster: Cluster) -> bool:
    return bool(cluster.node_status()["allocatable"].get("nvidia.com/gpucores") == "0")


def start_again(cluster: Cluster) -> None:
    """Only once the kubelet has told that the plugin was gone is it news that it is there."""
    wait("the plugin to be missed", lambda: is_missed(cluster))
    cluster.agent.start()
    cluster.wait_served()
    wait("the agent to answer", lambda: "gpuslice" in cluster.agent.command("status"))


def several(
    name: str, init: list[Object] | None = None, main: list[Object] | None = None
) -> Object:
    document = tenants.pod(name)
    document["spec"]["containers"] = main or []
    document["spec"]["initContainers"] = init or []
    return document


def test_a_container_that_crashes_and_restarts_keeps_its_share(
    cluster: Cluster, namespace: str
) -> None:
    once = "test -e /keep/mark && exec tenant 10; touch /keep/mark; sleep 1; exit 1"
    document = tenants.pod("crashing", "sh", "-c", once, limits=HALF)
    (container,) = document["spec"]["containers"]
    container["volumeMounts"] = [{"name": "keep", "mountPath": "/keep"}]
    document["spec"]["volumes"] = [{"name": "keep", "emptyDir": {}}]
    cluster.api.create("pods", document, namespace)
    cluster.wait_phase(namespace, "crashing", "Running")
    before = share_of(cluster, "crashing")
    (gpu,) = tenants.seen(cluster, namespace, "crashing")
    assert gpu.total_bytes == 3000 * MIB
    assert share_of(cluster, "crashing") == before
    (status,) = cluster.pod(namespace, "crashing")["status"]["containerStatuses"]
    assert status["restartCount"] == 1
    wait_agreed(cluster)


def test_init_container_and_main_container_are_never_summed(
    cluster: Cluster, namespace: str
) -> None:
    """80 and 70 of one GPU's time and two thirds of its memory each: only one after the other."""
    document = several(
        "stages",
        init=[
            tenants.container_of(
                "first", "sh", "-c", "tenant 10 & sleep 1", limits={"gpucores": 80, "gpumem": 50000}
            )
        ],
        main=[
            tenants.container_of("main", "tenant", "10", limits={"gpucores": 70, "gpumem": 60000})
        ],
    )
    cluster.api.create("pods", document, namespace)
    (gpu,) = tenants.seen(cluster, namespace, "stages", "main")
    assert gpu.total_bytes == 60000 * MIB
    assert "total=52428800000" in cluster.logs(namespace, "stages", "first")
    wait_agreed(cluster)


def test_a_sidecar_has_its_own_share_beside_init_and_main_container(
    cluster: Cluster, namespace: str
) -> None:
    side = tenants.container_of("side", "tenant", "10", limits={"gpucores": 20, "gpumem": 2000})
    early, late = {"gpucores": 80, "gpumem": 1000}, {"gpucores": 80, "gpumem": 3000}
    document = several(
        "beside",
        init=[
            {**side, "restartPolicy": "Always"},
            tenants.container_of("first", "sh", "-c", "tenant 10 & sleep 1", limits=early),
        ],
        main=[tenants.container_of("main", "tenant", "10", limits=late)],
    )
    cluster.api.create("pods", document, namespace)
    sizes = {
        container: tenants.seen(cluster, namespace, "beside", container)[0].total_bytes // MIB
        for container in ("side", "main")
    }
    assert sizes == {"side": 2000, "main": 3000}
    wait_agreed(cluster)


def test_after_a_kubelet_restart_the_plugin_is_registered_again_and_shares_go_on(
    cluster: Cluster, namespace: str
) -> None:
    begin(cluster, namespace, "before", "tenant", "10")
    share = share_of(cluster, "before")
    cluster.restart_kubelet()
    cluster.wait_served()
    begin(cluster, namespace, "after", "tenant", "10")
    assert share_of(cluster, "before") == share
    assert cluster.pod(namespace, "before")["status"]["phase"] == "Running"
    wait_agreed(cluster)


def test_after_its_own_restart_the_plugin_serves_what_it_gave_before(
    cluster: Cluster, namespace: str
) -> None:
    begin(cluster, namespace, "before", "tenant", "10")
    share = share_of(cluster, "before")
    cluster.agent.kill()
    start_again(cluster)
    assert share_of(cluster, "before") == share
    begin(cluster, namespace, "after", "tenant", "10")
    wait_agreed(cluster)


def test_a_pod_that_ends_while_the_agent_is_away_is_released_when_it_is_back(
    cluster: Cluster, namespace: str
) -> None:
    begin(cluster, namespace, "leaving", "tenant", "10")
    cluster.agent.kill()
    cluster.api.delete("pods", "leaving", namespace)
    cluster.wait_gone("pods", namespace, "leaving")
    start_again(cluster)
    wait("the share to be released", lambda: not cluster.agent.snapshot().shares)
    wait_agreed(cluster)


def test_a_force_deleted_pod_is_released(cluster: Cluster, namespace: str) -> None:
    begin(cluster, namespace, "forced", "tenant", "10")
    path = f"/api/v1/namespaces/{namespace}/pods/forced?gracePeriodSeconds=0"
    cluster.api.request("DELETE", path)
    wait("the share to be released", lambda: not cluster.agent.snapshot().shares)
    wait_agreed(cluster)


def test_a_socket_that_somebody_removes_is_made_again(cluster: Cluster, namespace: str) -> None:
    directory = cluster.node.root / PLUGINS
    removed = sorted(directory.glob("gpuslice-*.sock"))
    assert len(removed) == 2
    for socket in removed:
        socket.unlink()

    def again() -> bool:
        return len([one for one in directory.glob("gpuslice-*.sock") if one not in removed]) == 2

    wait("new sockets", again)
    cluster.wait_served()
    begin(cluster, namespace, "after", "tenant", "10")
    wait_agreed(cluster)


def test_memory_that_is_missing_from_the_node_s_status_is_written_again(cluster: Cluster) -> None:
    gone = {"status": {"capacity": {"nvidia.com/gpumem": None}}}
    cluster.api.patch("nodes", f"{cluster.node_name}/status", gone)
    wait(
        "the capacity to be there again",
        lambda: cluster.node_status()["capacity"].get("nvidia.com/gpumem"),
    )


def test_a_gpu_that_falls_off_the_bus_takes_its_numbers_along(
    cluster: Cluster, namespace: str
) -> None:
    begin(cluster, namespace, "unlucky", "sleep", "inf")
    inject(cluster, "xid", "79")
    try:
        wait("no number to be left", lambda: is_missed(cluster))
        (status,) = cluster.pod(namespace, "unlucky")["status"]["containerStatuses"]
        told = [one["health"] for one in status["allocatedResourcesStatus"][0]["resources"]]
        assert set(told) == {"Unhealthy"}
    finally:
        inject(cluster, "reset")
    cluster.wait_served()


def inject(cluster: Cluster, *fault: str) -> None:
    cluster.node.run(native_files.sim_node_program(), "inject", DIRECTORY, *fault)
