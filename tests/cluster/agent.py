"""The agent of this checkout, as a process of the node with the rights of its service account."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from gpuslice_agent.control.client import connect
from gpuslice_agent.model import Snapshot
from gpuslice_agent.run_directory import RunDirectory

from . import keeper
from .api import Object
from .control_plane import NODE_NAME, ControlPlane
from .node import REPOSITORY, Node, Process
from .simulated_gpus import DIRECTORY, SimulatedGpus

MANIFESTS = REPOSITORY / "deploy/base"
NAMESPACE = "gpuslice"
ACCOUNT = "gpuslice-agent"
TOKEN_SECONDS = 86_400
RUN = Path("/run/gpuslice")
STATE = Path("/var/lib/gpuslice")
COMMAND = (sys.executable, "-m", "gpuslice_agent.cli")


@dataclass(frozen=True, slots=True)
class Agent:
    node: Node
    control_plane: ControlPlane
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    """By the names of the flags, which are those of the fields of Config."""

    @property
    def process(self) -> Process:
        return self.node.process("agent")

    @property
    def kubeconfig(self) -> Path:
        return self.control_plane.kubeconfig("agent")

    @property
    def state(self) -> Path:
        """The folder of the ledger."""
        return self.node.root / STATE.relative_to("/")

    def start(self, **settings: object) -> Process:
        """Does not wait for anything; `settings` go over those of this object."""
        return self.start_as(COMMAND, **settings)

    def start_as(self, program: Sequence[str], /, **settings: object) -> Process:
        """The same, by a program that takes what `gpuslice` takes."""
        if not self.kubeconfig.exists():
            self.control_plane.write_kubeconfig(self.kubeconfig, self._token())
        chosen = {**self._settings(), **self.settings, **settings}
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
        return self.node.start("agent", *program, "agent", *flags, environment=self._environment())

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.stop(signal.SIGKILL)

    def command(self, *arguments: str) -> str:
        """What `gpuslice ARGUMENTS` prints on the node."""
        variables = [f"{name}={value}" for name, value in self._variables().items()]
        return self.node.run("env", *variables, *COMMAND, *arguments)

    def snapshot(self) -> Snapshot:
        directory = RunDirectory(self.node.root / RUN.relative_to("/"))
        with closing(connect(directory)) as client:
            return client.list()

    def _settings(self) -> dict[str, object]:
        return {
            "node_name": NODE_NAME,
            "kubeconfig": self.kubeconfig,
            "run_dir": RUN,
            "state_dir": STATE,
            "cgroup_root": f"/{keeper.cgroup_of(self.node.folder)}",
            "poll_interval": 0.2,
            "kmsg": DIRECTORY / "kmsg",
        }

    def _variables(self) -> dict[str, str]:
        return {**SimulatedGpus(self.node).environment(), "GPUSLICE_RUN_DIR": str(RUN)}

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self._variables()}

    def _token(self) -> str:
        """As the kubelet asks for one on behalf of a pod: it names the node."""
        api = self.control_plane.api("admin")
        node = api.get("nodes", NODE_NAME)
        assert node is not None
        bound = {
            "kind": "Node",
            "apiVersion": "v1",
            "name": NODE_NAME,
            "uid": node["metadata"]["uid"],
        }
        wanted: Object = {"spec": {"boundObjectRef": bound, "expirationSeconds": TOKEN_SECONDS}}
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token"
        return str(api.request("POST", path, wanted)["status"]["token"])
