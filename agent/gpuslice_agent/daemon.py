"""Puts the parts of the agent together and keeps them running."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from prometheus_client.registry import Collector

from gpuslice_agent import native_files, run_directory, takeover
from gpuslice_agent.allocation import Defaults, path_of
from gpuslice_agent.cgroups import PodCgroups
from gpuslice_agent.config import Config
from gpuslice_agent.control.server import Control, serve
from gpuslice_agent.discovery import Gpus, process_name, process_place
from gpuslice_agent.driver_files import DriverFiles
from gpuslice_agent.enforcement import ContextOverhead, Enforcement, Partitions, Strangers, Wall
from gpuslice_agent.enforcement.library import AgentLibrary
from gpuslice_agent.errors import NvmlError
from gpuslice_agent.health import catalogue
from gpuslice_agent.health.monitor import HealthMonitor
from gpuslice_agent.health.store import Store
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.ledger import Ledger
from gpuslice_agent.model import Gpu, GpuPath
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.observer import Observer
from gpuslice_agent.owners import Owners, boot_id
from gpuslice_agent.publish import serve_metrics
from gpuslice_agent.run_directory import RunDirectory
from gpuslice_agent.shares import Shares
from gpuslice_agent.systemd import ServiceManager

log = logging.getLogger(__name__)

UNUSED_CHECK_SECONDS = 0.2


class Extension(Protocol):
    """What runs beside the agent's own parts, on its shares: Kubernetes."""

    async def run(self) -> None: ...

    @property
    def collectors(self) -> Iterable[Collector]:
        """Its own metrics."""
        ...


Attach = Callable[[Config, Shares, Inventory, Wall, Strangers], Extension]


class Extend(Protocol):
    """Opens what others may find before this agent owns its run directory, if `early`; yields what
    makes the rest of it.
    """

    def __call__(self, config: Config, *, early: bool) -> AbstractAsyncContextManager[Attach]: ...


async def run(config: Config, manager: ServiceManager, extend: Extend | None = None) -> None:
    """Runs the agent until SIGTERM, or until a part of it fails: then all stop and this raises.

    A private agent ends by itself, some seconds after its last share and who watched it.
    """
    _log_to_stderr(config)
    directory = RunDirectory(config.run_dir)
    run_directory.prepare(directory, private=config.private)
    stop, terminated = asyncio.Event(), asyncio.Event()

    def terminate() -> None:
        terminated.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, terminate)
    while not terminated.is_set():
        stop.clear()
        if not await _run_once(config, directory, manager, extend, stop):
            return


async def _run_once(
    config: Config,
    directory: RunDirectory,
    manager: ServiceManager,
    extend: Extend | None,
    stop: asyncio.Event,
) -> bool:
    """True when the agent gave way to another, and may be needed again."""
    driver = DriverFiles(config.driver_root, directory.driver)
    nvml = Nvml(config.nvml_deadline, config.nvml_start_deadline, before_start=driver.link)
    early = bool(config.pod_uid) and config.pod_uid not in directory.gave_way()
    if early:
        # The driver starts in a second, which nobody shall wait for once the other has let go.
        with suppress(NvmlError):
            await nvml.describe()
    async with AsyncExitStack() as resources:
        attach = None
        if extend is not None:
            attach = await resources.enter_async_context(extend(config, early=early))
        ownership = await takeover.owned(
            directory, private=config.private, instance=config.pod_uid, stop=stop
        )
        if ownership is None:
            await nvml.end()
            return False
        resources.callback(ownership.release)
        agent = Agent(config, directory, nvml, resources, attach)
        await agent.run(manager, stop)
        if agent.gave_way:
            directory.give_way(config.pod_uid)
        return agent.gave_way


