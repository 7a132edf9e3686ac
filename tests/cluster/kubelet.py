"""The kubelet of one node."""

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from . import container_runtime, keeper
from .control_plane import NODE_NAME, ControlPlane
from .node import Node, NodeError, Process

PORT = 10250
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Kubelet:
    node: Node
    control_plane: ControlPlane

    def start(self) -> Process:
        """Returns once it serves logs and exec."""
        for hierarchy in keeper.hierarchies():
            (hierarchy / keeper.cgroup_of(self.node.folder)).mkdir(exist_ok=True)
        config = self.node.folder / "kubelet.json"
        config.write_text(json.dumps(_config(self.node.folder), indent=2))
        started = self.node.start(
            "kubelet",
            self.control_plane.kubernetes / "kubelet",
            f"--config={config}",
            f"--kubeconfig={self.control_plane.kubeconfig('kubelet')}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={self.node.address}",
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._serves():
            if not started.alive() or time.monotonic() > deadline:
                raise NodeError(f"the kubelet does not start\n{started.tail()}")
            time.sleep(0.02)
        return started

    def _serves(self) -> bool:
        try:
            socket.create_connection((self.node.address, PORT), timeout=5).close()
        except OSError:
            return False
        return True

    @property
    def process(self) -> Process:
        return self.node.process("kubelet")


def _config(folder: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{container_runtime.SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{keeper.cgroup_of(folder)}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # Whoever reaches the kubelet is in the node already.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "enforceNodeAllocatable": ["none"],
        "localStorageCapacityIsolation": False,
        # A machine that others fill must not make this kubelet evict.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        "maxPods": 250,
        # Nobody answers there; without it every pod gets an event about it.
        "clusterDNS": ["10.96.0.10"],
        "resolvConf": "",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }
