"""The cluster itself: what the other tests take for granted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from . import node
from .cluster import Cluster, wait

ASK_API_SERVER = """
import os, ssl, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}/api/v1/nodes"
token = {"Authorization": f"Bearer {open(f'{folder}/token').read()}"}
context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
try:
    urllib.request.urlopen(urllib.request.Request(server, headers=token), context=context)
except urllib.error.HTTPError as error:
    print(error.code)
"""

SLEEPER = """
apiVersion: v1
kind: Pod
metadata: {name: sleeper}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "gpuslice.test/tenant:dev", imagePullPolicy: Never, command: [sleep, inf]}
"""


def test_a_pod_runs_python_and_reaches_the_api_server_with_no_rights(
    bare: Cluster, namespace: str
) -> None:
    bare.apply(SLEEPER, namespace)
    bare.wait_phase(namespace, "sleeper", "Running")
    assert bare.exec(namespace, "sleeper", "python3", "-c", ASK_API_SERVER).strip() == "403"


def test_a_running_pod_survives_a_restart_of_the_kubelet(bare: Cluster, namespace: str) -> None:
    bare.apply(SLEEPER, namespace)
    before = bare.wait_phase(namespace, "sleeper", "Running")
    bare.restart_kubelet()
    assert bare.exec(namespace, "sleeper", "echo", "yes") == "yes\n"
    after = bare.pod(namespace, "sleeper")
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]


def test_nothing_of_a_node_outlives_a_test_that_is_killed() -> None:
    name = f"test-{os.getpid()}-orphan"
    starter = (
        "import os, tests.cluster.node as node\n"
        "reading, writing = os.pipe()\n"
        f"node.start({name!r}, reading)\n"
        "os.close(reading)\n"
        "print('up', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter],
        cwd=node.REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as test:
        assert test.stdout
        assert test.stdout.readline() == "up\n"
        left = node.Node(node.CLUSTERS / name)
        process_one, interfaces = left.pid, left.address
        assert left.run("ip", "address").count(interfaces) == 1
        test.send_signal(signal.SIGKILL)
    wait("the node's folder to be gone", lambda: not left.folder.exists())
    assert not Path(f"/proc/{process_one}").exists()
    assert str(left.folder) not in Path("/proc/self/mountinfo").read_text()
