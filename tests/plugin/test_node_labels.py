"""The labels of the node are written when something has changed, and at no other time."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gpuslice_agent.entities import EntityHealth, EntityState, NodeHealth, gpu_entity
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import Gpu, GpuPath, NodeLabels, Snapshot
from gpuslice_agent.topology import GpuFacts, PciPlace, PlacedGpu, Topology
from gpuslice_plugin.api import ApiServer
from gpuslice_plugin.node_labels import Labels, Settings, wanted_labels

from .api_server import Refusal, SmallApiServer, small_api_server

NODE = "/api/v1/nodes/gpu-node"
FACTS = GpuFacts(0, "GPU-0", "NVIDIA A100-SXM4-80GB", "0000:07:00.0", 0x20B210DE, 80 << 30, (8, 0))
GPU = Gpu(0, "GPU-0", FACTS.name, "00000000:07:00.0", 79 << 30, path=GpuPath.PLUGIN)
SEEN = Snapshot(
    driver_version="580.95.05",
    cuda_version="13.0",
    gpus=(GPU,),
    topology=Topology((PlacedGpu(FACTS, PciPlace(FACTS.pci_address)),)),
)


def settings(tmp_path: Path, by: NodeLabels = NodeLabels.API) -> Settings:
    (tmp_path / "class/dmi/id").mkdir(parents=True)
    (tmp_path / "class/dmi/id/product_name").write_text("DGX A100\n")
    return Settings("gpu-node", by, tmp_path, tmp_path, slots_per_gpu=16)


@dataclass
class Node:
    """Its object in the API server, and the part of the agent that labels it."""

    small: SmallApiServer
    server: ApiServer
    inventory: Inventory

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.small.objects[NODE]["metadata"].get("labels", {})
        return found

    @asynccontextmanager
    async def labelled(self, given: Settings) -> AsyncGenerator[None]:
        running = asyncio.create_task(Labels(self.server, self.inventory, given).run())
        yield
        running.cancel()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - another task's doing, which tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def node_with(**labels: str) -> AsyncGenerator[Node]:
    async with small_api_server() as (small, server):
        small.put(NODE, {"metadata": {"labels": labels}})
        inventory = Inventory()
        inventory.replace(SEEN)
        yield Node(small, server, inventory)


def test_a_node_is_labelled_once_and_nothing_is_written_at_rest(tmp_path: Path) -> None:
    async def story() -> None:
        async with node_with() as node, node.labelled(settings(tmp_path)):
            await node.until(lambda: "gpuslice.io/gpu.model" in node.labels)
            assert node.labels["gpuslice.io/gpu.model"] == "A100"
            assert node.labels["nvidia.com/gpu.machine"] == "DGX-A100"
            assert node.labels["nvidia.com/gpu.replicas"] == "16"
            asked = len(node.small.requests)
            for second in range(20):
                node.inventory.replace(replace(SEEN, taken_at=float(second)))
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            assert node.small.requests[asked:] == []
            assert len(node.small.writes) == 1

    asyncio.run(story())


def test_the_worst_state_on_the_node_is_a_label(tmp_path: Path) -> None:
    def label(*states: EntityState) -> str:
        entities = tuple(
            EntityHealth(gpu_entity(f"0000:{bus:02x}:00"), state=state)
            for bus, state in enumerate(states)
        )
        snapshot = replace(SEEN, health=NodeHealth(entities))
        return wanted_labels(snapshot, given)["gpuslice.io/gpu.health"]

    given = settings(tmp_path)
    assert label() == "healthy"
    assert label(EntityState.SUSPECT, EntityState.UNHEALTHY) == "unhealthy"
    assert label(EntityState.HEALTHY, EntityState.RECOVERING) == "recovering"


def test_an_agent_that_starts_again_finds_its_labels_and_writes_none(tmp_path: Path) -> None:
    async def story() -> None:
        given = settings(tmp_path)
        async with node_with() as node:
            async with node.labelled(given):
                await node.until(lambda: node.labels)
            asked = len(node.small.requests)
            async with node.labelled(given):
                await node.until(lambda: len(node.small.requests) > asked)
                await asyncio.sleep(0.1)
            assert len(node.small.writes) == 1

    asyncio.run(story())


def test_what_holds_no_more_is_taken_away_and_what_others_wrote_is_left(tmp_path: Path) -> None:
    theirs = {"gpuslice.io/agent": "true", "nvidia.com/gpu.deploy.driver": "true", "zone": "a"}
    stale = {"gpuslice.io/gpu.L4-PCIe-24GiB.count": "2", "nvidia.com/gpu.clique": "8b6c.0"}

    async def story() -> None:
        async with node_with(**theirs, **stale) as node, node.labelled(settings(tmp_path)):
            await node.until(lambda: "gpuslice.io/gpu.model" in node.labels)
            assert theirs.items() <= node.labels.items()
            assert not stale.keys() & node.labels.keys()

    asyncio.run(story())


def test_without_a_driver_the_node_keeps_what_it_said(tmp_path: Path) -> None:
    async def story() -> None:
        async with node_with() as node, node.labelled(settings(tmp_path)):
            await node.until(lambda: node.labels)
            node.inventory.replace(Snapshot(problem="No GPU can be seen: gone."))
            await asyncio.sleep(0.1)
            assert node.labels["gpuslice.io/gpu.count"] == "1"

    asyncio.run(story())


def test_a_refusal_of_the_api_server_is_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with node_with() as node:
            node.small.refusals.append(Refusal(503, "not now"))
            async with node.labelled(settings(tmp_path)):
                await node.until(lambda: node.labels)

    asyncio.run(story())


def test_where_node_feature_discovery_labels_the_api_server_is_not_asked(tmp_path: Path) -> None:
    async def story() -> None:
        given = settings(tmp_path, NodeLabels.NFD)
        async with node_with() as node, node.labelled(given):
            await node.until((tmp_path / "gpuslice").exists)
            assert node.small.requests == []
        assert "nvidia.com/gpu.count=1\n" in (tmp_path / "gpuslice").read_text()

    asyncio.run(story())


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuslice_plugin.node_labels.PAUSES", (0.05,))
