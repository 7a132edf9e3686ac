"""Everything below the control API, on a simulated node: real files, ledger and arbiter.

As a program (`world.py STATE NODE STEP OPERATION [SHARE_ID]`) it performs one operation and is
killed at a given step of it, so that others can look at what is left.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from gpuslice_agent import mounts, native_files
from gpuslice_agent.allocation import Defaults
from gpuslice_agent.discovery import process_name
from gpuslice_agent.enforcement import ContextOverhead, Enforcement, Partitions
from gpuslice_agent.enforcement.library import AgentLibrary, Arbiter, OpenShare
from gpuslice_agent.environment import tenant_environment
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.ledger import Ledger
from gpuslice_agent.mig import MigPolicy
from gpuslice_agent.model import (
    Gpu,
    Health,
    HealthState,
    Limits,
    Owner,
    OwnerKind,
    Placement,
    Share,
    ShareRequest,
    Snapshot,
)
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.owners import Owners, boot_id
from gpuslice_agent.shares import Shares
from gpuslice_agent.simulation import SimNode

MIB = 1 << 20
DRIVER = "simulated"
BOTH = ShareRequest(cores=30, memory_bytes=1024 * MIB, gpus=("0", "1"))

TENANT = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_void_p()
def check(status):
    if status:
        sys.exit(f"CUDA error {status}")
check(cuda.cuInit(0))
check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
check(cuda.cuCtxSetCurrent(context))
check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(int(sys.argv[1]))))
print("ready", flush=True)
sys.stdin.read()
"""


class World:
    def __init__(
        self, shares: Shares, enforcement: Enforcement, ledger: Ledger, inventory: Inventory
    ) -> None:
        self.shares = shares
        self.inventory = inventory
        self.enforcement = enforcement
        self.ledger = ledger

    def create(self, request: ShareRequest) -> tuple[Share, ...]:
        return asyncio.run(self.shares.create(request))

    def take(self, *places: Placement) -> tuple[Share, ...]:
        return asyncio.run(self.shares.take(places))

    def snapshot(self) -> Snapshot:
        return Snapshot(shares=self.shares.all())

    def is_empty(self) -> bool:
        return not (self.shares.all() or self.ledger.shares() or self.enforcement.found())

    def one(self, share_id: str) -> Share:
        return next(share for share in self.shares.all() if share.id == share_id)


@contextmanager
def opened(
    state: Path,
    node: SimNode,
    *,
    tmpfs: bool = False,
    mig: MigPolicy = MigPolicy.OFF,
    nvml: Nvml | None = None,
) -> Generator[World]:
    """As the agent does when it starts, up to where it serves."""
    (state / "shares").mkdir(parents=True, exist_ok=True)
    with ExitStack() as resources:
        library = AgentLibrary(native_files.agent_library(), native_files.agent_header())
        ledger = resources.enter_context(closing(Ledger(state, boot_id())))
        owners = resources.enter_context(closing(Owners()))
        enforcement = Enforcement(library, state / "shares", tmpfs=tmpfs, name_of=process_name)
        resources.enter_context(closing(enforcement))
        inventory = Inventory()
        inventory.replace(Snapshot(driver_version=DRIVER, gpus=gpus_of(node)))
        for gpu in inventory.snapshot.gpus:
            if ledger.context_overhead(gpu.uuid) is None:
                ledger.set_context_overhead(gpu.uuid, DRIVER, 0)
        overhead = ContextOverhead(Nvml(5, 5), ledger)
        partitions = Partitions(nvml or Nvml(5, 5), mig)
        shares = Shares(ledger, enforcement, owners, overhead, partitions, inventory, Defaults())
        shares.recover()
        yield World(shares, enforcement, ledger, inventory)


def nvml_of(node: SimNode) -> Nvml:
    """NVML of a node that is not this process's own."""
    variables = [f"{name}={value}" for name, value in node.environment({}).items()]
    return Nvml(
        20, 20, ("env", *variables, sys.executable, "-P", "-m", "gpuslice_agent.nvml.child")
    )


def gpus_of(node: SimNode) -> tuple[Gpu, ...]:
    show = [str(native_files.sim_node_program()), "show", str(node.path)]
    shown = json.loads(subprocess.run(show, capture_output=True, check=True).stdout)
    return tuple(
        Gpu(
            index=gpu["index"],
            uuid=gpu["uuid"],
            name=gpu["name"],
            pci_bus_id="",
            memory_bytes=gpu["memory_total_bytes"],
            health=Health(HealthState.HEALTHY),
        )
        for gpu in shown["gpus"]
    )


def place(
    node: SimNode,
    gpu: int,
    limits: Limits,
    container: str = "main",
    *,
    pod_uid: str = "uid-1",
    moments: tuple[int, ...] = (),
) -> Placement:
    owner = Owner(
        name=f"team/train {container}",
        kind=OwnerKind.CONTAINER,
        key=f"pod/{pod_uid}/{container}/0",
        namespace="team",
        pod="train",
        pod_uid=pod_uid,
        container=container,
        moments=moments,
        cdi_devices=(f"{pod_uid}-{container}",),
    )
    return Placement(gpus_of(node)[gpu].uuid, limits, owner)


def tenant(
    node: SimNode, *shares: Share, holds: int = MIB
) -> AbstractContextManager[subprocess.Popen[str]]:
    """A program with these shares that has allocated `holds` bytes and waits."""
    directories = [share.directory for share in shares]
    return program(node, tenant_environment(os.environ, native_files.shim(), directories), holds)


@contextmanager
def program(
    node: SimNode, environment: Mapping[str, str], holds: int = MIB
) -> Generator[subprocess.Popen[str]]:
    found = node.environment(environment) | {
        name: environment[name] for name in ("LD_PRELOAD", "GPUSLICE_SHARES") if name in environment
    }
    with subprocess.Popen(
        [sys.executable, "-c", TENANT, str(holds)],
        env=found,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


# What leaves a trace outside of the process; the places to be killed at are around each.
STEPS: tuple[tuple[Any, str], ...] = (
    (Ledger, "insert"),
    (Ledger, "set_limits"),
    (Ledger, "set_ending"),
    (Ledger, "delete"),
    (AgentLibrary, "create_files"),
    (OpenShare, "__init__"),
    (OpenShare, "set_limits"),
    (OpenShare, "close"),
    (Arbiter, "__init__"),
    (Arbiter, "add"),
    (Arbiter, "remove"),
    (Arbiter, "stop"),
    (Path, "mkdir"),
    (Path, "rename"),
    (Path, "rmdir"),
    (Path, "unlink"),
    (shutil, "rmtree"),
    (mounts, "mount_tmpfs"),
    (mounts, "bind"),
    (mounts, "detach"),
)


def die_at(step: int) -> None:
    """SIGKILL before or after the call that comes as the `step`th of these from now on."""
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1
        if passed == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def with_kills(*arguments: Any, **named: Any) -> Any:
            count()
            result = call(*arguments, **named)
            count()
            return result

        return with_kills

    for owner, name in STEPS:
        setattr(owner, name, deadly(getattr(owner, name)))


def main() -> None:
    state, node, step, operation, *ids = sys.argv[1:]
    with opened(Path(state), SimNode(Path(node)), tmpfs=True) as world:
        die_at(int(step))
        if operation == "create":
            world.create(BOTH)
        elif operation == "release":
            world.shares.release(ids)
        elif operation == "resize":
            world.shares.resize(ids[0], 60, 2048 * MIB)
        # Closing is no part of the operation.
        os._exit(0)


if __name__ == "__main__":
    main()
