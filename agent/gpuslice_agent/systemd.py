"""Tells the service manager how we are (sd_notify): a datagram, so no library is needed for it."""

import asyncio
import socket
from collections.abc import Mapping


class ServiceManager:
    """Whoever started us with NOTIFY_SOCKET; nobody where that is not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # '@' is how an abstract socket is written in an environment variable.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_seconds = int(environ.get("WATCHDOG_USEC", "0")) / 1e6

    def ready(self) -> None:
        self._say("READY=1")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    async def keep_watchdog(self) -> None:
        """Runs on the loop whose health it vouches for."""
        if not self._address or not self._watchdog_seconds:
            await asyncio.Event().wait()
        while True:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / 2)

    def _say(self, state: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
            try:
                manager.sendto(state.encode(), self._address)
            except OSError:
                return  # it is gone or does not listen, and there is nobody else to tell
