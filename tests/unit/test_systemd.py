"""What the service manager hears."""

import asyncio
import socket
from pathlib import Path

from gpuslice_agent.systemd import ServiceManager


def test_the_service_manager_hears_every_state(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(address)
        manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"})
        manager.ready()
        assert hears.recv(100) == b"READY=1"

        async def run() -> None:
            watchdog = asyncio.create_task(manager.keep_watchdog())
            for _ in range(3):
                data = await asyncio.get_running_loop().run_in_executor(None, hears.recv, 100)
                assert data == b"WATCHDOG=1"
            watchdog.cancel()

        asyncio.run(run())


def test_an_abstract_socket_is_found() -> None:
    name = "gpuslice-test-notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).stopping()
        assert hears.recv(100) == b"STOPPING=1"


def test_without_a_service_manager_nothing_is_said() -> None:
    ServiceManager({}).ready()


def test_a_service_manager_that_does_not_listen_does_not_hold_the_agent_up(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(address)
        manager = ServiceManager({"NOTIFY_SOCKET": address})
        for _ in range(10_000):
            manager.ready()
