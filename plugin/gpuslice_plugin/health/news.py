"""Which Events the node's health is worth: of the node for its parts, of pods for theirs. Pure.

What is told follows from what is known now, and the name of an Event from the matter: an agent that
starts again comes to the same names, and finds them taken.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator

from gpuslice_agent.entities import EntityHealth, EntityState, Incident, NodeHealth
from gpuslice_plugin import events, pod_events
from gpuslice_plugin.events import Event
from gpuslice_plugin.health.condition import sentence
from gpuslice_plugin.pods import Pod

LONGEST_NAME = 253 - 17  # of an object of Kubernetes, less what we add


def of_node(health: NodeHealth, node_name: str, since: float) -> Iterator[Event]:
    """One for each state that a part of the node came to after `since`."""
    for one in health.entities:
        if one.since >= since:
            yield _of_entity(one, node_name)


def _of_entity(one: EntityHealth, node_name: str) -> Event:
    well = one.state in (EntityState.HEALTHY, EntityState.RECOVERING)
    matter = (str(one.entity), one.state, one.effect, one.action, one.since)
    return Event(
        _name(node_name, matter),
        events.node(node_name),
        f"Gpu{one.state.capitalize()}",
        sentence(one),
        warning=not well,
    )


def of_pods(incidents: Iterable[Incident], pod_of: Callable[[str], Pod | None]) -> Iterator[Event]:
    """One for each pod and code, however often it was."""
    joined: dict[tuple[str, int], list[Incident]] = {}
    for incident in incidents:
        for uid in incident.pods:
            joined.setdefault((uid, incident.code), []).append(incident)
    for (uid, code), same in joined.items():
        pod = pod_of(uid)
        if pod is not None:
            yield _of_pod(pod, code, same)


def _of_pod(pod: Pod, code: int, same: list[Incident]) -> Event:
    last = same[-1]
    program = f"Program {last.process or 'unknown'} (pid {last.pid} of the node)"
    what = "caused" if last.blamed else "was hit by"
    return Event(
        _name(pod.name, (pod.uid, code, same[0].at)),
        pod_events.subject(pod),
        "GpuFaultCaused" if last.blamed else "GpuFaultHit",
        f"{program} {what} Xid {code} of {last.entity}: {last.meaning} To do: {last.action}.",
        sum(one.count for one in same),
    )


def _name(of: str, matter: tuple[object, ...]) -> str:
    digest = hashlib.sha256(repr(matter).encode()).hexdigest()
    return f"{of[:LONGEST_NAME].rstrip('-.')}.{digest[:16]}"
