"""A pod that goes round the shim: refused by the kernel, or, where that has no wall, found."""

import re
from collections.abc import Generator
from contextlib import closing, contextmanager

import pytest

from gpuslice_agent.control.client import connect
from gpuslice_agent.errors import ControlError
from gpuslice_agent.run_directory import RunDirectory

from . import tenants
from .agent import RUN
from .api import Object
from .cluster import Cluster, wait

LIMIT_MIB = 3000
OUT_OF_MEMORY = 2

# Throws the preload off, which is mounted over the file that every loader reads: by another loader.
OTHER_LOADER = """
import os, sys
loader = open("/lib64/ld-linux-x86-64.so.2", "rb").read()
with open("/tmp/loader", "wb") as file:
    file.write(loader.replace(b"/etc/ld.so.preload", b"/etc/no.such.file."))
os.chmod("/tmp/loader", 0o755)
os.environ.pop("LD_PRELOAD", None)
os.execv("/tmp/loader", ["/tmp/loader", sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
"""

TAKE = """
import ctypes, signal
assert "libgpuslice" not in open("/proc/self/maps").read()
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer, taken = ctypes.c_void_p(), ctypes.c_void_p(), 0
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
while not (error := cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(2 << 20))):
    taken += 2
print(f"took={taken} refused={error}\\nready", flush=True)
signal.pause()
"""

ROUND_IT = {
    "another loader": ("python3", "-c", OTHER_LOADER, TAKE),
    "static": ("static-tenant",),
}


def pod_of_plugin(name: str, *command: str) -> Object:
    limits = {"gpucores": 50, "gpumem": LIMIT_MIB}
    return tenants.pod(name, *command, limits=limits)


def pod_of_claim(cluster: Cluster, namespace: str, name: str, way: str, *more: str) -> Object:
    template = tenants.template("share", 50, LIMIT_MIB)
    cluster.api.create("resourceclaimtemplates", template, namespace)
    return tenants.pod(name, *ROUND_IT[way], *more, template="share")


def took(cluster: Cluster, namespace: str, name: str, refused: int = OUT_OF_MEMORY) -> int:
    """MiB that the program of this pod got, and that it was refused then, or not at all (0)."""

    def said() -> int:
        log = cluster.logs(namespace, name)
        assert "error" not in log, log
        found = re.search(r"took=(\d+) refused=(\d+)", log)
        assert found is None or int(found[2]) == refused, log
        return int(found[1]) if found else 0

    return wait(f"{name} to be refused", said)


def held(cluster: Cluster, gpu: int) -> list[int]:
    """MiB that each program holds of this GPU, as the GPU itself counts."""
    return [
        use["memory_bytes"] >> 20
        for process in cluster.gpus.show()["processes"]
        if process["alive"]
        for use in process["gpus"]
        if use["index"] == gpu and use["memory_bytes"]
    ]


@contextmanager
def agent_without_wall(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, strangers: str
) -> Generator[None]:
    """Another agent for a while, as after a change of its configuration."""
    with monkeypatch.context() as environment:
        environment.setenv("GPUSLICE_KERNEL_WALL", "false")
        restart(cluster, strangers=strangers)
    assert served(cluster) == "shim"
    try:
        yield
    finally:
        restart(cluster)


def restart(cluster: Cluster, **settings: object) -> None:
    """Returns once the kubelet knows the new agent: a pod that comes sooner waits for a minute."""
    cluster.agent.stop()
    log = cluster.node.folder / "logs/agent.log"
    before = log.stat().st_size
    cluster.agent.start(**settings)
    line = b"registered with the kubelet"
    wait("the agent to be registered", lambda: line in log.read_bytes()[before:])


def served(cluster: Cluster) -> str:
    """Which walls the agent says there are; nothing while there is none."""
    try:
        return cluster.agent.snapshot().enforcement
    except ControlError:
        return ""


def test_the_node_says_which_walls_stand(cluster: Cluster) -> None:
    assert served(cluster) == "shim+kernel"


@pytest.mark.parametrize("way", ROUND_IT)
def test_a_pod_of_the_device_plugin_is_refused_at_its_limit(
    cluster: Cluster, namespace: str, way: str
) -> None:
    cluster.api.create("pods", pod_of_plugin("one", *ROUND_IT[way]), namespace)
    took(cluster, namespace, "one")
    assert held(cluster, 0) == [LIMIT_MIB]


