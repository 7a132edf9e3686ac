"""`gpuslice demo`: two tenants on one GPU, live, then what they asked for against what they got."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack

import click
from rich.console import Console
from rich.live import Live

from gpuslice_agent import simulation
from gpuslice_agent.cli.demo_report import Outcome, report
from gpuslice_agent.cli.demo_tenant import Ask, Tenant, calibrate, start
from gpuslice_agent.cli.private_agent import connect_or_start
from gpuslice_agent.cli.status import WIDTH_WITHOUT_TERMINAL
from gpuslice_agent.cli.status_tables import tables
from gpuslice_agent.control.client import Client
from gpuslice_agent.errors import ControlError, NvmlError
from gpuslice_agent.run_directory import locate

PROFILE = "2xa100-80g"
MIB, GIB = 2**20, 2**30
# The tenants begin a little sooner than is measured, so that both are busy all of that time.
LEAD_SECONDS = 0.5


@click.command()
@click.option(
    "--real", is_flag=True, help="On this machine's first GPU. Default: a simulated A100."
)
@click.option(
    "--seconds",
    type=click.FloatRange(2, 600),
    default=10.0,
    show_default=True,
    help="How long the tenants compete.",
)
def command(real: bool, seconds: float) -> None:
    """Two tenants share one GPU at 30 and 70 percent of its time, each within its memory.

    Shows them live, then what each asked for against what it got. Exit status 1: the shares did
    not hold.
    """
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    console = Console(width=width, markup=False, highlight=False)
    with ExitStack() as stack:
        node = None if real else stack.enter_context(simulation.temporary(PROFILE, 1))
        environment = dict(os.environ) if node is None else node.environment(os.environ)
        outcomes = _compete(environment, node, seconds, console)
    console.print(report(outcomes, simulated=not real))
    if not all(outcome.held for outcome in outcomes):
        sys.exit(1)


def _compete(
    environment: Mapping[str, str],
    node: simulation.SimNode | None,
    seconds: float,
    console: Console,
) -> list[Outcome]:
    steps_per_us = calibrate(environment)  # while nobody else is there
    directory = locate(environment, os.getuid())
    with connect_or_start(directory, environment) as client, ExitStack() as stack:
        tenants = [
            stack.enter_context(start(ask, environment, steps_per_us)) for ask in _asks(client)
        ]
        memory = [tenant.memory() for tenant in tenants]
        for tenant in tenants:
            tenant.go()
        time.sleep(LEAD_SECONDS)
        started, before = _gpu_time(client, node, tenants)
        _show_live(client, time.monotonic() + seconds - LEAD_SECONDS, console)
        ended, after = _gpu_time(client, node, tenants)
        for tenant in tenants:
            tenant.finish()
    busy = [stop - begin for begin, stop in zip(before, after, strict=True)]
    return [
        Outcome(tenant.ask, got, mine, sum(busy), ended - started)
        for tenant, got, mine in zip(tenants, memory, busy, strict=True)
    ]


def _asks(client: Client) -> tuple[Ask, Ask]:
    """A tenth and a fifth of the memory, so that any card has room for both."""
    snapshot = client.list()
    if not snapshot.gpus:
        raise NvmlError(snapshot.problem or "No GPU is there.")
    gpu = snapshot.gpus[0]
    unit = GIB if gpu.memory_bytes >= 10 * GIB else MIB
    tenth = gpu.memory_bytes // 10 // unit * unit
    return Ask(gpu.uuid, 30, tenth), Ask(gpu.uuid, 70, 2 * tenth)


def _gpu_time(
    client: Client, node: simulation.SimNode | None, tenants: list[Tenant]
) -> tuple[int, list[int]]:
    """Now, and each tenant's GPU time: as the simulated GPU counted it, else as its share says."""
    if node is None:
        by_pid = {share.owner.pid: share.usage.busy_ns for share in client.list().shares}
        now_ns = time.monotonic_ns()
    else:
        now_ns, by_pid = simulation.gpu_time(node)
    try:
        return now_ns, [by_pid[tenant.pid] for tenant in tenants]
    except KeyError as error:
        raise ControlError(f"Tenant {error} is gone before its time.") from error


def _show_live(client: Client, until: float, console: Console) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for snapshot in client.watch(500):
            live.update(tables(snapshot), refresh=True)
            if time.monotonic() >= until:
                return
