"""`gpuslice agent`: the daemon of a node."""

import ast
import asyncio
import inspect
import itertools
import os
from pathlib import Path

import click
import msgspec

from gpuslice_agent import config, daemon
from gpuslice_agent.driver_files import DriverFiles
from gpuslice_agent.errors import GpusliceError
from gpuslice_agent.run_directory import RunDirectory
from gpuslice_agent.systemd import ServiceManager


def _descriptions() -> dict[str, str]:
    """What Config says below each of its fields: Python keeps it in the source only."""
    (definition,) = ast.parse(inspect.getsource(config.Config)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(text.value.value, str)
    }


def _setting_options() -> list[click.Parameter]:
    """A flag for each field of Config, so that the two cannot differ. Config checks the values."""
    descriptions = _descriptions()
    options: list[click.Parameter] = []
    for field in msgspec.structs.fields(config.Config):
        switch = field.type is bool
        name = field.name.replace("_", "-")
        words = [descriptions.get(field.name, "")]
        if not switch and field.name in config.RIGHT:
            words.append(f"Give {config.RIGHT[field.name]}.")
        if not switch and not field.required:
            words.append(f"Default: {field.default or 'none'}.")
        options.append(
            click.Option(
                [f"--{name}/--no-{name}" if switch and field.default else f"--{name}"],
                is_flag=switch,
                default=None,
                metavar=None if switch else "VALUE",
                help=" ".join(filter(None, words)),
            )
        )
    return options


def _run(config_file: Path | None, **flags: object) -> None:
    settings = config.load(config_file, os.environ, flags, os.getuid())
    driver = DriverFiles(settings.driver_root, RunDirectory(settings.run_dir).driver)
    driver.name_to_children(os.environ)
    try:
        asyncio.run(daemon.run(settings, ServiceManager(os.environ), _extension(settings)))
    except ExceptionGroup as group:
        own, others = group.split(GpusliceError)
        if own is None or others is not None:
            raise
        raise _first(own) from group


def _first(group: ExceptionGroup[GpusliceError]) -> GpusliceError:
    """The parts of the agent end together: one sentence says why."""
    first = group.exceptions[0]
    return first if isinstance(first, GpusliceError) else _first(first)


def _extension(settings: config.Config) -> daemon.Extend | None:
    if not settings.node_name:
        return None
    # Only here: an agent without Kubernetes is smaller by the client of the API server.
    from gpuslice_plugin.node import opened

    return opened


command = click.Command(
    "agent",
    callback=_run,
    params=[
        click.Option(
            ["--config", "config_file"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="TOML with the settings below, names with _ for -.",
        ),
        *_setting_options(),
    ],
    help="""Runs the agent: it hands out shares of this node's GPUs until it is told to stop.

    Each setting comes from its flag, else from the environment (GPUSLICE_RUN_DIR and so on), else
    from the file, else its default.""",
)
