"""Remembers the node's health across restarts, in one file of the state directory."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from gpuslice_agent.entities import XidCount
from gpuslice_agent.errors import HealthError
from gpuslice_agent.health.states import Case


class KnownGpu(msgspec.Struct, frozen=True):
    """A GPU that was here. One that is missing after a boot is told by this only."""

    pci: str
    uuid: str
    name: str = ""
    serial: str = ""
    nvlinks: int = 0  # the most that were up


class Remembered(msgspec.Struct, frozen=True):
    boot_id: str = ""
    sequence: int = -1  # of the last record of the kernel's log that was taken in
    gpus: tuple[KnownGpu, ...] = ()
    cases: tuple[Case, ...] = ()
    counts: tuple[XidCount, ...] = ()


class Store:
    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "health.json"
        self._saved = b""

    def load(self) -> Remembered:
        """Nothing is remembered where there is no file. Raises HealthError for a damaged one."""
        try:
            self._saved = self._path.read_bytes()
            return msgspec.json.decode(self._saved, type=Remembered)
        except FileNotFoundError:
            return Remembered()
        except (OSError, msgspec.DecodeError) as error:
            raise HealthError(
                f"{self._path} cannot be read ({error}); health begins anew."
            ) from error

    def save(self, remembered: Remembered) -> None:
        """Whole or not at all, and not again what is there already."""
        data = msgspec.json.encode(remembered)
        if data == self._saved:
            return
        beside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(self._path)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            raise HealthError(f"{self._path} cannot be written: {error.strerror}.") from error
        self._saved = data
