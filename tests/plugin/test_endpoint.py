"""A resource on its socket: registered, and again whenever the kubelet has forgotten it."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from gpuslice_agent.errors import AllocationError
from gpuslice_plugin.calls import Calls
from gpuslice_plugin.device_plugin.endpoint import Endpoint
from gpuslice_plugin.device_plugin.resources import Device, Resource
from gpuslice_plugin.device_plugin.service import DeviceList, DevicePlugin
from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2 as pb

from .kubelet import Kubelet, kubelet

RESOURCE = Resource("core", "nvidia.com/gpucores", 100)


class Bound:
    def __init__(self) -> None:
        self.calls: list[tuple[str, frozenset[str]]] = []
        self.refusal = ""

    async def bind(self, resource: str, given: frozenset[str]) -> None:
        self.calls.append((resource, given))
        if self.refusal:
            raise AllocationError(self.refusal)


def last(
    resource: Resource, available: Sequence[str], must: Sequence[str], size: int
) -> Sequence[str]:
    return available[-size:]


@asynccontextmanager
async def running(directory: Path) -> AsyncGenerator[tuple[DeviceList, Bound]]:
    devices, bound = DeviceList(), Bound()
    devices.replace([Device("core-0-0", 0), Device("core-0-1", 0, healthy=False)])
    plugin = DevicePlugin(RESOURCE, devices, bound, last, Calls())
    task = asyncio.create_task(Endpoint(directory / "device-plugins", RESOURCE.name, plugin).run())
    try:
        yield devices, bound
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # files and streams tell no event
            await asyncio.sleep(0.01)


def listed(server: Kubelet) -> bool:
    return bool(server.known and server.known[-1].lists)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Near the root: the path of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def test_the_kubelet_learns_the_resource_its_devices_and_every_change(directory: Path) -> None:
    async def test() -> None:
        async with kubelet(directory) as server, running(directory) as (devices, _):
            await until(lambda: listed(server))
            (known,) = server.known
            assert known.request.resource_name == "nvidia.com/gpucores"
            assert known.request.options.pre_start_required
            (first, second) = known.lists[0].devices
            assert (first.ID, first.health) == ("core-0-0", "Healthy")
            assert [node.ID for node in first.topology.nodes] == [0]
            assert second.health == "Unhealthy"
            devices.replace([Device("core-n-0", -1)])
            await until(lambda: len(known.lists) == 2)
            assert not known.lists[1].devices[0].HasField("topology")

    run(test())


def test_a_plugin_waits_for_the_kubelet_and_finds_the_next_one_after_a_restart(
    directory: Path,
) -> None:
    async def test() -> None:
        async with running(directory):
            for _ in range(2):
                async with kubelet(directory) as server:
                    await until(lambda server=server: listed(server))  # type: ignore[misc]

    run(test())


def test_a_socket_that_is_gone_is_made_again_under_another_name(directory: Path) -> None:
    async def test() -> None:
        async with kubelet(directory) as server, running(directory):
            await until(lambda: listed(server))
            socket = server.plugins / server.known[0].request.endpoint
            socket.unlink()
            await until(lambda: len(server.known) > 1 and listed(server))
            assert server.known[-1].request.endpoint != socket.name

    run(test())


def test_a_stream_that_ends_is_followed_by_a_registration(directory: Path) -> None:
    async def test() -> None:
        async with kubelet(directory) as server, running(directory):
            await until(lambda: listed(server))
            stream = server.known[0].stream
            assert stream is not None
            stream.cancel()
            await until(lambda: len(server.known) == 2 and listed(server))

    run(test())


def test_no_two_answers_name_the_same_cdi_device(directory: Path) -> None:
    async def test() -> None:
        async with kubelet(directory) as server, running(directory):
            await until(lambda: listed(server))
            names: set[str] = set()
            for _ in range(20):
                wanted = [pb.ContainerAllocateRequest(devices_ids=["core-0-0"])]
                request = pb.AllocateRequest(container_requests=wanted)
                answer = await server.known[0].stub.Allocate(request)
                (device,) = answer.container_responses[0].cdi_devices
                assert device.name.startswith("k8s.gpu.gpuslice.io/share=")
                names.add(device.name)
            assert len(names) == 20

    run(test())


def test_a_refusal_reaches_the_kubelet_as_a_sentence(directory: Path) -> None:
    async def test() -> None:
        async with kubelet(directory) as server, running(directory) as (_, bound):
            await until(lambda: listed(server))
            request = pb.PreStartContainerRequest(devices_ids=["core-0-1", "core-0-0"])
            await server.known[0].stub.PreStartContainer(request)
            assert bound.calls == [(RESOURCE.name, frozenset({"core-0-0", "core-0-1"}))]
            bound.refusal = "There is no room now."
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.known[0].stub.PreStartContainer(request)
            assert caught.value.details() == "There is no room now."

    run(test())


def test_the_kubelet_is_told_which_ids_to_prefer(directory: Path) -> None:
    async def test() -> None:
        async with kubelet(directory) as server, running(directory):
            await until(lambda: listed(server))
            wanted = pb.ContainerPreferredAllocationRequest(
                available_deviceIDs=["a", "b", "c"], allocation_size=2
            )
            answer = await server.known[0].stub.GetPreferredAllocation(
                pb.PreferredAllocationRequest(container_requests=[wanted])
            )
            assert list(answer.container_responses[0].deviceIDs) == ["b", "c"]

    run(test())
