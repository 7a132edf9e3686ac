"""Tells the kubelet who serves where: it finds the socket in plugins_registry and asks."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import grpc.aio

from gpuslice_proto.pluginregistration.v1 import pluginregistration_pb2 as pb
from gpuslice_proto.pluginregistration.v1 import pluginregistration_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plugin:
    kind: str  # DRAPlugin
    name: str
    endpoint: str  # absolute path of the socket that serves it
    versions: tuple[str, ...]  # the kubelet takes the first that it knows


class Registration(pb_grpc.RegistrationServicer):
    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self.known = asyncio.Event()  # the kubelet has taken it

    def add_to(self, server: grpc.aio.Server) -> None:
        pb_grpc.add_RegistrationServicer_to_server(self, server)

    async def GetInfo(self, request: pb.InfoRequest, context: Any) -> pb.PluginInfo:
        plugin = self._plugin
        return pb.PluginInfo(
            type=plugin.kind,
            name=plugin.name,
            endpoint=plugin.endpoint,
            supported_versions=plugin.versions,
        )

    async def NotifyRegistrationStatus(
        self, request: pb.RegistrationStatus, context: Any
    ) -> pb.RegistrationStatusResponse:
        if request.plugin_registered:
            self.known.set()
            log.info("registered with the kubelet plugin=%s", self._plugin.name)
        else:
            log.error(
                "the kubelet refused the plugin=%s reason=%s", self._plugin.name, request.error
            )
        return pb.RegistrationStatusResponse()
