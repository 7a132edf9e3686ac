"""The programs of a cluster, built once from the Go module proxy."""

import functools
from pathlib import Path

from . import cache, go

MODULE = Path(__file__).parent / "kubernetes"
# By what `KUBE=` says: the newest release that the module proxy has, and the one for the fall-backs
# (device plugin with shares, DRA with whole GPUs only).
KUBERNETES = {"1.36": ("v1.36.3", "go.mod"), "1.34": ("v1.34.4", "1.34.mod")}
NEWEST = "1.36"
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)

CONTAINERD = "github.com/containerd/containerd/v2/cmd"
CONTAINERD_VERSION = "v2.4.2"
RUNC = "github.com/opencontainers/runc@v1.5.2"
CNI = "github.com/containernetworking/plugins/plugins"
CNI_VERSION = "v1.9.1"


def kubernetes(minor: str) -> Path:
    """A folder with every name in COMPONENTS, all of them one static program."""
    version, modfile = KUBERNETES[minor]
    key = cache.key(MODULE / "main.go", MODULE / modfile, version, go.NAME)
    return cache.kept(
        f"kubernetes-{version}-{key}", functools.partial(_kubernetes, version, modfile)
    )


def _kubernetes(version: str, modfile: str, target: Path) -> None:
    major, minor, _ = version.removeprefix("v").split(".")
    # Without it every component calls itself v0.0.0, and the API server serves no feature gate.
    said = "k8s.io/component-base/version.git"
    stamps = f"-X {said}Version={version} -X {said}Major={major} -X {said}Minor={minor}"
    go.build(
        MODULE,
        target / "kubernetes",
        *("-modfile", modfile, "-trimpath", "-ldflags", f"-s -w {stamps}"),
        environment={"CGO_ENABLED": "0"},
    )
    for component in COMPONENTS:
        (target / component).symlink_to("kubernetes")


def containers() -> Path:
    """A folder with containerd, its shim, ctr, runc, and the CNI plug-ins."""
    key = cache.key(CONTAINERD_VERSION, RUNC, CNI_VERSION, go.NAME)
    return cache.kept(f"containers-{key}", _containers)


def _containers(target: Path) -> None:
    for program in ("containerd", "containerd-shim-runc-v2", "ctr"):
        go.install(target, f"{CONTAINERD}/{program}@{CONTAINERD_VERSION}")
    # Without seccomp every sandbox fails: "config provided but seccomp not supported".
    go.install(target, RUNC, "-tags", "seccomp", cgo=True)
    for plugin in ("main/bridge", "main/loopback", "ipam/host-local"):
        go.install(target, f"{CNI}/{plugin}@{CNI_VERSION}")
