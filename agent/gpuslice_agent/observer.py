"""Keeps the Inventory up to date: GPUs through discovery, shares through their files."""

import asyncio
import time
from dataclasses import replace

from gpuslice_agent import audit
from gpuslice_agent.discovery import Gpus, Sight, hotplugs, process_name, process_place
from gpuslice_agent.enforcement import Partitions, Strangers, Wall
from gpuslice_agent.enforcement.partitions import places_of
from gpuslice_agent.health.monitor import HealthMonitor
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import Gpu, Share, Snapshot
from gpuslice_agent.shares import Shares


class Observer:
    """Looks often while there is something to see, and seldom at rest."""

    def __init__(
        self,
        gpus: Gpus,
        shares: Shares,
        inventory: Inventory,
        wall: Wall,
        strangers: Strangers,
        partitions: Partitions,
        health: HealthMonitor,
        poll_interval: float,
        idle_interval: float,
    ) -> None:
        self._gpus = gpus
        self._shares = shares
        self._inventory = inventory
        self._wall = wall
        self._strangers = strangers
        self._partitions = partitions
        self._health = health
        health.changed = self._publish
        self._poll_interval = poll_interval
        self._idle_interval = idle_interval
        self._sight = Sight()
        self._looking: asyncio.Task[None] | None = None

    async def look_at_gpus(self) -> None:
        """May take as long as NVML's deadlines allow. Who comes meanwhile shares the look."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_at_gpus(), name="look at GPUs")
        await asyncio.shield(self._looking)

    async def refresh(self, seconds: float) -> None:
        """Shares as they are now; GPUs too, as far as NVML answers within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self.look_at_gpus()
        except TimeoutError:
            pass  # what was last seen has to do
        self.look_at_shares()

    def look_at_shares(self) -> None:
        self._shares.look()
        self._health.saw(self._sight.gpus, self._shares.all())
        self._publish()

    async def keep_looking_at_gpus(self) -> None:
        while True:
            await self._pause()
            await self.look_at_gpus()

    async def keep_hearing_of_gpus(self) -> None:
        """Who comes or goes is seen at once."""
        async for _ in hotplugs():
            await self.look_at_gpus()  # one that is under way began before
            self._gpus.expect_change()
            await self.look_at_gpus()

    async def keep_looking_at_shares(self) -> None:
        while True:
            await self._pause()
            self.look_at_shares()
            await self._wall.follow()

    async def _pause(self) -> None:
        """Ends early when there is suddenly something to see."""
        waited = 0.0
        while waited < self._idle_interval:
            await asyncio.sleep(self._poll_interval)
            waited += self._poll_interval
            if self._shares.all() or self._inventory.watched:
                return

    async def _look_at_gpus(self) -> None:
        # A process may end, or begin, while NVML is asked: it is a stranger only if it was in no
        # share either before or after, and is still there. Likewise a MIG partition.
        before, places = self._pids(), places_of(self._shares.all())
        sight = await self._gpus.look()
        await self._wall.look(sight.driver_version, sight.gpus)
        self._shares.look()
        known = before | self._pids()
        places |= places_of(self._shares.all())
        judged = [self._partitions.judged(gpu, places) for gpu in sight.gpus]
        gpus = tuple(self._with_strangers(gpu, known) for gpu in judged)
        self._health.saw(gpus, self._shares.all())
        self._sight = replace(sight, gpus=gpus)
        self._publish()
        self._strangers.judge(self._inventory.snapshot, self._wall.pods)

    def _with_strangers(self, gpu: Gpu, known: set[tuple[str, int]]) -> Gpu:
        found = audit.strangers(gpu, known, process_name, process_place)
        return replace(gpu, strangers=audit.without_owners(found, gpu.uuid, self._shares.all()))

    def _pids(self) -> set[tuple[str, int]]:
        return {
            (share.gpu_uuid, process.pid)
            for share in self._shares.all()
            for process in share.usage.processes
        }

    def _publish(self) -> None:
        sight = self._sight
        self._inventory.replace(
            Snapshot(
                taken_at=time.time(),
                driver_version=sight.driver_version,
                cuda_version=sight.cuda_version,
                enforcement=self._wall.enforcement,
                simulated=sight.simulated,
                gpus=tuple(replace(gpu, health=self._health.of(gpu)) for gpu in sight.gpus),
                shares=tuple(self._audited(share) for share in self._shares.all()),
                topology=sight.topology,
                problem=sight.problem,
                health=self._health.health,
                strangers_stopped=self._strangers.stopped,
            )
        )

    def _audited(self, share: Share) -> Share:
        gpu = next((gpu for gpu in self._sight.gpus if gpu.uuid == share.gpu_uuid), None)
        return share if gpu is None else audit.with_excess(share, gpu)