class Agent:
    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        nvml: Nvml,
        resources: AsyncExitStack,
        attach: Attach | None,
    ) -> None:
        self._config = config
        self._directory = directory
        library = AgentLibrary(native_files.agent_library(), native_files.agent_header())
        ledger = resources.enter_context(closing(Ledger(config.state_dir, boot_id())))
        owners = resources.enter_context(closing(Owners()))
        enforcement = Enforcement(
            library,
            directory.shares,
            # The tenants of a private agent are its own user, who can fill more than that.
            tmpfs=os.geteuid() == 0 and not config.private,
            name_of=process_name,
        )
        resources.enter_context(closing(enforcement))
        self._nvml = nvml
        self._inventory = Inventory()
        partitions = Partitions(self._nvml, config.mig)
        self._shares = Shares(
            ledger,
            enforcement,
            owners,
            ContextOverhead(self._nvml, ledger),
            partitions,
            self._inventory,
            Defaults(config.policy, config.placement, config.overcommit_ratio),
        )
        self._wall = Wall(
            self._nvml,
            PodCgroups(config.cgroup_dir, config.cgroup_root),
            self._shares.all,
            # A share of `gpuslice run` has no cgroup of its own.
            wanted=config.kernel_wall and bool(config.node_name) and os.geteuid() == 0,
        )
        self._strangers = Strangers(config.strangers)
        override = config.fault_catalogue
        self._health = HealthMonitor(
            self._nvml,
            catalogue.load(Path(override) if override else None),
            Store(config.state_dir),
            kmsg=config.kmsg,
            boot_id=boot_id(),
            may_evict=config.evict_from_lost_gpus,
            use_journal=not config.private,
            place_of=process_place,
        )
        self._observer = Observer(
            Gpus(self._nvml, config.sysfs_dir, path_of=partial(_path_of, config)),
            self._shares,
            self._inventory,
            self._wall,
            self._strangers,
            partitions,
            self._health,
            config.poll_interval,
            config.idle_interval,
        )
        self._control = Control(
            self._shares, self._observer, self._inventory, hands_over=bool(config.pod_uid)
        )
        self._extension = attach and attach(
            config, self._shares, self._inventory, self._wall, self._strangers
        )

    @property
    def gave_way(self) -> bool:
        return self._control.handed_over.is_set()

    async def run(self, manager: ServiceManager, stop: asyncio.Event) -> None:
        # First of all: tenants may be running, and pace themselves until their arbiter is back.
        self._shares.recover()
        try:
            await self._first_look(stop)
            await self._shares.find_partitions()
            more = self._extension.collectors if self._extension is not None else ()
            with serve_metrics(self._config, lambda: self._inventory.snapshot, more):
                async with serve(self._control, self._directory, private=self._config.private):
                    await self._supervise(stop, manager)
        finally:
            self._shares.sweep()
            if not await self._nvml.end():
                log.error("the NVML child is stuck in the driver: it is left behind")

    async def _first_look(self, stop: asyncio.Event) -> None:
        """So that nobody is told of a node without GPUs while the driver starts."""
        look = asyncio.create_task(self._observer.look_at_gpus())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((look, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if look.done():
            look.result()
        look.cancel()

    async def _supervise(self, stop: asyncio.Event, manager: ServiceManager) -> None:
        parts = {
            "GPUs": self._observer.keep_looking_at_gpus(),
            "hotplug": self._observer.keep_hearing_of_gpus(),
            "health": self._health.run(),
            "shares": self._observer.keep_looking_at_shares(),
            "partitions": self._shares.keep_removing_partitions(),
            "watchdog": manager.keep_watchdog(),
            "hand-over": self._stop_when_handed_over(stop),
        }
        if self._extension is not None:
            parts["Kubernetes"] = self._extension.run()
        if self._config.private:
            parts["use"] = self._stop_when_unused(stop)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_forever(part, name), name=name) for name, part in parts.items()
            ]
            manager.ready()
            log.info("serving socket=%s", self._directory.socket)
            await stop.wait()
            log.info("stopping")
            manager.stopping()
            for task in tasks:
                task.cancel()

    async def _stop_when_handed_over(self, stop: asyncio.Event) -> None:
        await self._control.handed_over.wait()
        stop.set()
        await asyncio.Event().wait()

    async def _stop_when_unused(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        used = loop.time()
        while True:
            await asyncio.sleep(UNUSED_CHECK_SECONDS)
            if self._shares.all() or self._control.is_changing or self._inventory.watched:
                used = loop.time()
            elif loop.time() - used >= self._config.private_grace:
                # Nothing runs between this and the refusal of whoever comes now.
                self._control.closing = True
                stop.set()
                await asyncio.Event().wait()


async def _forever(part: Coroutine[Any, Any, None], name: str) -> None:
    """Runs a part that has no reason to end; ending is a failure like any other."""
    await part
    raise RuntimeError(f"{name} ended by itself")


def _path_of(config: Config, gpu: Gpu) -> GpuPath:
    if not config.node_name:
        return GpuPath.LOCAL
    return path_of(gpu, config.plugin_gpus, config.dra_gpus)


def _log_to_stderr(config: Config) -> None:
    """The journal, or whoever reads our stderr, adds the time."""
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for package in ("gpuslice_agent", "gpuslice_plugin"):
        logging.getLogger(package).setLevel(config.log_level.upper())
