"""`gpuslice status`: the node for people (tables, live) and for programs (JSON)."""

import contextlib
import json
import os
import sys

import click
from rich.console import Console
from rich.live import Live

from gpuslice_agent.cli.private_agent import connect_or_start
from gpuslice_agent.cli.status_document import document
from gpuslice_agent.cli.status_tables import tables
from gpuslice_agent.control.client import Client
from gpuslice_agent.errors import NvmlError
from gpuslice_agent.run_directory import locate

# What a pipe or a file gets: wide enough that no column is cut.
WIDTH_WITHOUT_TERMINAL = 160


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object (see docs/operations.md).")
@click.option("--watch", is_flag=True, help="Again whenever it changes, until interrupted.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: at most this often.",
)
def command(as_json: bool, watch: bool, interval: float) -> None:
    """Shows GPUs, shares and the processes on them."""
    with connect_or_start(locate(os.environ, os.getuid()), os.environ) as client:
        if watch:
            # Interrupting is how it is ended: no word about it.
            with contextlib.suppress(KeyboardInterrupt):
                _watch(client, as_json, int(interval * 1000))
        else:
            _show(client, as_json)


def _show(client: Client, as_json: bool) -> None:
    snapshot = client.list()
    if as_json:
        click.echo(json.dumps(document(snapshot), indent=2))
    if snapshot.problem:
        raise NvmlError(snapshot.problem)
    if not as_json:
        _console().print(tables(snapshot))


def _watch(client: Client, as_json: bool, interval_ms: int) -> None:
    snapshots = client.watch(interval_ms)
    if as_json:
        for snapshot in snapshots:
            click.echo(json.dumps(document(snapshot)))
        return
    with Live(console=_console(), auto_refresh=False, screen=sys.stdout.isatty()) as live:
        for snapshot in snapshots:
            live.update(tables(snapshot), refresh=True)


def _console() -> Console:
    # Names of processes are text: a bracket in one is no markup.
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(width=width, markup=False, highlight=False)
