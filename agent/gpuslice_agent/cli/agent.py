"""`gpuslice agent`: the daemon of a node."""

import asyncio
import os
from pathlib import Path

import click
import msgspec

from gpuslice_agent import config, daemon
from gpuslice_agent.systemd import ServiceManager


def _setting_options() -> list[click.Parameter]:
    """A flag for each field of Config, so that the two cannot differ. Config checks the values."""
    options: list[click.Parameter] = []
    for field in msgspec.structs.fields(config.Config):
        right = config.RIGHT.get(field.name, "a path")
        default = "" if field.required else f" Default: {field.default or 'none'}."
        options.append(
            click.Option(
                [f"--{field.name.replace('_', '-')}"],
                is_flag=field.type is bool,
                default=None,
                metavar=None if field.type is bool else "VALUE",
                help="Default: off."
                if field.type is bool
                else f"{right[0].upper()}{right[1:]}.{default}",
            )
        )
    return options


def _run(config_file: Path | None, **flags: object) -> None:
    settings = config.load(config_file, os.environ, flags, os.getuid())
    asyncio.run(daemon.run(settings, ServiceManager(os.environ)))


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
