"""`gpuslice health`: how the node's GPUs are, why, and what to do."""

import json
import os
import time
from dataclasses import asdict, replace

import click
from rich.console import Console

from gpuslice_agent.cli.private_agent import connect_or_start
from gpuslice_agent.entities import (
    Action,
    Entity,
    EntityHealth,
    EntityState,
    Incident,
    XidCount,
    gpu_entity,
    pci_address,
)
from gpuslice_agent.model import Gpu, Snapshot
from gpuslice_agent.run_directory import locate

VERSION = 1
ILL = (EntityState.DEGRADED, EntityState.UNHEALTHY)
STYLES = {
    EntityState.HEALTHY: "green",
    EntityState.RECOVERING: "yellow",
    EntityState.SUSPECT: "yellow",
    EntityState.DEGRADED: "bold yellow",
    EntityState.UNHEALTHY: "bold red",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object (see docs/operations.md).")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Shows how well the GPUs and their parts are.

    Ends with status 3 where something is degraded or unhealthy.
    """
    with connect_or_start(locate(os.environ, os.getuid()), os.environ) as client:
        snapshot = client.list()
    entities = _all(snapshot)
    if as_json:
        click.echo(json.dumps(_document(snapshot, entities), indent=2))
    else:
        _show(snapshot, entities)
    if any(one.state in ILL for one in entities):
        ctx.exit(3)


def _all(snapshot: Snapshot) -> tuple[EntityHealth, ...]:
    """Each GPU, also one that never had a fault, and whatever else had one."""
    health = snapshot.health
    gpus = [replace(health.of(_entity(gpu)), uuid=gpu.uuid) for gpu in snapshot.gpus]
    listed = {one.entity for one in gpus}
    return (*gpus, *(one for one in health.entities if one.entity not in listed))


def _entity(gpu: Gpu) -> Entity:
    return gpu_entity(pci_address(gpu.pci_bus_id))


def _document(snapshot: Snapshot, entities: tuple[EntityHealth, ...]) -> dict[str, object]:
    health = snapshot.health
    return {
        "version": VERSION,
        "taken_at": snapshot.taken_at,
        "problem": snapshot.problem,
        "entities": [_flat(one.entity, one) for one in entities],
        "xids": [_flat(one.entity, one) for one in health.counts],
        "incidents": [_flat(one.entity, one) for one in health.incidents],
        "sources": [{"name": name, "missing": why} for name, why in health.sources],
        "kernel_log_gaps": health.kernel_log_gaps,
    }


def _flat(entity: Entity, value: EntityHealth | XidCount | Incident) -> dict[str, object]:
    return asdict(entity) | {k: v for k, v in asdict(value).items() if k != "entity"}


def _show(snapshot: Snapshot, entities: tuple[EntityHealth, ...]) -> None:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if snapshot.problem:
        console.print(snapshot.problem)
    for one in entities:
        console.print(f"{one.entity}  {one.uuid}".rstrip(), end="  ")
        console.print(one.state.value, style=STYLES[one.state], end="")
        console.print(f"  action: {one.action}" if one.action is not Action.NONE else "")
        for text in one.reasons:
            console.print(f"    {text}")
        for text in one.evidence:
            console.print(f"    | {text}")
    for count in snapshot.health.counts:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(count.last_at))
        console.print(f"{count.entity}: Xid {count.code}, {_times(count.count)}, last at {when}")
    for incident in snapshot.health.incidents:
        console.print(
            f"share {incident.share} ({incident.owner}): Xid {incident.code} by process "
            f"{incident.pid} {incident.process}, {_times(incident.count)}: {incident.meaning}"
        )
    for name, why in snapshot.health.sources:
        if why:
            console.print(f"{name}: {why}", style="yellow")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
