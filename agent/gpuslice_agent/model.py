"""The agent's nouns: immutable values, no I/O.

Sizes are bytes, times are nanoseconds unless the name says otherwise, ratios run from 0 to 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from gpuslice_agent.entities import NOTHING_KNOWN, Action, Effect, NodeHealth
from gpuslice_agent.mig import MigDevice, MigPlace, MigProfile
from gpuslice_agent.topology import NOTHING_SEEN, Topology


class Policy(StrEnum):
    HARD = "hard"  # never more than its cores, also when it is alone
    ELASTIC = "elastic"  # may use what others leave


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Order(StrEnum):
    """Which GPU is taken first of those that a share fits on."""

    BINPACK = "binpack"  # fill GPUs that are in use already
    SPREAD = "spread"  # the emptiest GPU first
    TOPOLOGY = "topology"  # GPUs near each other, and no near group broken without need


class Overcommit(StrEnum):
    OFF = "off"
    SWAP = "swap"  # what is not in use may be moved to host memory


class StrangerPolicy(StrEnum):
    """What becomes of programs that use a GPU without a share, or more than theirs."""

    REPORT = "report"
    STOP = "stop"  # those of pods that hold shares
    STOP_ALL = "stop-all"  # also those of other pods, and those outside pods


class GpuPath(StrEnum):
    """Who may be given a GPU, beside `gpuslice run`."""

    LOCAL = "local"  # nobody else
    PLUGIN = "plugin"  # containers, through the device plugin
    DRA = "dra"  # claims, through the DRA driver


class MemoryResource(StrEnum):
    """What a node calls the GPU memory that pods of the device plugin ask for."""

    MIB = "gpumem"
    PERCENTAGE = "gpumem-percentage"
    NONE = "none"


class NodeLabels(StrEnum):
    """Who writes the labels of the node in Kubernetes."""

    API = "api"  # the agent, through the API server
    NFD = "nfd"  # Node Feature Discovery, from a file that the agent writes
    NONE = "none"


class Unfit(StrEnum):
    """What becomes of a pod that the scheduler sent here and that fits on no GPU."""

    WAIT = "wait"
    EVICT = "evict"  # its controller tries elsewhere


class OwnerKind(StrEnum):
    PROCESS = "process"
    CONTAINER = "container"
    CLAIM = "claim"


class HealthState(StrEnum):
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class ShareState(StrEnum):
    READY = "ready"
    CORRUPT = "corrupt"  # a tenant damaged the usage file: no new process can join
    ENDING = "ending"  # released while processes still hold it; gone with the last of them


class Pacing(StrEnum):
    ARBITER = "arbiter"
    LOCAL = "local"  # no agent paces: the processes do it themselves
    NONE = "none"  # nothing to pace


@dataclass(frozen=True, slots=True)
class Health:
    """UNHEALTHY: nothing new is to be placed there."""

    state: HealthState
    reason: str = ""
    effect: Effect = Effect.NONE
    action: Action = Action.NONE


@dataclass(frozen=True, slots=True)
class Process:
    """A process on a GPU: one slot of a share, or, for a stranger, what NVML says."""

    pid: int  # as the agent sees it; 0 where it cannot be translated
    tenant_pid: int = 0  # as the tenant sees it
    name: str = ""
    memory_bytes: int = 0
    context_bytes: int = 0
    module_bytes: int = 0
    data_bytes: int = 0
    array_bytes: int = 0
    managed_bytes: int = 0
    pinned_bytes: int = 0  # host memory: shown, never charged
    swapped_bytes: int = 0
    busy_ns: int = 0
    throttled_ns: int = 0
    launches: int = 0
    last_activity_ns: int = 0  # CLOCK_MONOTONIC
    waiting: bool = False
    pod_uid: str = ""  # of a stranger, by its cgroup; empty outside pods
    container_id: str = ""


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process as NVML lists it."""

    pid: int
    memory_bytes: int | None  # None: the driver does not say


