"""etcd, API server, controller manager and scheduler of one node.

Rights are as in a real cluster: node and RBAC authorization, node restriction, service accounts.
"""

import base64
import contextlib
import http.client
import json
import secrets
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .api import Api
from .node import Node, NodeError

NODE_NAME = "gpu-node"
SERVICE_RANGE = "10.96.0.0/16"
# The first of the range: the service `kubernetes`. It is an address of the node, where the API
# server listens, so pods reach it without a kube-proxy.
SERVICE_ADDRESS = "10.96.0.1"
PORT = 443
START_SECONDS = 90.0

# Who may talk to the API server with a token of the file, and as what.
USERS = {
    "admin": ("admin", "system:masters"),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
}


@dataclass(frozen=True, slots=True)
class ControlPlane:
    node: Node
    kubernetes: Path
    """The folder with the components."""

    @property
    def folder(self) -> Path:
        return self.node.folder / "control-plane"

    @property
    def authority(self) -> Path:
        """Signs the API server's certificate, which this server made for itself."""
        return self.folder / "certificates/apiserver.crt"

    @property
    def audit_log(self) -> Path:
        """What service accounts asked for, an event a line."""
        return self.folder / "audit.log"

    @property
    def server(self) -> str:
        return f"https://{self.node.address}:{PORT}"

    def api(self, user: str) -> Api:
        return Api(self.kubeconfig(user))

    def kubeconfig(self, user: str) -> Path:
        return self.folder / f"{user}.kubeconfig"

    def start(self) -> None:
        """Returns once the API server is ready."""
        self.folder.mkdir()
        self.node.run("ip", "address", "add", f"{SERVICE_ADDRESS}/32", "dev", "lo")
        tokens = {user: secrets.token_hex(16) for user in USERS}
        lines = (f'{tokens[user]},{name},{user},"{group}"' for user, (name, group) in USERS.items())
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        subprocess.run(
            ["openssl", "genrsa", "-out", self.folder / "service-accounts.key", "2048"],
            check=True,
            capture_output=True,
        )
        self._start("etcd", _etcd(self.folder))
        self._start("kube-apiserver", self._apiserver())
        self._wait_until_ready()
        for user, token in tokens.items():
            self.write_kubeconfig(self.kubeconfig(user), token)
        self._start("kube-controller-manager", self._controller_manager())
        self._start("kube-scheduler", self._with_kubeconfig("kube-scheduler"))

    def write_kubeconfig(self, path: Path, token: str) -> None:
        authority = base64.b64encode(self.authority.read_bytes()).decode()
        cluster = {"server": self.server, "certificate-authority-data": authority}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        path.touch(0o600)
        path.write_text(json.dumps(content, indent=2))

    def _start(self, component: str, flags: Mapping[str, object]) -> None:
        words = (f"--{name}={value}" for name, value in flags.items())
        self.node.start(component, self.kubernetes / component, *words)

    def _apiserver(self) -> dict[str, object]:
        key = self.folder / "service-accounts.key"
        return {
            "etcd-servers": "http://127.0.0.1:2379",
            "bind-address": "0.0.0.0",
            "secure-port": PORT,
            "advertise-address": self.node.address,
            "kubelet-preferred-address-types": "InternalIP",
            "cert-dir": self.folder / "certificates",
            "token-auth-file": self.folder / "tokens.csv",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "service-cluster-ip-range": SERVICE_RANGE,
            "allow-privileged": "true",
            "audit-policy-file": self._audit_policy(),
            "audit-log-path": self.audit_log,
            # One node's agent must not be hidden by the limit for all of a real cluster's clients.
            "enable-priority-and-fairness": "false",
        }

    def _audit_policy(self) -> Path:
        """Every request of a service account, for the tests that compare rights with use."""
        rules = [
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ]
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": rules,
        }
        path = self.folder / "audit-policy.json"
        path.write_text(json.dumps(policy))
        return path

    def _controller_manager(self) -> dict[str, object]:
        return {
            **self._with_kubeconfig("kube-controller-manager"),
            "service-account-private-key-file": self.folder / "service-accounts.key",
            "root-ca-file": self.authority,
            "use-service-account-credentials": "true",
            "kube-api-qps": 200,
            "kube-api-burst": 400,
        }

    def _with_kubeconfig(self, component: str) -> dict[str, object]:
        path = self.kubeconfig(component)
        return {
            "kubeconfig": path,
            "authentication-kubeconfig": path,
            "authorization-kubeconfig": path,
            "leader-elect": "false",
        }

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            apiserver = self.node.process("kube-apiserver")
            if not apiserver.alive() or time.monotonic() > deadline:
                raise NodeError(f"the API server does not start\n{apiserver.tail()}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            # The server has just made it.
            context = ssl.create_default_context(cafile=self.authority)
            asking = http.client.HTTPSConnection(
                self.node.address, PORT, context=context, timeout=5
            )
            with contextlib.closing(asking) as connection:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == http.client.OK
        except OSError:
            return False


def _etcd(folder: Path) -> dict[str, object]:
    return {
        "data-dir": folder / "etcd",
        "listen-client-urls": "http://127.0.0.1:2379",
        "advertise-client-urls": "http://127.0.0.1:2379",
        "listen-peer-urls": "http://127.0.0.1:2380",
        "initial-advertise-peer-urls": "http://127.0.0.1:2380",
        "initial-cluster": "default=http://127.0.0.1:2380",
        # Nothing here outlives the machine.
        "unsafe-no-fsync": "true",
    }
