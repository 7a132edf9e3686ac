"""The kernel's own events, from a device that is really there."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from gpuslice_agent.discovery import Gpus, hotplugs
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.simulation import SimNode, temporary

DEVICES = Path("/sys/bus/pci/devices")


def device() -> Path:
    """Some PCI device of which the kernel speaks when it is asked to."""
    for path in DEVICES.glob("*"):
        if os.access(path / "uevent", os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY:
            return path
    pytest.skip("no PCI device here whose events we may cause")


def vendor_of(path: Path) -> str:
    return (path / "vendor").read_text().strip().removeprefix("0x").upper()


async def heard(path: Path, vendor: str, seconds: float) -> bool:
    async with aclosing(hotplugs(vendor)) as events:
        first = asyncio.ensure_future(anext(events))
        while not first.done() and seconds > 0:
            (path / "uevent").write_text("change")
            await asyncio.wait([first], timeout=0.25)
            seconds -= 0.25
        if not first.done():
            first.cancel()
            await asyncio.wait([first])
            return False
        return True


def test_what_the_kernel_says_of_a_gpu_is_heard() -> None:
    path = device()
    assert asyncio.run(heard(path, vendor_of(path), 30))


def test_what_it_says_of_others_is_not() -> None:
    assert not asyncio.run(heard(device(), "FFFE", 2))


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimNode]:
    with temporary("2xa100-80g", None) as node:
        for name, value in node.environment(os.environ).items():
            monkeypatch.setenv(name, value)
        yield node


def test_a_look_after_a_change_asks_a_new_child(node: SimNode) -> None:
    async def looks() -> tuple[int, int]:
        nvml = Nvml(5, 5)
        gpus = Gpus(nvml)
        before = await gpus.look()
        first = await nvml.describe()
        assert await nvml.describe() is first
        gpus.expect_change()
        after = await gpus.look()
        assert await nvml.describe() is not first
        await nvml.end()
        return len(before.gpus), len(after.gpus)

    assert asyncio.run(looks()) == (2, 2)
