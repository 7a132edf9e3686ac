"""What the agent and its NVML child say: length-prefixed msgpack over a socket pair."""

import struct

import msgspec

from gpuslice_agent.model import Gpu, Reading

LENGTH = struct.Struct(">I")


class Describe(msgspec.Struct, frozen=True, tag="describe"):
    """Starts NVML if need be and lists what does not change while the driver is loaded."""


class Read(msgspec.Struct, frozen=True, tag="read"):
    """Reads what changes on one GPU."""

    uuid: str


class Description(msgspec.Struct, frozen=True, tag="description"):
    driver_version: str
    cuda_version: str
    gpus: tuple[Gpu, ...]


class Observation(msgspec.Struct, frozen=True, tag="observation"):
    reading: Reading


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    sentence: str


Request = Describe | Read
Answer = Description | Observation | Failure

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)

request_from = _requests.decode
answer_from = _answers.decode


def frame(message: Request | Answer) -> bytes:
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body
