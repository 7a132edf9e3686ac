"""The one Config: defaults, then file, environment and flags, each over the one before."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gpuslice_agent import run_directory
from gpuslice_agent.errors import ConfigError
from gpuslice_agent.mig import MigPolicy
from gpuslice_agent.model import MemoryResource, NodeLabels, Order, Policy, StrangerPolicy, Unfit

PREFIX = "GPUSLICE_"
SERVICE_STATE = Path("/var/lib/gpuslice")

Seconds = Annotated[float, Meta(ge=0.1, le=3600)]
# "all", "none", or NVML indices and UUIDs with commas between them.
GpuList = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+(,[A-Za-z0-9-]+)*$")]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    run_dir: Path
    """Socket, lock and the files of shares; on a tmpfs, for it is of no use after a reboot."""
    state_dir: Path
    """The ledger. Outlives the agent, not needed after a reboot."""
    metrics_address: Annotated[str, Meta(pattern=r"^(|.+:\d{1,5})$")] = "127.0.0.1:9477"
    """HOST:PORT of /metrics; empty: none."""
    metrics_tls_certificate: str = ""
    """Path of a PEM certificate (or chain) that /metrics is served with; empty: plain HTTP."""
    metrics_tls_key: str = ""
    """Path of its key."""
    metrics_basic_auth_file: str = ""
    """Path of the users who may read /metrics, as `htpasswd -nB` prints them; empty: everybody."""
    metrics_compatibility: Annotated[str, Meta(pattern=r"^((dcgm|hami)(,(dcgm|hami))*)?$")] = ""
    """Whose names /metrics has beside our own: dcgm (dcgm-exporter), hami."""
    poll_interval: Seconds = 1.0
    """Seconds between looks at GPUs and shares while there is a share or somebody watches."""
    idle_interval: Seconds = 15.0
    """The same at rest; a scrape interval, so that metrics are never older than two of them."""
    driver_root: Path = Path("/")
    """The root below which NVIDIA's driver is: in a container, where it has the node's root."""
    sysfs_dir: Path = Path("/sys")
    """Where the kernel shows its devices."""
    nvml_deadline: Seconds = 5.0
    """Seconds an NVML call may take before its GPU counts as hung; healthy: milliseconds."""
    nvml_start_deadline: Seconds = 60.0
    """The same for the first call, which may have to load the driver (seconds for each GPU)."""
    policy: Policy = Policy.HARD
    """For requests that name none."""
    placement: Order = Order.BINPACK
    """For requests that name none."""
    overcommit_ratio: Annotated[float, Meta(ge=1.0, le=100.0)] = 1.0
    """How far the memory promised on a GPU may exceed the card."""
    kernel_wall: bool = True
    """Limit the memory of pods in the kernel too, where the driver can (r615)."""
    cgroup_dir: Path = Path("/sys/fs/cgroup")
    """Where the node's control groups are; in a container, where it has the node's."""
    cgroup_root: str = "/"
    """The kubelet's `cgroupRoot`: the group below which it makes `kubepods`."""
    strangers: StrangerPolicy = StrangerPolicy.REPORT
    """What becomes of programs that use a GPU without a share, or more than theirs."""
    kmsg: Path = Path("/dev/kmsg")
    """The kernel's log, in which the driver tells of faults."""
    fault_catalogue: str = ""
    """Path of a file that is laid over our catalogue of faults; empty: none."""
    evict_from_lost_gpus: bool = False
    """End the pods on a GPU that is lost (with claims: by NoExecute), not only keep others away."""
    log_level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$")] = "info"
    private: bool = False
    """Started by `gpuslice run` for its user: ends with the last share and serves no metrics."""
    private_grace: Seconds = 3.0
    """Seconds a private agent waits for another share before it ends."""
    node_name: str = ""
    """The node's name in Kubernetes; empty: the agent has nothing to do with Kubernetes."""
    pod_name: str = ""
    """The agent's own pod, where it runs in one: events are about it."""
    pod_uid: str = ""
    """Tells apart the sockets of two agents while one takes over from the other."""
    kubeconfig: str = ""
    """Path of a kubeconfig for the API server; empty: the service account of the agent's pod."""
    kubelet_dir: Path = Path("/var/lib/kubelet")
    """The kubelet's --root-dir."""
    cdi_dir: Path = Path("/var/run/cdi")
    """Where the container runtime reads CDI specs, and the agent writes its own."""
    nvidia_cdi_dirs: Annotated[str, Meta(pattern=r"^/[^:]*(:/[^:]*)*$")] = "/etc/cdi:/var/run/cdi"
    """Where the node's CDI spec for nvidia.com/gpu lies, which nvidia-ctk makes."""
    plugin_gpus: GpuList = "none"
    """The GPUs that containers get through the device plugin."""
    dra_gpus: GpuList = "all"
    """The GPUs that claims get through the DRA driver. `all`: what plugin_gpus does not name."""
    mig: MigPolicy = MigPolicy.OFF
    """Whether claims may have GPUs of dra_gpus cut into MIG partitions."""
    resource_prefix: Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")] = (
        "nvidia.com"
    )
    """Of the device plugin's resources: nvidia.com/gpu, nvidia.com/gpucores and so on."""
    slots_per_gpu: Annotated[int, Meta(ge=1, le=256)] = 16
    """How many shares of Kubernetes a GPU may have at once."""
    memory_resource: MemoryResource = MemoryResource.MIB
    """What the device plugin's users ask memory by; one of the two on a node."""
    unfit: Unfit = Unfit.WAIT
    """A pod that fits on no GPU of this node waits, or is deleted."""
    unfit_seconds: Seconds = 60.0
    """How long a pod may find no room before it is deleted: room often comes back sooner."""
    node_labels: NodeLabels = NodeLabels.API
    """Who writes the node's labels: the agent, or Node Feature Discovery from a file in nfd_dir."""
    nfd_dir: Path = Path("/etc/kubernetes/node-feature-discovery/features.d")
    """Where Node Feature Discovery's worker reads features from files."""


