"""What the tests ask of an API server: as its admin, and as the agent of a node."""

import http.client
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ..cluster.api import Api, Object, Refused
from ..cluster.control_plane import ControlPlane

REPOSITORY = Path(__file__).parents[2]
BASE = REPOSITORY / "deploy/base"
NODES = ("node-a", "node-b")
NAMESPACE = "gpuslice"
ACCOUNT = "gpuslice-agent"
ENFORCED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Kubernetes:
    plane: ControlPlane

    def as_user(self, name: str) -> Api:
        """`admin`, the agent of a node by the node's name, or an agent `nowhere`."""
        return Api(self.plane.kubeconfig(name))

    @property
    def admin(self) -> Api:
        return self.as_user("admin")

    def kubectl(self, *arguments: str | Path) -> str:
        """What kubectl prints; AssertionError with its complaint when it fails."""
        kubeconfig = self.plane.kubeconfig("admin")
        done = subprocess.run(
            [self.plane.kubernetes / "kubectl", f"--kubeconfig={kubeconfig}", *arguments],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self) -> None:
        """Applies deploy/base to two nodes with nothing behind them, and waits until its policy is
        enforced."""
        for node in NODES:
            self.admin.create("nodes", {"metadata": {"name": node}})
        self.kubectl("apply", "--server-side", f"--kustomize={BASE}")
        for node in NODES:
            self._run_agent(node)
        self.plane.write_kubeconfig(self.plane.kubeconfig("nowhere"), self._token())
        deadline = time.monotonic() + ENFORCED_SECONDS
        while not self._enforced():
            assert time.monotonic() < deadline, "the policy is not enforced"
            time.sleep(0.2)

    def pod(self, name: str, node: str, namespace: str = "default") -> Object:
        """Bound already, so that no scheduler is needed."""
        content: Object = {
            "metadata": {"name": name},
            "spec": {
                "nodeName": node,
                "serviceAccountName": ACCOUNT if namespace == NAMESPACE else "default",
                "containers": [{"name": "one", "image": "none"}],
            },
        }
        return self.admin.create("pods", content, namespace)

    def allocated_claim(self, name: str, node: str) -> None:
        """As the scheduler leaves it: the first GPU of the node."""
        request = {"name": "gpu", "exactly": {"deviceClassName": "gpu.gpuslice.io"}}
        content: Object = {
            "metadata": {"name": name},
            "spec": {"devices": {"requests": [request]}},
        }
        self.admin.create("resourceclaims", content, "default")
        result = {"request": "gpu", "driver": "gpu.gpuslice.io", "pool": node, "device": "gpu-0"}
        only = {"key": "metadata.name", "operator": "In", "values": [node]}
        allocation = {
            "devices": {"results": [result]},
            "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [only]}]},
        }
        self.admin.patch(
            "resourceclaims", f"{name}/status", {"status": {"allocation": allocation}}, "default"
        )

    def _run_agent(self, node: str) -> None:
        """No more of it than its token, as the kubelet of its node would ask for it."""
        self.pod(f"agent-{node}", node, NAMESPACE)
        token = self._token(f"--bound-object-name=agent-{node}", "--bound-object-kind=Pod")
        self.plane.write_kubeconfig(self.plane.kubeconfig(node), token)

    def _token(self, *flags: str) -> str:
        made = self.kubectl("create", "token", ACCOUNT, f"--namespace={NAMESPACE}", *flags)
        return made.strip()

    def _enforced(self) -> bool:
        try:
            self.as_user("nowhere").patch("nodes", NODES[0], {"metadata": {"labels": {}}})
        except Refused as error:
            return error.status == http.client.UNPROCESSABLE_ENTITY
        return False
