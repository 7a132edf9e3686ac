"""containerd of one node: runc, CDI, a bridge for the pods, images from files only."""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .node import Node, NodeError, Process

SOCKET = "/run/containerd/containerd.sock"
POD_RANGE = "10.244.0.0/16"
START_SECONDS = 30.0

CONFIG = """\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{snapshotter}"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime"]
  enable_cdi = true
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE runc cannot lower a score, and dies: "can't get final child's PID".
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{programs}"]
    conf_dir = "{networks}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{programs}/runc"
"""

NETWORK = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_RANGE}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}


@dataclass(frozen=True, slots=True)
class ContainerRuntime:
    node: Node
    programs: Path
    pause: str
    """The image of every pod's sandbox."""

    @property
    def process(self) -> Process:
        return self.node.process("containerd")

    def start(self) -> Process:
        networks = self.node.folder / "networks"
        networks.mkdir(exist_ok=True)
        (networks / "pods.conflist").write_text(json.dumps(NETWORK))
        config = self.node.folder / "containerd.toml"
        config.write_text(
            CONFIG.format(
                socket=SOCKET,
                snapshotter="overlayfs" if _overlays(self.node.folder) else "native",
                pause=self.pause,
                programs=self.programs,
                networks=networks,
            )
        )
        path = f"{self.programs}:{os.environ['PATH']}"
        started = self.node.start(
            "containerd",
            self.programs / "containerd",
            f"--config={config}",
            environment={**os.environ, "PATH": path},
        )
        deadline = time.monotonic() + START_SECONDS
        while not (self.node.root / SOCKET.removeprefix("/")).exists():
            if not started.alive() or time.monotonic() > deadline:
                raise NodeError(f"containerd does not start\n{started.tail()}")
            time.sleep(0.02)
        return started

    def load(self, archive: Path) -> None:
        """Makes the images of an archive, as `docker save` writes them, known to the kubelet."""
        # With the transfer service, ctr's default, it ends with "no unpack platforms defined".
        self.ctr("images", "import", "--local", "--no-unpack", str(archive))

    def ctr(self, *arguments: str) -> str:
        program = self.programs / "ctr"
        return self.node.run(program, "--address", SOCKET, "--namespace", "k8s.io", *arguments)


def _overlays(folder: Path) -> bool:
    """Whether an overlay can be made here: not on top of another, as in many containers."""
    with tempfile.TemporaryDirectory(dir=folder) as trial:
        parts = {name: Path(trial, name) for name in ("lower", "upper", "work", "merged")}
        for part in parts.values():
            part.mkdir()
        options = "lowerdir={lower},upperdir={upper},workdir={work}".format(**parts)
        mount = ["mount", "-t", "overlay", "-o", options, "overlay", str(parts["merged"])]
        # In namespaces of its own, which end with the trial.
        return not subprocess.run(["unshare", "--mount", *mount], capture_output=True).returncode
