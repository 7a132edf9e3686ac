"""The health of the devices, for the kubelet, which shows it in the status of their pods."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any

import grpc.aio

from gpuslice_agent.model import Health, HealthState
from gpuslice_plugin.dra.cards import Card
from gpuslice_plugin.dra.names import DeviceName
from gpuslice_proto.drahealth.v1 import drahealth_pb2 as v1
from gpuslice_proto.drahealth.v1 import drahealth_pb2_grpc as v1_grpc
from gpuslice_proto.drahealth.v1alpha1 import drahealth_pb2 as v1alpha1
from gpuslice_proto.drahealth.v1alpha1 import drahealth_pb2_grpc as v1alpha1_grpc

VERSIONS = ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
# Then the kubelet takes a device that it has not heard of for unknown. At rest the agent looks
# every 15 s, and says so every 10.
TIMEOUT_SECONDS = 60
REPEAT_SECONDS = 10.0
MOST_MESSAGE_BYTES = 1024

OF_STATE = {
    HealthState.HEALTHY: v1.HEALTHY,
    HealthState.UNHEALTHY: v1.UNHEALTHY,
    HealthState.UNKNOWN: v1.UNKNOWN,
}

Now = Callable[[], tuple[float, Iterable[Card]]]
Names = Callable[[Card], Iterable[DeviceName]]


class DeviceHealth(v1_grpc.DRAResourceHealthServicer):
    """Tells nothing before it begins."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._now: Now = lambda: (0.0, ())
        self._names: Names = lambda _: ()
        self._begun = asyncio.Event()
        self._changed = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> None:
        v1_grpc.add_DRAResourceHealthServicer_to_server(self, server)
        v1alpha1_grpc.add_DRAResourceHealthServicer_to_server(OldDeviceHealth(self), server)

    def begin(self, now: Now, names: Names) -> None:
        """`now` says when the cards were looked at (since the epoch) and what they are."""
        self._now = now
        self._names = names
        self._begun.set()

    def changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def NodeWatchResources(
        self, request: v1.NodeWatchResourcesRequest, context: Any
    ) -> AsyncGenerator[v1.NodeWatchResourcesResponse]:
        await self._begun.wait()
        while True:
            changed = self._changed
            yield self._all()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), REPEAT_SECONDS)

    def _all(self) -> v1.NodeWatchResourcesResponse:
        taken_at, cards = self._now()
        return v1.NodeWatchResourcesResponse(
            devices=[
                v1.DeviceHealth(
                    device=v1.DeviceIdentifier(pool_name=self._pool, device_name=str(name)),
                    health=OF_STATE[card.gpu.health.state],
                    last_updated_time=int(taken_at),
                    health_check_timeout_seconds=TIMEOUT_SECONDS,
                    message=_message(card.gpu.health),
                )
                for card in cards
                for name in self._names(card)
            ]
        )


class OldDeviceHealth(v1alpha1_grpc.DRAResourceHealthServicer):
    """The same messages on the wire."""

    def __init__(self, health: DeviceHealth) -> None:
        self._health = health

    async def NodeWatchResources(
        self, request: v1alpha1.NodeWatchResourcesRequest, context: Any
    ) -> AsyncGenerator[v1alpha1.NodeWatchResourcesResponse]:
        asked = v1.NodeWatchResourcesRequest()
        async with aclosing(self._health.NodeWatchResources(asked, context)) as answers:
            async for answer in answers:
                text = answer.SerializeToString()
                yield v1alpha1.NodeWatchResourcesResponse.FromString(text)


def _message(health: Health) -> str:
    return health.reason.encode()[:MOST_MESSAGE_BYTES].decode(errors="ignore")
