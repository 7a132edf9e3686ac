"""Hears from the kernel that GPUs come and go, change, or get their driver."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pyudev  # pyright: ignore[reportMissingTypeStubs]

log = logging.getLogger(__name__)

udev: Any = pyudev  # it has no types

NVIDIA = "10DE"
# A card is several devices and gets its driver after it has come: one look for all of that.
SETTLE_SECONDS = 0.5


async def hotplugs(vendor: str = NVIDIA) -> AsyncGenerator[None]:
    """Yields some time after a GPU of this PCI vendor came, went or changed.

    Never, where the kernel cannot be heard: who looks now and then sees the GPUs all the same.
    """
    try:
        monitor = await asyncio.to_thread(_monitor)
    except (ImportError, OSError) as error:
        log.info("the kernel's word on GPUs is not heard reason=%s", error)
        await asyncio.Event().wait()
        return
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(monitor, _drain, monitor, vendor, heard)
    try:
        while True:
            await heard.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            heard.clear()
            yield
    finally:
        loop.remove_reader(monitor)


def _monitor() -> Any:
    """ImportError: there is no libudev. Its daemon is not needed: this is the kernel itself."""
    monitor = udev.Monitor.from_netlink(udev.Context(), source="kernel")
    for subsystem in ("pci", "nvidia"):
        monitor.filter_by(subsystem)
    monitor.start()
    return monitor


def _drain(monitor: Any, vendor: str, heard: asyncio.Event) -> None:
    try:
        while (device := monitor.poll(0)) is not None:
            pci_id = str(device.properties.get("PCI_ID", ""))
            if device.subsystem == "nvidia" or pci_id.startswith(f"{vendor}:"):
                log.info("GPU device %s path=%s", device.action, device.device_path)
                heard.set()
    except OSError:
        heard.set()  # more was said than the socket holds