RIGHT = {
    "evict_from_lost_gpus": "true or false",
    "metrics_address": "HOST:PORT, or empty for none",
    "metrics_tls_certificate": "a path, or empty for plain HTTP",
    "metrics_tls_key": "a path, or empty for plain HTTP",
    "metrics_basic_auth_file": "a path, or empty for no password",
    "metrics_compatibility": "dcgm, hami, dcgm,hami, or empty for our own names only",
    "poll_interval": "seconds from 0.1 to 3600",
    "idle_interval": "seconds from 0.1 to 3600",
    "nvml_deadline": "seconds from 0.1 to 3600",
    "nvml_start_deadline": "seconds from 0.1 to 3600",
    "private_grace": "seconds from 0.1 to 3600",
    "policy": "hard or elastic",
    "placement": "binpack, spread or topology",
    "overcommit_ratio": "a number from 1 to 100",
    "kernel_wall": "true or false",
    "cgroup_root": "the kubelet's cgroupRoot, such as / or /kubelet",
    "strangers": "report, stop or stop-all",
    "log_level": "debug, info, warning or error",
    "private": "true or false",
    "kubeconfig": "a path, or empty for the pod's service account",
    "nvidia_cdi_dirs": "absolute paths with colons between them",
    "plugin_gpus": "all, none, or indices and UUIDs with commas between them",
    "dra_gpus": "all, none, or indices and UUIDs with commas between them",
    "mig": "off or on-demand",
    "resource_prefix": "a domain such as nvidia.com",
    "slots_per_gpu": "a number from 1 to 256",
    "memory_resource": "gpumem, gpumem-percentage or none",
    "node_labels": "api, nfd or none",
    "unfit": "wait or evict",
    "unfit_seconds": "seconds from 0.1 to 3600",
    "node_name": "a node's name",
    "pod_name": "a pod's name",
    "pod_uid": "a pod's UID",
}


def load(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object], uid: int
) -> Config:
    """`flags` holds those given, by field name; `environ` is read for GPUSLICE_<FIELD>."""
    settings: dict[str, object] = {}
    given = {name: value for name, value in flags.items() if value is not None}
    for name, value in _from_file(file).items():
        settings[name] = _checked(f"{file}: {name}", name, value)
    for name, value in _from_environment(environ).items():
        settings[name] = _checked(_variable(name), name, value)
    for name, value in given.items():
        settings[name] = _checked(f"--{name.replace('_', '-')}", name, value)
    run_dir = settings.setdefault("run_dir", run_directory.locate(environ, uid).path)
    assert isinstance(run_dir, Path)
    settings.setdefault(
        "state_dir", SERVICE_STATE if run_dir == run_directory.SERVICE else run_dir / "state"
    )
    if settings.get("private"):
        settings["metrics_address"] = ""
    return Config(**settings)  # type: ignore[arg-type]  # each was checked above


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"The configuration {file} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration {file} is no TOML: {error}.") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    # Other GPUSLICE_ variables (shares, simulated node) speak to the shim and the simulation.
    names = Config.__struct_fields__
    given = {name: environ[_variable(name)] for name in names if _variable(name) in environ}
    # As for every command: an empty GPUSLICE_RUN_DIR names none.
    return {name: value for name, value in given.items() if value or name != "run_dir"}


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _checked(spelled: str, name: str, value: object) -> object:
    fields = {field.name: field.type for field in msgspec.structs.fields(Config)}
    if name not in fields:
        raise ConfigError(f"{spelled} is no setting; the settings are {', '.join(fields)}.")
    try:
        # Strings of the environment become numbers and booleans, as written in a file.
        return msgspec.convert(value, fields[name], strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        right = RIGHT.get(name, "a path")
        raise ConfigError(f"{spelled} = {value!r} is wrong: give {right}.") from error


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value).absolute()
    raise ValueError(f"{value!r} is no path")
