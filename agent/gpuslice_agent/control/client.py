"""Asks the agent. What it refuses is raised here as the error it refused with, in its words."""

import contextlib
import os
import socket
from collections.abc import Generator, Iterable, Iterator
from types import TracebackType
from typing import Self, cast

import grpc

from gpuslice_agent.control import messages
from gpuslice_agent.errors import (
    AgentAbsentError,
    AgentRefusedError,
    AllocationError,
    ControlError,
    GpusliceError,
    RequestError,
    ShareError,
    UnknownShareError,
)
from gpuslice_agent.model import Share, ShareRequest, Snapshot
from gpuslice_agent.run_directory import RunDirectory, is_services
from gpuslice_proto.gpuslice.v1 import control_pb2 as pb
from gpuslice_proto.gpuslice.v1 import control_pb2_grpc as pb_grpc

ERROR_OF: dict[grpc.StatusCode, type[GpusliceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: RequestError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: AllocationError,
    grpc.StatusCode.NOT_FOUND: UnknownShareError,
    grpc.StatusCode.FAILED_PRECONDITION: ShareError,
    grpc.StatusCode.UNAVAILABLE: AgentAbsentError,
    grpc.StatusCode.DEADLINE_EXCEEDED: ControlError,
}
# Longer than the agent's own longest wait: the first look at GPUs whose driver has to start.
DEADLINE_SECONDS = 90.0
HAND_OVER_SECONDS = 5.0  # it only says that it will


class Client:
    """A connection to one agent, for one thread at a time."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._channel = grpc.insecure_channel(
            f"unix:{directory.socket}",
            options=[
                # A proxy is no way to a unix socket, and gRPC would ask the environment for one.
                ("grpc.enable_http_proxy", 0),
                # Else a new agent is as unreachable, for a second, as the last one was in the end.
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        self._stub = pb_grpc.ControlStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def list(self) -> Snapshot:
        """The node now: the agent looks before it answers."""
        with self._translated():
            return messages.snapshot_from_message(
                self._stub.List(pb.ListRequest(), timeout=DEADLINE_SECONDS)
            )

    def watch(self, interval_ms: int = 0) -> Iterator[Snapshot]:
        """Yields the node now and whenever it changes, until the agent ends (AgentAbsentError)."""
        with self._translated():
            for message in self._stub.Watch(pb.WatchRequest(interval_ms=interval_ms)):
                yield messages.snapshot_from_message(message)

    def create(self, request: ShareRequest) -> tuple[Share, ...]:
        """One share on each GPU asked for, all or none.

        AllocationError: nothing fits now; RequestError: nothing ever will.
        """
        with self._translated():
            answer = self._stub.Create(
                messages.request_to_message(request), timeout=DEADLINE_SECONDS
            )
            return tuple(map(messages.share_from_message, answer.shares))

    def resize(
        self, share_id: str, cores: int | None = None, memory_bytes: int | None = None
    ) -> Share:
        with self._translated():
            request = pb.ResizeRequest(share_id=share_id, cores=cores, memory_bytes=memory_bytes)
            return messages.share_from_message(self._stub.Resize(request, timeout=DEADLINE_SECONDS))

    def release(self, share_ids: Iterable[str]) -> None:
        """Idempotent. A share that processes still hold ends with the last of them."""
        with self._translated():
            self._stub.Release(pb.ReleaseRequest(share_ids=share_ids), timeout=DEADLINE_SECONDS)

    def hand_over(self, instance: str) -> None:
        """Asks the agent to let go of everything, for the pod with this UID to take over."""
        with self._translated():
            request = pb.HandOverRequest(instance=instance)
            self._stub.HandOver(request, timeout=HAND_OVER_SECONDS)

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except grpc.RpcError as error:
            code, details = _status(error)
            kind = ERROR_OF.get(code, ControlError)
            if kind is AgentAbsentError:
                raise AgentAbsentError(f"The agent in {self._directory.path} ended.") from error
            raise kind(details or f"The agent answered {code.name}.") from error


def _status(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    # What grpc raises is an RpcError and a Call at once, which its types cannot say.
    call = cast(grpc.Call, error)
    return call.code(), call.details() or ""


def connect(directory: RunDirectory) -> Client:
    """A client of the agent that owns this run directory.

    AgentAbsentError: none runs, one may be started. AgentRefusedError: there is one but not for
    us, or it is the service's and does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(directory.socket))
        except PermissionError as error:
            raise AgentRefusedError(
                f"{directory.socket} belongs to an agent that does not let you in: join the group "
                "gpuslice, or set GPUSLICE_RUN_DIR to a directory of your own."
            ) from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if is_services(directory):
                raise AgentRefusedError(
                    f"The service that owns {directory.path} does not answer: "
                    "look at `systemctl status gpuslice`."
                ) from error
            raise AgentAbsentError(f"No agent runs in {directory.path}.") from error
        except OSError as error:
            # Python itself refuses a path that is too long, and then there is no errno.
            raise AgentRefusedError(
                f"{directory.socket} cannot be opened: {error.strerror or error}."
            ) from error
    return Client(directory)
