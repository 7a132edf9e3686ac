"""`gpuslice run`: a share for one program, with no root and no service set up."""

import os
import shlex

import click

from gpuslice_agent import native_files
from gpuslice_agent.cli import parameters, program
from gpuslice_agent.cli.private_agent import connect_or_start
from gpuslice_agent.environment import tenant_environment
from gpuslice_agent.errors import AgentAbsentError
from gpuslice_agent.model import Owner, Policy, Priority, Share, ShareRequest
from gpuslice_agent.run_directory import RunDirectory, locate

# A private agent may end with its last share between our finding it and our asking it.
ATTEMPTS = 5


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--cores",
    type=parameters.percent,
    metavar="PERCENT",
    help="Percent of a GPU's time, 0 to 100. Default: 0, nothing promised.",
)
@click.option(
    "--mem",
    type=parameters.size,
    metavar="SIZE",
    help="GPU memory, such as 8GiB. Default: the same percentage as --cores.",
)
@click.option(
    "--gpu",
    type=parameters.gpus,
    default="",
    metavar="GPU[,GPU…]",
    help="Indices or UUIDs; one share of this size on each. Default: one, where it fits.",
)
@click.option(
    "--priority",
    type=click.Choice([priority.value for priority in Priority]),
    default=Priority.NORMAL.value,
    help="A share of a higher class runs first, strictly. Default: normal.",
)
@click.option(
    "--policy",
    type=click.Choice([policy.value for policy in Policy]),
    help="hard: never more than --cores (the default); elastic: also what others leave.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say which shares were given.")
@click.argument("program_and_arguments", metavar="-- CMD…", nargs=-1, type=click.UNPROCESSED)
def command(
    cores: int | None,
    mem: int | None,
    gpu: tuple[str, ...],
    priority: str,
    policy: str | None,
    verbose: bool,
    program_and_arguments: tuple[str, ...],
) -> None:
    """Runs a program with a share of a GPU.

    The share holds for the program and all its children, and ends with them. Exit status and
    signals are the program's.
    """
    if not program_and_arguments:
        raise click.UsageError("Nothing to run: write the program after --.")
    if not cores and mem is None:
        raise click.UsageError("Say how much of a GPU: --cores, --mem or both.")
    path = program.find(program_and_arguments[0])
    request = ShareRequest(
        cores=cores,
        memory_bytes=mem,
        gpus=gpu,
        policy=Policy(policy) if policy else None,
        priority=Priority(priority),
        owner=Owner(shlex.join(program_and_arguments), os.getpid()),
    )
    shim = native_files.shim()
    shares = _create(locate(os.environ, os.getuid()), request)
    if verbose:
        for share in shares:
            click.echo(f"gpuslice: {_description(share)}", err=True)
    directories = [share.directory for share in shares]
    program.replace_us(
        path, program_and_arguments, tenant_environment(os.environ, shim, directories)
    )


def _create(directory: RunDirectory, request: ShareRequest) -> tuple[Share, ...]:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with connect_or_start(directory, os.environ) as client:
                return client.create(request)
        except AgentAbsentError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the loop returns or raises")


def _description(share: Share) -> str:
    limits = share.limits
    return (
        f"Share {share.id}: {limits.cores} % of {share.gpu_uuid}, {limits.memory_bytes} bytes,"
        f" {limits.policy}, priority {limits.priority}."
    )