@dataclass(frozen=True, slots=True)
class Reading:
    """What NVML said last. None: this GPU does not say."""

    memory_used_bytes: int = 0
    utilization_ratio: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    memory_utilization_ratio: float | None = None  # time in which memory was read or written
    sm_clock_hertz: float | None = None
    memory_clock_hertz: float | None = None
    energy_joules: float | None = None  # since the driver was loaded
    pcie_replays: int | None = None  # the same
    processes: tuple[GpuProcess, ...] = ()
    mig: bool = False  # in MIG mode: programs see its partitions, or nothing
    mig_devices: tuple[MigDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int  # NVML's
    uuid: str
    name: str
    pci_bus_id: str
    memory_bytes: int  # what programs can use: the card's total less what the driver keeps
    compute_capability: tuple[int, int] | None = None
    numa_node: int | None = None
    # To other GPUs, by UUID: 0 is NVLink, 10 to 50 are NVML's topology levels.
    distances: tuple[tuple[str, int], ...] = ()
    reading: Reading = Reading()
    health: Health = Health(HealthState.UNKNOWN)
    strangers: tuple[Process, ...] = ()  # processes that hold no share
    path: GpuPath = GpuPath.LOCAL
    mig_profiles: tuple[MigProfile, ...] = ()  # empty: it cannot be cut
    foreign_partitions: tuple[MigDevice, ...] = ()  # those that are of no share
    # In MIG mode, and not ours to take out of it: neither shares nor whole.
    partitioned: bool = False


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a share. pid 0: no process's end releases it, it lives until it is released."""

    name: str = ""  # for people: a command line, a pod, a claim
    pid: int = 0
    start_time: int = 0  # clock ticks since boot, so that a reused pid is not taken for the owner
    kind: OwnerKind = OwnerKind.PROCESS
    # Of no two shares at once, and the same for the same wish again; empty: a share of `run`.
    # `pod/<uid>/<container>/<n>`, `claim/<uid>/<request>/<n>`.
    key: str = ""
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    container: str = ""
    claim: str = ""
    claim_uid: str = ""
    pod_uids: tuple[str, ...] = ()  # of a claim: those that use it
    # When in the life of its pod the share is in use: init containers run one after another.
    # Shares of one pod that never meet are not summed. Empty: always.
    moments: tuple[int, ...] = ()
    # CDI devices by which containers get the share. The first carries it; the others are names that
    # the kubelet was given for the same container.
    cdi_devices: tuple[str, ...] = ()

    @property
    def pods(self) -> frozenset[str]:
        """The UIDs of all pods that have the share."""
        return frozenset(filter(None, (self.pod_uid, *self.pod_uids)))

    def meets(self, other: "Owner") -> bool:
        """Whether there is a moment at which both are in use."""
        if self.pod_uid != other.pod_uid or not (self.moments and other.moments):
            return True
        return not set(self.moments).isdisjoint(other.moments)


@dataclass(frozen=True, slots=True)
class Limits:
    cores: int  # percent of GPU time, 0 to 100; 0: nothing promised
    memory_bytes: int
    policy: Policy = Policy.HARD
    priority: Priority = Priority.NORMAL
    weight: int = 1
    overcommit: Overcommit = Overcommit.OFF
    # The GPU itself: all its time and memory, without shim and files, and nobody beside it.
    whole: bool = False
    # Of a whole MIG partition: which. Others may have the rest of the GPU.
    mig: MigPlace | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of a share do, as of the last look."""

    used_bytes: int = 0
    busy_ns: int = 0
    busy_ratio: float = 0.0  # of the last interval
    throttled_ns: int = 0
    throttled: bool = False  # held back within the last interval
    over_bytes: int = 0  # on the card beyond the limit, by NVML
    pacing: Pacing = Pacing.NONE
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    id: str
    gpu_uuid: str
    limits: Limits
    owner: Owner
    created_at: float  # seconds since the epoch
    directory: str = ""  # where grant, usage and doorbell lie; empty: a whole GPU
    state: ShareState = ShareState.READY
    usage: Usage = Usage()
    mig: MigDevice | None = None  # the partition, once it is there


@dataclass(frozen=True, slots=True)
class ShareRequest:
    """What a tenant asks for. None where it left the choice to us."""

    cores: int | None = None
    memory_bytes: int | None = None
    gpus: tuple[str, ...] = ()  # NVML indices or UUIDs; empty: placed by `placement`
    count: int = 1  # how many shares, each on a GPU of its own, where `gpus` is empty
    policy: Policy | None = None
    priority: Priority = Priority.NORMAL
    weight: int = 1
    placement: Order | None = None
    owner: Owner = Owner()
    memory_percent: int | None = None  # of the GPU's; where `memory_bytes` is None
    overcommit: Overcommit = Overcommit.OFF
    whole: bool = False  # the GPU itself; then no size is asked for


@dataclass(frozen=True, slots=True)
class Allocation:
    """A place for one share, not yet taken."""

    gpu_uuid: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class Placement:
    """A place that somebody has chosen, and who gets it."""

    gpu_uuid: str
    limits: Limits
    owner: Owner
    id: str = ""  # that the share gets where it is free; it names a directory. Empty: any


@dataclass(frozen=True, slots=True)
class Promise:
    """The sum of what shares were promised on one GPU."""

    cores: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole node at one moment."""

    taken_at: float = 0.0  # seconds since the epoch
    driver_version: str = ""
    cuda_version: str = ""
    enforcement: str = "shim"  # shim | shim+kernel: which walls stand
    simulated: bool = False
    gpus: tuple[Gpu, ...] = ()
    shares: tuple[Share, ...] = ()
    topology: Topology = NOTHING_SEEN
    problem: str = ""  # why no GPU can be seen; empty where some can
    health: NodeHealth = NOTHING_KNOWN
    strangers_stopped: int = 0  # since the agent started

    def gpu(self, uuid: str) -> Gpu | None:
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)

    def promised(self, uuid: str) -> Promise:
        return promise(share for share in self.shares if share.gpu_uuid == uuid)


def promise(shares: Iterable[Share]) -> Promise:
    """What is promised on one GPU. Of shares of one pod it is the moment with most that counts."""
    of_pod: dict[str, list[Share]] = {}
    for share in shares:
        of_pod.setdefault(share.owner.pod_uid if share.owner.moments else "", []).append(share)
    always = of_pod.pop("", [])
    groups = [_most_at_once(held) for held in of_pod.values()]
    return Promise(
        sum(share.limits.cores for share in always) + sum(cores for cores, _ in groups),
        sum(share.limits.memory_bytes for share in always) + sum(size for _, size in groups),
    )


def _most_at_once(shares: list[Share]) -> tuple[int, int]:
    """Cores and bytes, each at its own worst moment."""
    moments = {moment for share in shares for moment in share.owner.moments}
    at_once = [[one.limits for one in shares if when in one.owner.moments] for when in moments]
    return (
        max(sum(limits.cores for limits in held) for held in at_once),
        max(sum(limits.memory_bytes for limits in held) for held in at_once),
    )
