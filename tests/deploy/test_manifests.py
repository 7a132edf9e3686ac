"""A real API server takes every manifest of deploy/ as it stands, by its tool's own schema."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from ..cluster import go
from ..cluster.api import Refused
from .kubernetes import BASE, NAMESPACE, REPOSITORY, Kubernetes

pytestmark = pytest.mark.cluster

EXAMPLES = REPOSITORY / "deploy/examples"
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
# Their definitions are in no registry of packages: their shape is compared with what they document.
NOT_HERE = {"kueue.yaml", "volcano.yaml", "kserve.yaml"}
CONFIGURATION = "kube_scheduler_binpack.yaml"
PLAIN = sorted(
    path.name
    for path in EXAMPLES.glob("*.yaml")
    if path.name not in {*NOT_HERE, CONFIGURATION, "keda.yaml"}
)


def objects_in(path: Path) -> int:
    return len(re.findall(r"^kind:", path.read_text(), re.MULTILINE))


def try_out(kubernetes: Kubernetes, path: Path) -> str:
    """Everything but storing: decoded strictly, defaulted, validated, admitted."""
    return kubernetes.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", f"--filename={path}"
    )


@pytest.mark.parametrize("name", PLAIN)
def test_the_api_server_takes_the_example(kubernetes: Kubernetes, name: str) -> None:
    for namespace in ("monitoring", "team-vision"):
        try:
            kubernetes.admin.create("namespaces", {"metadata": {"name": namespace}})
        except Refused as error:
            assert error.status == 409
    taken = try_out(kubernetes, EXAMPLES / name).count("serverside-applied")
    assert taken == objects_in(EXAMPLES / name)


def test_kedas_own_definition_takes_the_example(kubernetes: Kubernetes) -> None:
    definitions = go.source(KEDA) / "config/crd/bases"
    kubernetes.kubectl(
        "apply", "--server-side", f"--filename={definitions}/keda.sh_scaledobjects.yaml"
    )
    kubernetes.kubectl(
        "wait", "--for=condition=established", "crd/scaledobjects.keda.sh", "--timeout=30s"
    )
    assert "serverside-applied" in try_out(kubernetes, EXAMPLES / "keda.yaml")


def test_the_scheduler_takes_the_binpack_configuration(
    kubernetes: Kubernetes, tmp_path: Path
) -> None:
    """It writes out what it has understood, and exits where there is something it has not."""
    given, understood = tmp_path / "given.yaml", tmp_path / "understood.yaml"
    client = f"clientConnection: {{kubeconfig: {kubernetes.plane.kubeconfig('kube-scheduler')}}}"
    given.write_text((EXAMPLES / CONFIGURATION).read_text() + client)
    scheduler = subprocess.Popen(
        [
            kubernetes.plane.kubernetes / "kube-scheduler",
            f"--config={given}",
            f"--write-config-to={understood}",
            "--secure-port=0",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (understood.exists() and "gpu-binpack" in understood.read_text()):
            assert scheduler.poll() is None
            time.sleep(0.05)
    finally:
        scheduler.kill()
        scheduler.wait()
    text = understood.read_text()
    assert "type: MostAllocated" in text
    assert re.search(r"name: nvidia.com/gpumem\s+weight: 10", text)


def test_the_device_classes_are_there_and_none_has_a_name_of_the_device_plugin(
    kubernetes: Kubernetes,
) -> None:
    classes = {
        one["metadata"]["name"]: one["spec"] for one in kubernetes.admin.list("deviceclasses")
    }
    assert set(classes) == {f"{kind}.gpuslice.io" for kind in ("share", "gpu", "mig", "admin")}
    names = [one["extendedResourceName"] for one in classes.values() if one.keys() > {"selectors"}]
    assert names
    assert all(name.startswith("gpuslice.io/") for name in names)


def test_the_agents_can_replace_each_other(kubernetes: Kubernetes) -> None:
    """A hostPort would keep the new agent of a node waiting for the old one's end."""
    (agents,) = kubernetes.admin.list("daemonsets", NAMESPACE)
    update = agents["spec"]["updateStrategy"]["rollingUpdate"]
    assert update == {"maxSurge": 1, "maxUnavailable": 0}
    pod = agents["spec"]["template"]["spec"]
    assert not pod.get("hostNetwork")
    assert not any("hostPort" in port for one in pod["containers"] for port in one["ports"])


def test_a_change_of_the_settings_replaces_the_agents(kubernetes: Kubernetes) -> None:
    """Its name, which the DaemonSet mounts, is made of its content."""
    (agents,) = kubernetes.admin.list("daemonsets", NAMESPACE)
    volumes = {one["name"]: one for one in agents["spec"]["template"]["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] != "gpuslice-agent"
    assert kubernetes.kubectl("kustomize", BASE).count(volumes["config"]["configMap"]["name"]) == 2
