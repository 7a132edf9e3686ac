"""Kubernetes on this machine: one node in namespaces of its own, with everything but a registry."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from . import api, binaries, images, node
from .agent import MANIFESTS, Agent
from .api import Api, Object
from .container_runtime import ContainerRuntime
from .control_plane import NODE_NAME, ControlPlane
from .kubelet import Kubelet
from .node import Node
from .simulated_gpus import SimulatedGpus

READY_SECONDS = 60.0
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.1

# Which GPUs the device plugin has, and which the DRA driver.
SPLIT = {
    "2xa100-80g": {"plugin_gpus": "0", "dra_gpus": "1"},
    "dgx-h100": {"plugin_gpus": "0,1,2,3,4,5", "dra_gpus": "6,7"},
}

T = TypeVar("T")


class NotInTime(AssertionError):
    """What was waited for did not come; the message says what was there instead."""


@dataclass(frozen=True, slots=True)
class Cluster:
    node: Node
    kubernetes: Path
    containers: Path

    @property
    def node_name(self) -> str:
        return NODE_NAME

    @property
    def control_plane(self) -> ControlPlane:
        return ControlPlane(self.node, self.kubernetes)

    @property
    def runtime(self) -> ContainerRuntime:
        return ContainerRuntime(self.node, self.containers, images.PAUSE)

    @property
    def kubelet(self) -> Kubelet:
        return Kubelet(self.node, self.control_plane)

    @property
    def kubeconfig(self) -> Path:
        """Of somebody who may do everything."""
        return self.control_plane.kubeconfig("admin")

    @property
    def api(self) -> Api:
        return self.control_plane.api("admin")

    @property
    def gpus(self) -> SimulatedGpus:
        return SimulatedGpus(self.node)

    @property
    def agent(self) -> Agent:
        return Agent(self.node, self.control_plane, self.split)

    @property
    def split(self) -> dict[str, str]:
        """The settings that say which path each GPU belongs to."""
        return SPLIT[self.profile]

    @property
    def profile(self) -> str:
        """Of the simulated GPUs."""
        return (self.node.folder / "profile").read_text()

    def kubectl(self, *arguments: str, given: str = "") -> str:
        """What kubectl prints; AssertionError with its complaint when it fails."""
        done = subprocess.run(
            [self.kubernetes / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, manifest: str, namespace: str = "default") -> None:
        """Applies YAML with one or more objects."""
        self.kubectl("apply", f"--namespace={namespace}", "--filename=-", given=manifest)

    def create_namespace(self, name: str) -> None:
        """Returns once pods may be created in it."""
        self.api.create("namespaces", {"metadata": {"name": name}})
        wait(
            f"the service account of {name}",
            lambda: self.api.get("serviceaccounts", "default", name),
        )

    def remove_namespace(self, name: str) -> None:
        """Ends its pods at once and returns when they are gone; the rest follows in its time."""
        # First of all, so that no controller makes new ones.
        self.api.delete("namespaces", name)
        self.api.delete_all("pods", name, grace=1)
        wait(f"no pod in {name}", lambda: not self.api.list("pods", name))

    def exec(self, namespace: str, pod: str, *command: str, container: str = "") -> str:
        chosen = [f"--container={container}"] if container else []
        return self.kubectl("exec", f"--namespace={namespace}", pod, *chosen, "--", *command)

    def logs(self, namespace: str, pod: str, container: str = "", previous: bool = False) -> str:
        """What a container printed; nothing before it starts."""
        chosen = {"container": container} if container else {}
        before = {"previous": "true"} if previous else {}
        return self.api.log(namespace, pod, **chosen, **before)

    def pod(self, namespace: str, name: str) -> Object:
        """LookupError when there is none."""
        if found := self.api.get("pods", name, namespace):
            return found
        raise LookupError(f"no pod {namespace}/{name}")

    def events(self, namespace: str, name: str) -> list[str]:
        """What was said of an object, oldest first."""
        found = self.api.list("events", namespace, fieldSelector=f"involvedObject.name={name}")
        found.sort(key=lambda event: event["metadata"]["creationTimestamp"])
        return [f"{event['reason']}: {event['message']}" for event in found]

    def wait_phase(
        self, namespace: str, name: str, *phases: str, seconds: float = WAIT_SECONDS
    ) -> Object:
        """Waits for a pod to be Running, Succeeded, … Says its events if it does not get there."""

        def there() -> Object | None:
            pod = self.api.get("pods", name, namespace)
            return pod if pod and pod["status"]["phase"] in phases else None

        try:
            return wait(f"pod {name} to be {' or '.join(phases)}", there, seconds)
        except NotInTime as error:
            status = (self.api.get("pods", name, namespace) or {}).get("status")
            said = "\n".join(self.events(namespace, name))
            raise NotInTime(f"{error}\n{status}\n{said}") from None

    def wait_gone(
        self, kind: str, namespace: str, name: str, seconds: float = WAIT_SECONDS
    ) -> None:
        wait(
            f"{kind} {name} to be gone",
            lambda: self.api.get(kind, name, namespace) is None,
            seconds,
        )

    def node_status(self) -> Object:
        found = self.api.get("nodes", NODE_NAME)
        status: Object = found["status"] if found else {}
        return status

    def wait_served(self) -> None:
        """Until the scheduler may count on the GPUs: the plugin's and the claims'."""
        wait("the device plugin's resources and the slices", self.served)

    def served(self) -> bool:
        allocatable = self.node_status().get("allocatable", {})
        there = [name for name, amount in allocatable.items() if amount != "0"]
        return {"nvidia.com/gpu", "nvidia.com/gpucores", "nvidia.com/gpumem"} <= set(
            there
        ) and bool(self.api.list("resourceslices"))

    def start_agent(self, **settings: object) -> None:
        """Returns once it serves and the kubelet knows its driver: until then pods with claims
        fail for a minute."""
        before = self.registrations()
        self.agent.start(**settings)
        wait("the kubelet to know the driver", lambda: self.registrations() > before)
        self.wait_served()

    def registrations(self) -> int:
        """How often a kubelet has taken the driver of this node's agents."""
        log = self.agent.process.log.read_text()
        return log.count("registered with the kubelet plugin=gpu.gpuslice.io")

    def restart_kubelet(self) -> None:
        self.kubelet.process.stop()
        self.start_kubelet()

    def start_kubelet(self) -> None:
        """Returns once it serves and knows its pods again."""
        self.kubelet.start()
        wait("the kubelet to know its pods", self._kubelet_knows_all)

    def _kubelet_knows_all(self) -> bool:
        answer = self.api.request("GET", f"{api.CORE}/nodes/{NODE_NAME}/proxy/pods")
        known: list[Object] = answer["items"] or []
        bound = self.api.list("pods", fieldSelector=f"spec.nodeName={NODE_NAME}")
        return {uid(pod) for pod in bound} <= {uid(pod) for pod in known}

    def bring_up(self, profile: str, archives: Iterable[Path]) -> None:
        (self.node.folder / "profile").write_text(profile)
        self.gpus.create(profile)
        self.control_plane.start()
        self.runtime.start()
        self.kubelet.start()
        for archive in archives:
            self.runtime.load(archive)
        wait("the node to be Ready", self._node_ready, READY_SECONDS)
        self.kubectl("apply", "--server-side", f"--kustomize={MANIFESTS}")

    def _node_ready(self) -> bool:
        conditions = self.node_status().get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def uid(one: Object) -> str:
    return str(one["metadata"]["uid"])


