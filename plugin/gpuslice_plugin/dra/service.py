"""The kubelet's calls, in both versions of the API. A failure is told for its claim alone."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc.aio

from gpuslice_agent.errors import GpusliceError
from gpuslice_plugin.calls import Calls
from gpuslice_plugin.dra.claims import ClaimReference
from gpuslice_plugin.dra.prepare import ANSWER_SECONDS, Claims, Prepared
from gpuslice_plugin.errors import NotReadyError
from gpuslice_proto.dra.v1 import dra_pb2 as v1
from gpuslice_proto.dra.v1 import dra_pb2_grpc as v1_grpc
from gpuslice_proto.dra.v1beta1 import dra_pb2 as v1beta1
from gpuslice_proto.dra.v1beta1 import dra_pb2_grpc as v1beta1_grpc

log = logging.getLogger(__name__)

VERSIONS = ("v1.DRAPlugin", "v1beta1.DRAPlugin")


class Service(v1_grpc.DRAPluginServicer):
    """Calls wait until it begins, as long as the kubelet does."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._claims: asyncio.Future[Claims] = asyncio.get_running_loop().create_future()
        self._prepared: Callable[[ClaimReference], None] = lambda _: None

    def begin(self, claims: Claims, prepared: Callable[[ClaimReference], None]) -> None:
        """`prepared` is told of every claim that was."""
        self._prepared = prepared
        self._claims.set_result(claims)

    def add_to(self, server: grpc.aio.Server) -> None:
        v1_grpc.add_DRAPluginServicer_to_server(self, server)
        v1beta1_grpc.add_DRAPluginServicer_to_server(OldService(self), server)

    async def NodePrepareResources(
        self, request: v1.NodePrepareResourcesRequest, context: Any
    ) -> v1.NodePrepareResourcesResponse:
        answers = await asyncio.gather(*(self._prepare(claim) for claim in request.claims))
        return v1.NodePrepareResourcesResponse(
            claims={
                claim.uid: answer for claim, answer in zip(request.claims, answers, strict=True)
            }
        )

    async def NodeUnprepareResources(
        self, request: v1.NodeUnprepareResourcesRequest, context: Any
    ) -> v1.NodeUnprepareResourcesResponse:
        answers = await asyncio.gather(*(self._unprepare(claim) for claim in request.claims))
        return v1.NodeUnprepareResourcesResponse(
            claims={
                claim.uid: answer for claim, answer in zip(request.claims, answers, strict=True)
            }
        )

    async def _prepare(self, claim: v1.Claim) -> v1.NodePrepareResourceResponse:
        until = time.monotonic() + ANSWER_SECONDS
        try:
            with self._calls.timed("NodePrepareResources"):
                claims = await self._begun(until)
                prepared = await claims.prepare(_reference(claim), until - time.monotonic())
        except GpusliceError as error:
            log.warning("prepare answered with an error claim=%s reason=%s", claim.name, error)
            return v1.NodePrepareResourceResponse(error=str(error))
        self._prepared(_reference(claim))
        return v1.NodePrepareResourceResponse(devices=_devices(prepared))

    async def _unprepare(self, claim: v1.Claim) -> v1.NodeUnprepareResourceResponse:
        try:
            with self._calls.timed("NodeUnprepareResources"):
                claims = await self._begun(time.monotonic() + ANSWER_SECONDS)
                await claims.unprepare(_reference(claim))
        except GpusliceError as error:
            log.error("claim not unprepared claim=%s reason=%s", claim.name, error)
            return v1.NodeUnprepareResourceResponse(error=str(error))
        return v1.NodeUnprepareResourceResponse()

    async def _begun(self, until: float) -> Claims:
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await asyncio.shield(self._claims)
        except TimeoutError as error:
            raise NotReadyError(
                "This agent has not taken over from the one before it yet; the kubelet asks again."
            ) from error


class OldService(v1beta1_grpc.DRAPluginServicer):
    """The same messages on the wire, but for share_id."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def NodePrepareResources(
        self, request: v1beta1.NodePrepareResourcesRequest, context: Any
    ) -> v1beta1.NodePrepareResourcesResponse:
        asked = v1.NodePrepareResourcesRequest.FromString(request.SerializeToString())
        answer = await self._service.NodePrepareResources(asked, context)
        for claim in answer.claims.values():
            for device in claim.devices:
                device.ClearField("share_id")
        return v1beta1.NodePrepareResourcesResponse.FromString(answer.SerializeToString())

    async def NodeUnprepareResources(
        self, request: v1beta1.NodeUnprepareResourcesRequest, context: Any
    ) -> v1beta1.NodeUnprepareResourcesResponse:
        asked = v1.NodeUnprepareResourcesRequest.FromString(request.SerializeToString())
        answer = await self._service.NodeUnprepareResources(asked, context)
        return v1beta1.NodeUnprepareResourcesResponse.FromString(answer.SerializeToString())


def _reference(claim: v1.Claim) -> ClaimReference:
    return ClaimReference(claim.namespace, claim.name, claim.uid)


def _devices(prepared: Iterable[Prepared]) -> Iterable[v1.Device]:
    for one in prepared:
        yield v1.Device(
            request_names=[one.request],
            pool_name=one.pool,
            device_name=one.device,
            cdi_device_ids=[one.cdi_device],
            share_id=one.share_id or None,
        )
