"""Serves the control API. Every failure is a status with the sentence of the error."""

import asyncio
import grp
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio

from gpuslice_agent.control import messages
from gpuslice_agent.errors import (
    AllocationError,
    ControlError,
    GpusliceError,
    RequestError,
    UnknownShareError,
)
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import Share
from gpuslice_agent.observer import Observer
from gpuslice_agent.run_directory import RunDirectory
from gpuslice_agent.shares import Shares
from gpuslice_proto.gpuslice.v1 import control_pb2 as pb
from gpuslice_proto.gpuslice.v1 import control_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

# The first that fits counts: a RequestError is an AllocationError too.
STATUS_OF: tuple[tuple[type[GpusliceError], grpc.StatusCode], ...] = (
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (AllocationError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnknownShareError, grpc.StatusCode.NOT_FOUND),
    (GpusliceError, grpc.StatusCode.FAILED_PRECONDITION),
)
GROUP = "gpuslice"
REFRESH_SECONDS = 1.0  # how long List waits for NVML before it shows what was last seen
STOP_SECONDS = 1.0


class Control(pb_grpc.ControlServicer):
    def __init__(
        self, shares: Shares, observer: Observer, inventory: Inventory, *, hands_over: bool = False
    ) -> None:
        """`hands_over`: to whoever asks; for an agent that is a pod and may be replaced."""
        self._shares = shares
        self._hands_over = hands_over
        self.handed_over = asyncio.Event()
        self._observer = observer
        self._inventory = inventory
        self._changing = 0
        self.closing = False

    @property
    def is_changing(self) -> bool:
        """A change is under way."""
        return self._changing > 0

    async def List(self, request: pb.ListRequest, context: Any) -> pb.Snapshot:
        await self._observer.refresh(REFRESH_SECONDS)
        return messages.snapshot_to_message(self._inventory.snapshot)

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncGenerator[pb.Snapshot]:
        await self._observer.refresh(REFRESH_SECONDS)
        async with aclosing(self._inventory.changes()) as snapshots:
            async for snapshot in snapshots:
                yield messages.snapshot_to_message(snapshot)
                await asyncio.sleep(request.interval_ms / 1000)

    async def Create(self, request: pb.CreateRequest, context: Any) -> pb.CreateResponse:
        async with self._change(context):
            shares = await self._shares.create(messages.request_from_message(request))
            return pb.CreateResponse(shares=map(self._message, shares))

    async def Resize(self, request: pb.ResizeRequest, context: Any) -> pb.Share:
        async with self._change(context):
            share = self._shares.resize(
                request.share_id,
                request.cores if request.HasField("cores") else None,
                request.memory_bytes if request.HasField("memory_bytes") else None,
            )
            return self._message(share)

    async def Release(self, request: pb.ReleaseRequest, context: Any) -> pb.ReleaseResponse:
        async with self._change(context):
            self._shares.release(request.share_ids)
            return pb.ReleaseResponse()

    async def HandOver(self, request: pb.HandOverRequest, context: Any) -> pb.HandOverResponse:
        if not self._hands_over:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,  # as one answers that knows of no hand-over
                "The agent here is no pod and gives its place to none: stop it first.",
            )
        log.info("handing over instance=%s", request.instance)
        self.closing = True
        self.handed_over.set()
        return pb.HandOverResponse()

    @asynccontextmanager
    async def _change(self, context: Any) -> AsyncGenerator[None]:
        if self.closing:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "The agent is ending.")
        self._changing += 1
        try:
            yield
        except GpusliceError as error:
            code = next(code for kind, code in STATUS_OF if isinstance(error, kind))
            await context.abort(code, str(error))
        finally:
            self._changing -= 1
        self._observer.look_at_shares()

    def _message(self, share: Share) -> pb.Share:
        gpu = self._inventory.snapshot.gpu(share.gpu_uuid)
        return messages.share_to_message(share, gpu.index if gpu else 0)


@asynccontextmanager
async def serve(
    control: Control, directory: RunDirectory, *, private: bool
) -> AsyncGenerator[None]:
    """Listens on the run directory's socket. At the end nobody finds the socket any more first."""
    server = grpc.aio.server()
    pb_grpc.add_ControlServicer_to_server(control, server)
    _bind(server, directory, private=private)
    await server.start()
    try:
        yield
    finally:
        control.closing = True
        directory.socket.unlink(missing_ok=True)
        await server.stop(STOP_SECONDS)


def _bind(server: grpc.aio.Server, directory: RunDirectory, *, private: bool) -> None:
    # Closed to all from the first moment: whoever may open it gets GPUs.
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{directory.socket}")
    except RuntimeError as error:
        raise ControlError(
            f"The socket {directory.socket} cannot be made: a run directory's path has at most "
            "about 95 bytes, and must be writable."
        ) from error
    finally:
        os.umask(before)
    if private or os.geteuid() != 0:
        return
    with suppress(KeyError):
        os.chown(directory.socket, 0, grp.getgrnam(GROUP).gr_gid)
        directory.socket.chmod(0o660)
        return
    log.warning("only root reaches the agent: there is no group %s", GROUP)
