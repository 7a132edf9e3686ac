"""Serves one resource on a socket of its own, and keeps the kubelet knowing it."""

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path

import grpc
import grpc.aio

from gpuslice_plugin.device_plugin.service import Listed
from gpuslice_plugin.errors import KubeletError
from gpuslice_plugin.sockets import instance, remove_dead, served
from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

KUBELET_SOCKET = "kubelet.sock"
# A stat of two files: cheaper than a watch, and a directory that is itself replaced is no case of
# its own.
LOOK_SECONDS = 0.2
REGISTER_SECONDS = 5.0
AGAIN_SECONDS = 2.0

Identity = tuple[int, int, int]


class Endpoint:
    """The kubelet wipes the directory when it starts, so the socket is made again and again."""

    def __init__(self, directory: Path, resource: str, plugin: Listed) -> None:
        self._directory = directory
        self._resource = resource
        self._plugin = plugin

    async def run(self) -> None:
        short = self._resource.rpartition("/")[2]
        while True:
            socket = self._directory / f"gpuslice-{short}-{instance()}.sock"
            try:
                async with served(socket, self._plugin):
                    remove_dead(socket, f"gpuslice-{short}-*.sock")
                    await self._keep_registered(socket)
                log.warning("own socket is gone: made again resource=%s", self._resource)
            except KubeletError as error:
                log.warning("resource not served resource=%s reason=%s", self._resource, error)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _keep_registered(self, socket: Path) -> None:
        """Ends when the socket is gone."""
        registered: Identity | None = None
        said = ""
        while _identity(socket) is not None:
            kubelet = _identity(self._directory / KUBELET_SOCKET)
            is_known = kubelet == registered and not self._plugin.disconnected.is_set()
            self._plugin.disconnected.clear()
            if kubelet is None:
                registered = None
            elif not is_known:
                try:
                    await self._register(socket)
                    registered, said = kubelet, ""
                except KubeletError as error:
                    registered = None
                    if said != str(error):
                        log.warning("not registered resource=%s reason=%s", self._resource, error)
                    said = str(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._plugin.disconnected.wait()

    async def _register(self, socket: Path) -> None:
        kubelet = self._directory / KUBELET_SOCKET
        request = pb.RegisterRequest(
            version="v1beta1",
            endpoint=socket.name,
            resource_name=self._resource,
            options=self._plugin.options,
        )
        # Else the channel names its path as the authority, which old kubelets refuse.
        options = (("grpc.default_authority", "localhost"),)
        async with grpc.aio.insecure_channel(f"unix:{kubelet}", options=options) as channel:
            try:
                await pb_grpc.RegistrationStub(channel).Register(request, timeout=REGISTER_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise KubeletError(
                    f"The kubelet did not take the resource {self._resource} "
                    f"({error.code().name}: {error.details()})."
                ) from error
        log.info("registered resource=%s endpoint=%s", self._resource, socket.name)


def _identity(path: Path) -> Identity | None:
    """Which file is there now; a new one may get the inode of the one before."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_ctime_ns
