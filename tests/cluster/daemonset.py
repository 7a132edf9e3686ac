"""The agent as its users run it: the image of this checkout, from the manifests in deploy/."""

import json
import os
from pathlib import Path

from ..deploy import image
from . import keeper
from .cluster import Cluster, wait
from .node import REPOSITORY

OVERLAY = REPOSITORY / "deploy/overlays/simulated"
LABEL = "gpuslice.io/agent=true"
READY_SECONDS = 90.0


def install(cluster: Cluster) -> None:
    """Returns once the scheduler may count on the GPUs."""
    cluster.runtime.load(image.archive())
    cluster.kubectl("label", "node", cluster.node_name, LABEL)
    overlay = _overlay(cluster)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--kustomize={overlay}")
    wait("the agent's pod and the node's resources", cluster.served, READY_SECONDS)


def _overlay(cluster: Cluster) -> Path:
    """deploy/overlays/simulated with the settings of this one node."""
    folder = cluster.node.folder / "overlay"
    folder.mkdir()
    # What the ConfigMap there says is left out: one file holds all settings.
    settings = {**cluster.split, "cgroup_root": f"/{keeper.cgroup_of(cluster.node.folder)}"}
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    (folder / "agent.toml").write_text("".join(lines))
    generated = {
        "name": "gpuslice-agent",
        "namespace": "gpuslice",
        "behavior": "replace",
        "files": ["agent.toml"],
    }
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        # Kustomize takes no absolute path.
        "resources": [os.path.relpath(OVERLAY, folder)],
        "configMapGenerator": [generated],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content, indent=2))
    return folder
