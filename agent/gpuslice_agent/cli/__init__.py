"""The command `gpuslice`: one module a command, imported only when that command is called.

Every error ends here as one sentence on stderr: exit status 2 where the call is wrong, 1 otherwise.
"""

import importlib
import io
import sys

import click

from gpuslice_agent.cli.program import CommandError
from gpuslice_agent.errors import ConfigError, GpusliceError, RequestError

COMMANDS = ("agent", "demo", "diag", "health", "run", "sim", "status", "topo", "xid")


class LazyGroup(click.Group):
    """Knows its commands by name: `gpuslice run` does not pay for what `status` imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gpuslice_agent.cli.{cmd_name}")
        command: click.Command = module.command
        return command


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # a tenth of what `gpuslice run` takes to start

        click.echo(f"gpuslice {version('gpuslice')}")
        ctx.exit()


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip
def gpuslice() -> None:
    """Shares GPUs among many workloads, and makes the shares hold."""


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a degree sign where the locale knows ASCII only
    sys.exit(_status_of(sys.argv[1:]))


def _status_of(arguments: list[str]) -> int:
    try:
        return int(gpuslice.main(arguments, prog_name="gpuslice", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        _complain(error.format_message())
        return error.exit_code
    except CommandError as error:
        _complain(str(error))
        return error.status
    except (ConfigError, RequestError) as error:
        _complain(str(error))
        return 2
    except GpusliceError as error:
        _complain(str(error))
        return 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        return 1


def _complain(sentence: str) -> None:
    """A message of several lines becomes one, so that logs and scripts can rely on it."""
    click.echo(f"gpuslice: {' '.join(sentence.split())}", err=True)
