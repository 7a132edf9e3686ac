"""`gpuslice diag`: tests GPUs that nobody uses, and says what it found."""

import asyncio
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress

import click

from gpuslice_agent import config, native_files
from gpuslice_agent.cli import parameters
from gpuslice_agent.cli.diag_report import document, lines
from gpuslice_agent.cli.private_agent import connect_or_start
from gpuslice_agent.cli.program import CommandError
from gpuslice_agent.control.client import Client
from gpuslice_agent.diag import session
from gpuslice_agent.diag.results import Report
from gpuslice_agent.driver_files import DriverFiles
from gpuslice_agent.environment import without_share
from gpuslice_agent.errors import AllocationError, ControlError, GpusliceError
from gpuslice_agent.model import Gpu, HealthState, Owner, ShareRequest, Snapshot
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.run_directory import RunDirectory, locate

# The memory of a simulated GPU is this machine's.
SIMULATED_MEMORY_BYTES = 128 << 20
SOMETHING_FAILED, COULD_NOT_RUN = 1, 2


@click.command()
@click.option(
    "-r", "--level", type=click.IntRange(1, 3), default=1, show_default=True,
    help="1: software and what the driver has counted; 2: also bandwidth and a short look at"
    " memory; 3: also all free memory and a burn.",
)  # fmt: skip
@click.option(
    "--gpu",
    type=parameters.gpus,
    default="",
    metavar="GPU[,GPU…]",
    help="Indices or UUIDs. Default: all, none of which may be in use.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 86400),
    default=30.0,
    show_default=True,
    help="How long each test of level 3 goes on, on each GPU.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(1, 3600),
    default=60.0,
    show_default=True,
    help="Seconds after which a test that does not end has failed, beyond --seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object (see docs/operations.md).")
@click.pass_context
def command(
    ctx: click.Context,
    level: int,
    gpu: tuple[str, ...],
    seconds: float,
    deadline: float,
    as_json: bool,
) -> None:
    """Tests GPUs that nobody uses; nobody else gets them meanwhile.

    Exit status: 0 all passed, 1 something failed, 2 the tests could not run.
    """
    try:
        report = _report(level, gpu, seconds, deadline)
    except GpusliceError as error:
        raise CommandError(str(error), COULD_NOT_RUN) from error
    click.echo(document(report) if as_json else "\n".join(lines(report)))
    if report.failed:
        ctx.exit(SOMETHING_FAILED)


def _report(level: int, names: tuple[str, ...], seconds: float, deadline: float) -> Report:
    settings = config.load(None, os.environ, {}, os.getuid())
    driver = DriverFiles(settings.driver_root, RunDirectory(settings.run_dir).driver)
    driver.name_to_children(os.environ)
    with connect_or_start(locate(os.environ, os.getuid()), os.environ) as client:
        snapshot = client.list()
        gpus = _chosen(names, snapshot)
        plan = session.Plan(
            level,
            seconds,
            deadline,
            SIMULATED_MEMORY_BYTES
            if snapshot.simulated
            else max((gpu.memory_bytes for gpu in gpus), default=0),
            native_files.kernels(),
            _environment(os.environ),
        )
        with _held(client, gpus):
            return asyncio.run(_tested(plan, snapshot, gpus, settings, driver))


async def _tested(
    plan: session.Plan,
    snapshot: Snapshot,
    gpus: Sequence[Gpu],
    settings: config.Config,
    driver: DriverFiles,
) -> Report:
    nvml = Nvml(settings.nvml_deadline, settings.nvml_start_deadline, before_start=driver.link)
    try:
        return await session.report(plan, snapshot, gpus, nvml)
    finally:
        await nvml.end()


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """All GPUs, as they are."""
    shown = without_share(ours)
    shown.pop("CUDA_VISIBLE_DEVICES", None)
    return shown


def _chosen(names: tuple[str, ...], snapshot: Snapshot) -> tuple[Gpu, ...]:
    known = {name: gpu for gpu in snapshot.gpus for name in (str(gpu.index), gpu.uuid)}
    for name in names:
        if name not in known:
            raise AllocationError(f"There is no GPU {name} here: `gpuslice status` lists them.")
    return tuple(known[name] for name in names) if names else snapshot.gpus


@contextmanager
def _held(client: Client, gpus: Sequence[Gpu]) -> Generator[None]:
    """Each GPU whole, for as long as this process lives at most. An unhealthy one is nobody's."""
    well = [gpu for gpu in gpus if gpu.health.state is not HealthState.UNHEALTHY]
    for gpu in well:
        if gpu.strangers:
            process = gpu.strangers[0]
            raise AllocationError(
                f"GPU {gpu.index} is used by process {process.pid} ({process.name}), which has no"
                " share: diag tests idle GPUs only."
            )
    if not well:
        yield
        return
    owner = Owner("gpuslice diag", os.getpid())
    names = tuple(gpu.uuid for gpu in well)
    shares = client.create(ShareRequest(gpus=names, whole=True, owner=owner))
    try:
        yield
    finally:
        with suppress(ControlError):  # an agent that comes back finds that we are gone
            client.release(share.id for share in shares)
