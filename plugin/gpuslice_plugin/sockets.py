"""gRPC servers on unix sockets that the kubelet finds by their place in its directories."""

import errno
import logging
import os
import secrets
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import grpc.aio

from gpuslice_plugin.errors import KubeletError

log = logging.getLogger(__name__)

LONGEST_PATH = 107  # bytes, of sun_path in unix(7)
STOP_SECONDS = 1.0


class Service(Protocol):
    def add_to(self, server: grpc.aio.Server) -> None: ...


def instance() -> str:
    """For the names of this process's sockets. gRPC unlinks a socket's path when it stops, so two
    servers that follow each other must not have the same one.
    """
    return secrets.token_hex(4)


@asynccontextmanager
async def served(path: Path, *services: Service) -> AsyncGenerator[None]:
    """The kubelet dials as soon as the file is there: it comes last."""
    if len(bytes(path)) > LONGEST_PATH:
        raise KubeletError(
            f"The socket path {path} is longer than {LONGEST_PATH} bytes: kubelet_dir must be "
            f"shorter."
        )
    server = grpc.aio.server()
    for service in services:
        service.add_to(server)
    try:
        os.makedirs(path.parent, exist_ok=True)
        server.add_insecure_port(f"unix:{path}")
        await server.start()
    except (OSError, RuntimeError) as error:
        raise KubeletError(f"The socket {path} cannot be made: {error}.") from error
    try:
        yield
    finally:
        await server.stop(STOP_SECONDS)
        _unlink(path)


def remove_dead(mine: Path, pattern: str) -> None:
    """Sockets that earlier processes left behind. Where somebody listens, a newer one waits."""
    for path in mine.parent.glob(pattern):
        if path != mine and not _is_listened_to(path):
            _unlink(path)
            log.info("left socket removed path=%s", path)


def _is_listened_to(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # one that is stopped may have a full queue
        return probe.connect_ex(str(path)) in (0, errno.EAGAIN)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
