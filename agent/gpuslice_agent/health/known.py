"""The GPUs that this node has had: the only word on one that is missing. Pure."""

from collections.abc import Iterable

import msgspec

from gpuslice_agent.entities import pci_address
from gpuslice_agent.health.store import KnownGpu
from gpuslice_agent.model import Gpu
from gpuslice_agent.nvml.vitals import Vitals


class KnownGpus:
    def __init__(self, gpus: Iterable[KnownGpu] = ()) -> None:
        self._by_pci = {gpu.pci: gpu for gpu in gpus}
        self.changed = False  # since whoever writes it down set this back

    def all(self) -> tuple[KnownGpu, ...]:
        return tuple(self._by_pci.values())

    def uuids(self) -> dict[str, str]:
        """By PCI address."""
        return {pci: gpu.uuid for pci, gpu in self._by_pci.items()}

    def pci_of(self, uuid: str) -> str | None:
        return next((gpu.pci for gpu in self.all() if gpu.uuid == uuid), None)

    def nvlinks(self, pci: str) -> int:
        gpu = self._by_pci.get(pci)
        return 0 if gpu is None else gpu.nvlinks

    def saw(self, gpus: Iterable[Gpu]) -> tuple[str, ...]:
        """Returns the addresses where another GPU is than was."""
        replaced: list[str] = []
        for gpu in gpus:
            pci = pci_address(gpu.pci_bus_id)
            known = self._by_pci.get(pci)
            if known is not None and known.uuid == gpu.uuid:
                continue
            if known is not None:
                replaced.append(pci)
            # A GPU that was put into another slot is not missing from its old one.
            for old in [one.pci for one in self.all() if one.uuid == gpu.uuid]:
                replaced.append(old)
                del self._by_pci[old]
            self._set(KnownGpu(pci, gpu.uuid, gpu.name))
        return tuple(replaced)

    def examined(self, pci: str, vitals: Vitals) -> None:
        known = self._by_pci.get(pci)
        if known is None:
            return
        self._set(
            msgspec.structs.replace(
                known,
                serial=vitals.serial or known.serial,
                nvlinks=max(known.nvlinks, vitals.nvlinks_up or 0),
            )
        )

    def named(self, pci: str, uuid: str) -> None:
        """The kernel's log says which GPU is there, which helps where NVML is dead."""
        if pci not in self._by_pci:
            self._set(KnownGpu(pci, uuid))

    def missing(self, gpus: Iterable[Gpu]) -> tuple[KnownGpu, ...]:
        here = {gpu.uuid for gpu in gpus}
        return tuple(gpu for gpu in self.all() if gpu.uuid not in here)

    def _set(self, gpu: KnownGpu) -> None:
        self.changed = self.changed or self._by_pci.get(gpu.pci) != gpu
        self._by_pci[gpu.pci] = gpu
