"""What the kubelet finds of the driver: its sockets, which may be there before the driver is.

A kubelet that knows no instance of a driver fails its pods for a minute. So in an upgrade the newer
instance registers while the older one still serves, and whoever asks it meanwhile waits.
"""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from gpuslice_plugin import sockets
from gpuslice_plugin.calls import Calls
from gpuslice_plugin.dra import health, service
from gpuslice_plugin.dra.health import DeviceHealth
from gpuslice_plugin.dra.names import DRIVER
from gpuslice_plugin.dra.service import Service
from gpuslice_plugin.registration import Plugin, Registration

log = logging.getLogger(__name__)

# The kubelet looks at its directory every second; one that is down keeps no upgrade waiting.
REGISTERED_SECONDS = 5.0


class Front:
    def __init__(self, node: str, kubelet_dir: Path, calls: Calls) -> None:
        self.calls = calls
        self.service = Service(calls)
        self.health = DeviceHealth(node)
        instance = sockets.instance()
        self._endpoint = kubelet_dir / "plugins" / DRIVER / f"dra-{instance}.sock"
        self._registrar = kubelet_dir / "plugins_registry" / f"{DRIVER}-{instance}-reg.sock"
        versions = (*service.VERSIONS, *health.VERSIONS)
        self._registration = Registration(
            Plugin("DRAPlugin", DRIVER, str(self._endpoint), versions)
        )
        self._sockets = AsyncExitStack()
        self._is_open = False

    async def open(self) -> None:
        """Idempotent. The registrar comes last: who is found there is ready to answer."""
        if self._is_open:
            return
        self._is_open = True
        parts = (self.service, self.health)
        await self._sockets.enter_async_context(sockets.served(self._endpoint, *parts))
        await self._sockets.enter_async_context(sockets.served(self._registrar, self._registration))

    async def registered(self) -> None:
        """Returns once the kubelet knows this instance, or is not there to tell."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._registration.known.wait(), REGISTERED_SECONDS)

    async def close(self) -> None:
        """Idempotent. The registrar goes first, and calls under way have a second to end."""
        await self._sockets.aclose()

    def remove_dead(self) -> None:
        """What earlier instances left behind."""
        sockets.remove_dead(self._registrar, f"{DRIVER}-*-reg.sock")
        sockets.remove_dead(self._endpoint, "dra-*.sock")
