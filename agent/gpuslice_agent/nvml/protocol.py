"""What the agent and its NVML child say: length-prefixed msgpack over a socket pair."""

import struct

import msgspec

from gpuslice_agent.mig import MigDevice, MigPlace
from gpuslice_agent.model import Gpu, Reading
from gpuslice_agent.nvml.vitals import Notice, Vitals
from gpuslice_agent.topology import GpuFacts

LENGTH = struct.Struct(">I")


class Describe(msgspec.Struct, frozen=True, tag="describe"):
    """Starts NVML if need be and lists what does not change while the driver is loaded."""


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Starts NVML and asks nothing of any GPU: one of them may hang."""


class Read(msgspec.Struct, frozen=True, tag="read"):
    """Reads what changes on one GPU."""

    uuid: str


class Examine(msgspec.Struct, frozen=True, tag="examine"):
    """Reads what tells whether one GPU is well."""

    uuid: str


class CanLimit(msgspec.Struct, frozen=True, tag="can-limit"):
    """Whether the driver limits the memory of cgroups like this one on a GPU."""

    uuid: str
    cgroup: str


class Limit(msgspec.Struct, frozen=True, tag="limit"):
    """Limits the memory of a cgroup on a GPU to bytes; None: no longer."""

    uuid: str
    cgroup: str
    size: int | None


class SetMigMode(msgspec.Struct, frozen=True, tag="set-mig-mode"):
    """Puts one GPU into MIG mode, or takes it out of it."""

    uuid: str
    enabled: bool


class ReadMig(msgspec.Struct, frozen=True, tag="read-mig"):
    """Reads whether one GPU is in MIG mode, and its partitions."""

    uuid: str


class MakePartition(msgspec.Struct, frozen=True, tag="make-partition"):
    """Makes what is missing of a MIG partition."""

    uuid: str
    place: MigPlace


class RemovePartition(msgspec.Struct, frozen=True, tag="remove-partition"):
    """Removes what is there of a MIG partition."""

    uuid: str
    place: MigPlace


class DescribeTopology(msgspec.Struct, frozen=True, tag="describe-topology"):
    """Lists how the GPUs are joined."""


class Description(msgspec.Struct, frozen=True, tag="description"):
    driver_version: str
    cuda_version: str
    gpus: tuple[Gpu, ...]


class Observation(msgspec.Struct, frozen=True, tag="observation"):
    reading: Reading


class Examination(msgspec.Struct, frozen=True, tag="examination"):
    vitals: Vitals


class TopologyFacts(msgspec.Struct, frozen=True, tag="topology"):
    gpus: tuple[GpuFacts, ...]


class Partitions(msgspec.Struct, frozen=True, tag="partitions"):
    enabled: bool
    devices: tuple[MigDevice, ...]


class Verdict(msgspec.Struct, frozen=True, tag="verdict"):
    yes: bool


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    sentence: str
    lost: bool = False  # the GPU that was asked for is off the bus


Request = (
    Start
    | Describe
    | DescribeTopology
    | Read
    | Examine
    | CanLimit
    | Limit
    | SetMigMode
    | ReadMig
    | MakePartition
    | RemovePartition
)
Answer = Description | TopologyFacts | Observation | Examination | Partitions | Verdict | Failure

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)

request_from = _requests.decode
answer_from = _answers.decode
notice_from = msgspec.msgpack.Decoder(Notice).decode


def frame(message: Request | Answer) -> bytes:
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body
