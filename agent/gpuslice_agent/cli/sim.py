"""`gpuslice sim`: a node of simulated GPUs around one program."""

import contextlib
import os
import select

import click

from gpuslice_agent import simulation
from gpuslice_agent.cli import program


def _show_profiles(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(simulation.profiles(), nl=False)
        ctx.exit()


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--profile", metavar="NAME", help="Which node to simulate.")
@click.option("--gpus", type=click.IntRange(1, 16), help="How many GPUs. Default: the profile's.")
@click.option("--driver", metavar="VERSION", help="Of the driver. Default: the newest there is.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_profiles,
    help="Show the profiles and exit.",
)
@click.argument("program_and_arguments", metavar="-- CMD…", nargs=-1, type=click.UNPROCESSED)
def command(
    profile: str | None,
    gpus: int | None,
    driver: str | None,
    program_and_arguments: tuple[str, ...],
) -> None:
    """Runs a program on a node of simulated GPUs.

    Everything it starts finds these GPUs and their own agent; nothing outside does. The node is
    gone when the program ends.
    """
    if not program_and_arguments:
        raise click.UsageError("Nothing to run: write the program after --.")
    if profile is None:
        raise click.UsageError("Name a node with --profile; `gpuslice sim --list` shows them.")
    path = program.find(program_and_arguments[0])
    node = simulation.create(profile, gpus, driver)
    try:
        environment = node.environment(os.environ)
        _end_after(os.getpid(), node)
        program.replace_us(path, program_and_arguments, environment)
    except program.CommandError:
        raise  # our end is the program's end, and somebody waits for it
    except BaseException:
        simulation.end(node)
        raise


def _end_after(pid: int, node: simulation.SimNode) -> None:
    """Leaves a process that waits for the end of `pid` and then ends the node.

    It is in a session of its own, so that no signal meant for the program reaches it, not the
    program's child, and holds none of its files open, which a reader of its output would wait for.
    """
    process = os.pidfd_open(pid)
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            _wait_and_end(process, node)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(process)


def _wait_and_end(process: int, node: simulation.SimNode) -> None:
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.closerange(3, process)
        os.closerange(process + 1, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        select.select([process], [], [])
        simulation.end(node)
    finally:
        with contextlib.suppress(BaseException):
            os._exit(0)
