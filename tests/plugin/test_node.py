"""The agent of a node, as a process, with what Kubernetes has at the other end of it."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuslice_agent.errors import AllocationError
from gpuslice_agent.model import GpuPath, ShareRequest
from gpuslice_agent.simulation import SimNode

from ..agent.daemon import AGENT, started
from ..agent.world import gpus_of

# Nobody listens on port 1.
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: agent, user: {token: none}}]
contexts: [{name: none, context: {cluster: none, user: agent}}]
current-context: none
"""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    with tempfile.TemporaryDirectory() as kubelet:  # the path of a socket has 107 bytes
        for folder in ("device-plugins", "plugins_registry", "plugins"):
            Path(kubelet, folder).mkdir()
        yield of_node(tmp_path, kubelet)


def of_node(tmp_path: Path, kubelet: str) -> tuple[str, ...]:
    return (
        "--node-name=node",
        f"--kubeconfig={tmp_path}/kubeconfig",
        f"--kubelet-dir={kubelet}",
        f"--cdi-dir={tmp_path}/cdi",
        "--plugin-gpus=0",
        "--dra-gpus=1",
    )


def test_an_agent_without_an_api_server_serves_its_node(
    node: SimNode, settings: tuple[str, ...]
) -> None:
    run_dir = node.run_directory.path
    with started(node.environment(os.environ), run_dir, *settings) as daemon:
        with daemon.client() as client:
            assert [gpu.path for gpu in client.list().gpus] == [GpuPath.PLUGIN, GpuPath.DRA]
            (share,) = client.create(ShareRequest(cores=10, gpus=("1",)))
            with pytest.raises(AllocationError):
                client.create(ShareRequest(cores=91, gpus=("1",)))
            client.release([share.id])
        assert daemon.process.poll() is None
        assert daemon.stop() == 0


def test_a_gpu_that_both_ways_would_hand_out_is_refused(
    node: SimNode, settings: tuple[str, ...]
) -> None:
    first = gpus_of(node)[0].uuid
    for plugin, dra, sentence in (
        ("0", first, f"GPU 0 ({first}) is in plugin_gpus and in dra_gpus"),
        ("all", "all", "plugin_gpus and dra_gpus are both 'all'"),
    ):
        ended = subprocess.run(
            [
                *AGENT,
                f"--run-dir={node.run_directory.path}",
                "--metrics-address=",
                *settings,
                f"--plugin-gpus={plugin}",
                f"--dra-gpus={dra}",
            ],
            env=node.environment(os.environ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 2
        assert sentence in ended.stderr.splitlines()[-1]


def test_an_agent_that_is_named_no_node_has_no_kubernetes(node: SimNode) -> None:
    with (
        started(node.environment(os.environ), node.run_directory.path) as daemon,
        daemon.client() as client,
    ):
        assert {gpu.path for gpu in client.list().gpus} == {GpuPath.LOCAL}


def test_the_first_pod_does_not_wait_for_the_cost_of_a_context(
    node: SimNode, settings: tuple[str, ...]
) -> None:
    awaited = {gpu.uuid for gpu in gpus_of(node)}
    with started(node.environment(os.environ), node.run_directory.path, *settings) as daemon:
        assert daemon.process.stderr is not None
        while awaited:  # the test's own time-out is the limit
            line = daemon.process.stderr.readline()
            if "context cost measured" in line:
                awaited.remove(line.split("uuid=")[1].split()[0])