def wait(what: str, condition: Callable[[], T | None], seconds: float = WAIT_SECONDS) -> T:
    """Looks again and again until the condition yields something true, and returns that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise NotInTime(f"waited {seconds:.0f} s for {what}, last seen: {found!r}")
        time.sleep(POLL_SECONDS)
    return found


def attach(name: str, kube: str) -> Cluster:
    """The one that is up."""
    return Cluster(Node(node.CLUSTERS / name), binaries.kubernetes(kube), binaries.containers())


def start(name: str, profile: str, kube: str, lease: int | None = None) -> Cluster:
    """Builds what is missing, which takes minutes the first time, and brings a cluster up, with the
    manifests of the agent but no agent. With a lease (see `node.start`) it does not outlive this
    process."""
    kubernetes, containers = binaries.kubernetes(kube), binaries.containers()
    archives = (images.pause(), images.tenant())
    cluster = Cluster(node.start(name, lease), kubernetes, containers)
    try:
        cluster.bring_up(profile, archives)
    except BaseException:
        node.remove(name)
        raise
    return cluster


@contextlib.contextmanager
def temporary(name: str, profile: str, kube: str) -> Generator[Cluster]:
    """Gone with the block, and with this process however that ends."""
    reading, writing = os.pipe()
    try:
        cluster = start(name, profile, kube, reading)
        os.close(reading)
        yield cluster
    finally:
        node.remove(name)
        os.close(writing)
