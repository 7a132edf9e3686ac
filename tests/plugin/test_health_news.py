"""What the node's condition and its Events say, from what is known of its health."""

from dataclasses import replace

from gpuslice_agent.entities import (
    NODE,
    Action,
    Effect,
    Entity,
    EntityHealth,
    EntityKind,
    EntityState,
    Incident,
    NodeHealth,
    gpu_entity,
)
from gpuslice_agent.model import Snapshot
from gpuslice_plugin.events import Event
from gpuslice_plugin.health import news
from gpuslice_plugin.health.condition import MESSAGE_BYTES, Condition, condition
from gpuslice_plugin.pods import Pod

HEARD = (("kernel log", ""), ("NVML events", ""))
LOST = EntityHealth(
    gpu_entity("0000:3b:00"),
    "GPU-3b",
    EntityState.UNHEALTHY,
    Effect.NO_SCHEDULE,
    Action.RESTART_BM,
    since=1000.0,
    reasons=("Xid 79: The GPU has fallen off the bus.",),
)
SUSPECT = EntityHealth(
    gpu_entity("0000:5e:00"),
    "GPU-5e",
    EntityState.SUSPECT,
    action=Action.CONTACT_SUPPORT,
    since=1000.0,
    reasons=("Xid 62 (7 times): An engine stopped.",),
)
FAULT = Incident(
    at=1000.0,
    code=13,
    entity=gpu_entity("0000:3b:00"),
    action=Action.RESTART_APP,
    blamed=True,
    meaning="A program did what it may not.",
    pid=4711,
    process="train",
    share="s1",
    owner="pod/1/main/0",
    pods=("uid-of-a",),
)
POD = Pod("uid-of-a", "default", "a", "2026-01-01T00:00:00Z")


def said(*entities: EntityHealth, **more: object) -> Condition:
    health = replace(NodeHealth(entities, sources=HEARD), **more)  # type: ignore[arg-type]
    found = condition(Snapshot(health=health))
    assert found is not None
    return found


def told(*entities: EntityHealth, since: float = 0.0) -> list[Event]:
    return list(news.of_node(NodeHealth(entities), "node", since))


def told_pods(*incidents: Incident) -> list[Event]:
    return list(news.of_pods(incidents, {"uid-of-a": POD}.get))


def test_nothing_is_said_before_anything_is_known() -> None:
    assert condition(Snapshot()) is None


def test_a_node_without_faults_is_well() -> None:
    assert (said().status, said().reason) == ("True", "AllHealthy")
    assert said(replace(LOST, state=EntityState.HEALTHY, effect=Effect.NONE)) == said()


def test_a_sick_gpu_is_named_with_its_fault_and_what_to_do() -> None:
    found = said(SUSPECT, LOST)
    assert (found.status, found.reason) == ("False", "GPUsUnhealthy")
    assert found.message.startswith(
        "gpu/0000:3b:00 GPU-3b is unhealthy, to do: RESTART_BM: Xid 79: The GPU has fallen off"
    )
    assert "GPU-5e is suspect" in found.message


def test_a_suspect_gpu_is_no_sick_one_and_one_being_watched_is() -> None:
    assert (said(SUSPECT).status, said(SUSPECT).reason) == ("True", "SomeSuspect")
    watched = replace(LOST, state=EntityState.RECOVERING)
    assert said(watched).status == "False"


def test_where_faults_cannot_be_heard_nobody_knows_whether_the_node_is_well() -> None:
    deaf = (("kernel log", "/dev/kmsg cannot be read: Permission denied"),)
    found = said(sources=deaf)
    assert (found.status, found.reason) == ("Unknown", "FaultsNotHeard")
    assert "kernel log says nothing: /dev/kmsg cannot be read" in found.message
    assert said(LOST, sources=deaf).status == "False"
    assert "kernel log" in said(LOST, sources=deaf).message


def test_a_node_whose_gpus_are_not_to_be_seen_is_not_known_to_be_well() -> None:
    found = condition(Snapshot(problem="No driver.", health=NodeHealth(sources=HEARD)))
    assert found == Condition("Unknown", "NoGPUSeen", "No driver.")


def test_a_message_has_room_for_the_gravest_and_says_how_many_more_there_are() -> None:
    long = "é" * 500
    many = [
        replace(LOST, entity=gpu_entity(f"0000:{n:02x}:00"), reasons=(long,)) for n in range(64)
    ]
    message = said(*many, SUSPECT).message
    assert len(message.encode()) <= MESSAGE_BYTES
    assert message.startswith("gpu/0000:00:00")
    assert "GPU-5e" not in message
    assert message.endswith(" more.")


def test_every_kind_of_part_can_stand_in_one_message() -> None:
    parts = (NODE, Entity(EntityKind.NVSWITCH, "0000:01:00"), gpu_entity("0000:3b:00", 1, 0))
    found = said(*(replace(LOST, entity=one, uuid="") for one in parts), LOST)
    assert all(str(one) in found.message for one in parts)


def test_a_state_is_one_event_of_the_node_with_the_same_name_after_a_restart() -> None:
    (event,) = told(LOST)
    assert (event.subject.kind, event.reason, event.warning) == ("Node", "GpuUnhealthy", True)
    assert told(replace(LOST, reasons=("Xid 79 (9 times): The same.",)))[0].name == event.name
    assert told(replace(LOST, effect=Effect.NO_EXECUTE))[0].name != event.name
    assert told(replace(LOST, since=2000.0))[0].name != event.name


def test_a_gpu_that_is_well_again_is_told_as_no_warning() -> None:
    (event,) = told(replace(LOST, state=EntityState.HEALTHY, effect=Effect.NONE, reasons=()))
    assert (event.reason, event.warning) == ("GpuHealthy", False)


def test_old_states_are_no_news() -> None:
    assert told(LOST, since=1000.5) == []


def test_faults_of_one_code_and_pod_are_one_event_with_their_count() -> None:
    (event,) = told_pods(FAULT, replace(FAULT, at=1100.0, count=9_999))
    assert (event.subject.name, event.subject.namespace) == ("a", "default")
    assert (event.reason, event.count) == ("GpuFaultCaused", 10_000)
    assert "Program train (pid 4711 of the node) caused Xid 13" in event.message
    assert len(told_pods(FAULT, replace(FAULT, code=31))) == 2


def test_a_pod_that_is_hit_is_not_blamed() -> None:
    (event,) = told_pods(replace(FAULT, blamed=False, code=94))
    assert event.reason == "GpuFaultHit"
    assert "was hit by Xid 94" in event.message


def test_of_pods_that_nobody_knows_nothing_is_told() -> None:
    assert told_pods(replace(FAULT, pods=("gone",)), replace(FAULT, pods=())) == []


def test_the_name_of_an_event_is_never_too_long() -> None:
    pod = replace(POD, name="a" * 253)
    (event,) = news.of_pods((FAULT,), {"uid-of-a": pod}.get)
    assert len(event.name) <= 253
