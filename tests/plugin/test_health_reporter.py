"""Condition, Events and evictions as the API server gets them: bounded, and none at rest."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gpuslice_agent.entities import Effect, EntityHealth, EntityState, Incident, NodeHealth
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import Owner, OwnerKind, Snapshot
from gpuslice_plugin.api import ApiServer
from gpuslice_plugin.events import Events
from gpuslice_plugin.eviction import Eviction
from gpuslice_plugin.health import reporter
from gpuslice_plugin.health.condition import TYPE
from gpuslice_plugin.health.lost_gpus import CERTAIN_SECONDS, LostGpus
from gpuslice_plugin.health.node_condition import NodeCondition
from gpuslice_plugin.health.reporter import RECOUNT_SECONDS, Reporter
from gpuslice_plugin.pod_events import PodEvents
from gpuslice_plugin.pods import NodePods, Pod

from ..unit.nodes import gpu, share
from . import objects
from .api_server import Object, Refusal, SmallApiServer, small_api_server
from .plugin_world import eventually
from .test_health_news import FAULT, HEARD, LOST, SUSPECT

NODE = "/api/v1/nodes/node"
POD_EVENTS = "/api/v1/namespaces/default/events"


@dataclass
class World:
    small: SmallApiServer
    server: ApiServer
    pods: NodePods
    inventory: Inventory = field(default_factory=Inventory)
    now: float = 0.0

    def knows(self, *entities: EntityHealth, incidents: tuple[Incident, ...] = ()) -> NodeHealth:
        health = NodeHealth(entities, incidents=incidents, sources=HEARD)
        self.inventory.replace(Snapshot(taken_at=1.0, health=health))
        return health

    @property
    def condition(self) -> Object:
        conditions = self.small.objects[NODE].get("status", {}).get("conditions", [])
        none: Object = {}
        return next((one for one in conditions if one["type"] == TYPE), none)

    @property
    def events(self) -> list[Object]:
        return [one for path, one in self.small.objects.items() if path.startswith(POD_EVENTS)]

    @property
    def pod(self) -> Pod:
        pod = self.pods.get("uid-of-a")
        assert pod is not None
        return pod

    async def delete_pod(self, ends: str) -> None:
        """It stays until its grace is over, and for as long as its programs do."""
        pod = objects.pod("a")
        pod["metadata"]["deletionTimestamp"] = ends
        self.small.put("/api/v1/pods/a", pod)
        ends_at = datetime.fromisoformat(ends).timestamp()
        await eventually(lambda: self.pod.ends_at == ends_at)

    def reporter(self) -> Reporter:
        events = Events(self.server, "node")
        return Reporter(events, "node", self.inventory, self.pods, lambda: self.now)

    def lost_gpus(self) -> LostGpus:
        events = PodEvents(self.server, "node")
        eviction = Eviction(self.server)
        return LostGpus(eviction, events, self.inventory, self.pods, lambda: self.now)


@asynccontextmanager
async def world() -> AsyncGenerator[World]:
    async with small_api_server() as (small, server):
        small.put(NODE, {"metadata": {}, "status": {"conditions": []}})
        small.put("/api/v1/pods/a", objects.pod("a"))
        # Where a write finds it.
        small.put("/api/v1/namespaces/default/pods/a", objects.pod("a"))
        pods = NodePods.of_node(server, "node")
        async with running(pods.run()):
            await eventually(lambda: pods.get("uid-of-a"))
            yield World(small, server, pods)


@asynccontextmanager
async def running(part: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    task = asyncio.create_task(part)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def told(story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with world() as one:
            await story(one)

    asyncio.run(whole())


def now_lost() -> EntityHealth:
    return replace(LOST, since=time.time())


def test_the_condition_is_written_when_it_changes_and_not_at_rest() -> None:
    async def story(world: World) -> None:
        async with running(NodeCondition(world.server, "node", world.inventory).run()):
            world.knows()
            await eventually(lambda: world.condition)
            since = world.condition["lastTransitionTime"]
            for _ in range(20):
                world.knows()
                await asyncio.sleep(0.05)
            assert len(world.small.writes) == 1
            world.knows(SUSPECT)
            await eventually(lambda: world.condition["reason"] == "SomeSuspect")
            assert world.condition["lastTransitionTime"] == since
            world.knows(LOST)
            await eventually(lambda: world.condition["status"] == "False")
            assert len(world.small.writes) == 3

    told(story)


def test_a_storm_that_only_counts_is_written_once_in_a_while() -> None:
    async def story(world: World) -> None:
        async with running(NodeCondition(world.server, "node", world.inventory).run()):
            world.knows(LOST)
            await eventually(lambda: world.condition)
            for count in range(2, 40):
                world.knows(replace(LOST, reasons=(f"Xid 79 ({count} times): Lost.",)))
                await asyncio.sleep(0.02)
            assert len(world.small.writes) == 1
            world.knows()
            await eventually(lambda: world.condition["status"] == "True")

    told(story)


def test_a_condition_that_somebody_took_away_is_put_back() -> None:
    async def story(world: World) -> None:
        async with running(NodeCondition(world.server, "node", world.inventory).run()):
            world.knows(LOST)
            await eventually(lambda: world.condition)
            world.small.put(NODE, {"metadata": {}, "status": {"conditions": []}})
            await eventually(lambda: world.condition)

    told(story)


def test_an_agent_that_starts_again_finds_its_condition_and_events() -> None:
    async def story(world: World) -> None:
        lost = now_lost()
        for _ in range(2):
            async with running(NodeCondition(world.server, "node", world.inventory).run()):
                looking = world.reporter()
                for _ in range(3):
                    await looking.look(world.knows(lost))
                    world.now += reporter.PAUSE_SECONDS
                await eventually(lambda: world.condition)
                await asyncio.sleep(0.3)
        assert len(world.events) == 1
        # The second event was refused, for it was there.
        assert [method for method, _ in world.small.writes].count("POST") == 2
        assert [method for method, _ in world.small.writes].count("PATCH") == 1

    told(story)


def test_a_sick_gpu_is_an_event_on_the_node_once() -> None:
    async def story(world: World) -> None:
        reporter, health = world.reporter(), world.knows(now_lost())
        for _ in range(10):
            world.now += 100
            await reporter.look(health)
        (event,) = world.events
        assert event["involvedObject"]["kind"] == "Node"
        assert event["metadata"]["namespace"] == "default"
        assert event["reportingInstance"] == "node"
        assert len(world.small.writes) == 1

    told(story)


def test_ten_thousand_faults_in_a_minute_are_one_event_that_counts() -> None:
    async def story(world: World) -> None:
        reporter = world.reporter()
        for second in range(60):
            world.now = float(second)
            fault = replace(FAULT, count=1 + 10_000 * second // 59)
            await reporter.look(world.knows(incidents=(fault,)))
        (event,) = world.events
        assert event["involvedObject"]["name"] == "a"
        assert len(world.small.writes) == 2
        world.now += RECOUNT_SECONDS
        await reporter.look(world.knows(incidents=(replace(FAULT, count=10_001),)))
        assert world.events[0]["count"] == 10_001
        assert len(world.small.writes) == 3

    told(story)


def test_events_that_the_server_has_dropped_are_written_anew() -> None:
    async def story(world: World) -> None:
        reporter = world.reporter()
        await reporter.look(world.knows(incidents=(FAULT,)))
        (path,) = [path for path in world.small.objects if path.startswith(POD_EVENTS)]
        world.small.remove(path)
        world.now += RECOUNT_SECONDS
        await reporter.look(world.knows(incidents=(replace(FAULT, count=5),)))
        assert [one["count"] for one in world.events] == [5]

    told(story)


def test_many_faults_of_pods_keep_no_fault_of_the_node_waiting() -> None:
    async def story(world: World) -> None:
        looking = world.reporter()
        many = tuple(replace(FAULT, code=code) for code in range(60))
        await looking.look(world.knows(incidents=many))
        assert len(world.events) == reporter.MOST_AT_ONCE
        await looking.look(world.knows(now_lost(), incidents=many))
        assert "Node" in {one["involvedObject"]["kind"] for one in world.events}
        for _ in range(60):  # what had to wait is told too
            world.now += reporter.SECONDS_FOR_EACH
            await looking.look(world.knows(now_lost(), incidents=many))
        assert {one["reason"] for one in world.events} == {"GpuUnhealthy", "GpuFaultCaused"}
        assert len({one["message"] for one in world.events}) == 61

    told(story)


def test_an_event_that_the_server_could_not_take_is_written_later() -> None:
    async def story(world: World) -> None:
        looking, health = world.reporter(), world.knows(now_lost())
        world.small.refusals.append(Refusal(503, "not now"))
        await looking.look(health)
        await looking.look(health)
        assert world.events == []
        world.now += reporter.PAUSE_SECONDS
        await looking.look(health)
        assert len(world.events) == 1

    told(story)


def test_pods_of_the_plugin_are_ended_on_a_gpu_that_stays_lost_and_no_others() -> None:
    async def story(world: World) -> None:
        one, other = gpu(0), gpu(1)
        of_pod = replace(
            share(one), owner=Owner("a", kind=OwnerKind.CONTAINER, key="k", pod_uid="uid-of-a")
        )
        claimed = replace(share(one, id="two"), owner=Owner("c", kind=OwnerKind.CLAIM))
        hung = NodeHealth((replace(LOST, uuid=one.uuid),), sources=HEARD)
        gone = NodeHealth((replace(LOST, uuid=one.uuid, effect=Effect.NO_EXECUTE),), sources=HEARD)
        lost_gpus = world.lost_gpus()
        snapshot = Snapshot(gpus=(one, other), shares=(of_pod, claimed))
        for health in (hung, gone, hung, gone):  # never for long
            await lost_gpus.look(replace(snapshot, health=health))
            world.now += CERTAIN_SECONDS
        await lost_gpus.look(replace(snapshot, health=hung))
        assert world.small.writes == []
        for _ in range(3):
            await lost_gpus.look(replace(snapshot, health=gone))
            world.now += CERTAIN_SECONDS
        assert [method for method, _ in world.small.writes] == ["PATCH", "DELETE"]
        assert all("/pods/a" in path for _, path in world.small.writes)

    told(story)


def test_a_pod_that_cannot_be_ended_is_told_once() -> None:
    async def story(world: World) -> None:
        one = gpu(0)
        owner = Owner("a", kind=OwnerKind.CONTAINER, key="k", pod_uid="uid-of-a")
        snapshot = Snapshot(
            gpus=(one,),
            shares=(replace(share(one), owner=owner),),
            health=NodeHealth((replace(LOST, uuid=one.uuid, effect=Effect.NO_EXECUTE),)),
        )
        lost_gpus = world.lost_gpus()
        for ends in ("2099-01-01T00:00:00Z", "2026-01-01T00:00:00Z"):
            assert world.events == []
            await world.delete_pod(ends)
            for _ in range(3):
                await lost_gpus.look(snapshot)
                world.now += CERTAIN_SECONDS
        assert [event["reason"] for event in world.events] == ["GpuPodStuck"]

    told(story)


def test_a_gpu_that_is_well_again_is_told_too() -> None:
    async def story(world: World) -> None:
        looking = world.reporter()
        await looking.look(world.knows(now_lost()))
        well = replace(now_lost(), state=EntityState.HEALTHY, effect=Effect.NONE, reasons=())
        await looking.look(world.knows(well))
        assert [one["type"] for one in world.events] == ["Warning", "Normal"]

    told(story)