@pytest.mark.parametrize("way", ROUND_IT)
def test_a_pod_with_a_claim_is_refused_at_its_limit(
    cluster: Cluster, namespace: str, way: str
) -> None:
    cluster.api.create("pods", pod_of_claim(cluster, namespace, "one", way), namespace)
    took(cluster, namespace, "one")
    assert held(cluster, 1) == [LIMIT_MIB]


def test_two_pods_of_one_claim_are_both_behind_the_wall(cluster: Cluster, namespace: str) -> None:
    cluster.api.create("resourceclaims", tenants.claim("shared", 50, LIMIT_MIB), namespace)
    for name in ("one", "two"):
        pod = tenants.pod(name, *ROUND_IT["static"], claims=["shared"])
        cluster.api.create("pods", pod, namespace)
        took(cluster, namespace, name)
    assert held(cluster, 1) == [LIMIT_MIB, LIMIT_MIB]


def test_the_wall_refuses_nothing_that_the_share_allows(cluster: Cluster, namespace: str) -> None:
    pod = tenants.pod("one", "tenant", limits={"gpucores": 50, "gpumem": LIMIT_MIB})
    cluster.api.create("pods", pod, namespace)
    (seen,) = tenants.seen(cluster, namespace, "one")
    assert seen.free_bytes == seen.took_bytes
    assert held(cluster, 0) == [LIMIT_MIB]


def test_the_wall_follows_a_resize(cluster: Cluster, namespace: str) -> None:
    cluster.api.create("pods", pod_of_plugin("one", *ROUND_IT["static"]), namespace)
    first = took(cluster, namespace, "one")
    (share,) = cluster.agent.snapshot().shares
    directory = RunDirectory(cluster.node.root / RUN.relative_to("/"))
    with closing(connect(directory)) as client:
        client.resize(share.id, memory_bytes=2 * LIMIT_MIB * tenants.MIB)

    def grown() -> int:
        cluster.exec(namespace, "one", "sh", "-c", "kill -USR1 1")
        log = cluster.logs(namespace, "one")
        total = sum(int(mib) for mib in re.findall(r"took=(\d+)", log))
        return total if total > first else 0

    assert wait("more memory", grown) == first + LIMIT_MIB


def test_without_the_wall_such_a_pod_is_found_and_reported(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent_without_wall(cluster, monkeypatch, "report"):
        pod = pod_of_claim(cluster, namespace, "one", "static", str(2 * LIMIT_MIB))
        cluster.api.create("pods", pod, namespace)
        assert took(cluster, namespace, "one", refused=0) == 2 * LIMIT_MIB
        (event,) = wait("an event", lambda: bypasses(cluster, namespace))
        assert "static-tenant" in event and "stopped" not in event
        assert cluster.pod(namespace, "one")["status"]["phase"] == "Running"
        strangers = [one for gpu in cluster.agent.snapshot().gpus for one in gpu.strangers]
        assert [one.name for one in strangers] == ["static-tenant"]


def test_without_the_wall_such_a_pod_is_stopped_where_the_policy_says_so(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent_without_wall(cluster, monkeypatch, "stop"):
        pod = pod_of_claim(cluster, namespace, "one", "static", str(2 * LIMIT_MIB))
        honest = tenants.pod("honest", "tenant", "100", template="share")
        cluster.api.create("pods", honest, namespace)
        tenants.seen(cluster, namespace, "honest")
        pod["spec"]["restartPolicy"] = "Never"
        cluster.api.create("pods", pod, namespace)
        ended = cluster.wait_phase(namespace, "one", "Failed")
        (status,) = ended["status"]["containerStatuses"]
        assert status["state"]["terminated"]["exitCode"] == 128 + 9
        (event,) = wait("an event", lambda: bypasses(cluster, namespace))
        assert event.endswith("it was stopped.")
        assert cluster.pod(namespace, "honest")["status"]["phase"] == "Running"


def bypasses(cluster: Cluster, namespace: str) -> list[str]:
    said = cluster.events(namespace, "one")
    return [event for event in said if event.startswith("GpuShareBypassed")]
