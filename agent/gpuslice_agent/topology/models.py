"""What a GPU is called here, whatever its driver, its cloud or its vBIOS calls it.

The PCI device id is the chip's and the board's, and no cloud changes it; the product string is only
read where the id is not in the table. Ids and cards: the PCI ID database.
"""

import re
from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Model:
    """A100, SXM4, 80 GiB. `form` is empty where nobody knows."""

    name: str
    form: str
    memory_gib: int

    def __str__(self) -> str:
        return "-".join(filter(None, (self.name, self.form, f"{self.memory_gib}GiB")))


KNOWN = {
    0x15F8: Model("P100", "PCIe", 16),
    0x15F9: Model("P100", "SXM2", 16),
    0x1B38: Model("P40", "PCIe", 24),
    0x1BB3: Model("P4", "PCIe", 8),
    0x1DB1: Model("V100", "SXM2", 16),
    0x1DB4: Model("V100", "PCIe", 16),
    0x1DB5: Model("V100", "SXM2", 32),
    0x1DB6: Model("V100", "PCIe", 32),
    0x1DF6: Model("V100S", "PCIe", 32),
    0x1EB8: Model("T4", "PCIe", 16),
    0x20B0: Model("A100", "SXM4", 40),
    0x20B2: Model("A100", "SXM4", 80),
    0x20B5: Model("A100", "PCIe", 80),
    0x20B7: Model("A30", "PCIe", 24),
    0x20F1: Model("A100", "PCIe", 40),
    0x20F3: Model("A800", "SXM4", 80),
    0x2230: Model("RTX-A6000", "PCIe", 48),
    0x2235: Model("A40", "PCIe", 48),
    0x2236: Model("A10", "PCIe", 24),
    0x2237: Model("A10G", "PCIe", 24),
    0x2321: Model("H100", "NVL", 94),
    0x2324: Model("H800", "SXM5", 80),
    0x2329: Model("H20", "SXM5", 96),
    0x2330: Model("H100", "SXM5", 80),
    0x2331: Model("H100", "PCIe", 80),
    0x2335: Model("H200", "SXM5", 141),
    0x233B: Model("H200", "NVL", 141),
    0x2342: Model("GH200", "SXM5", 96),
    0x26B1: Model("RTX-6000-Ada", "PCIe", 48),
    0x26B5: Model("L40", "PCIe", 48),
    0x26B9: Model("L40S", "PCIe", 48),
    0x27B8: Model("L4", "PCIe", 24),
    0x2901: Model("B200", "SXM6", 180),
    0x2941: Model("GB200", "SXM6", 186),
}
NVIDIA = 0x10DE

FORM = re.compile(r"\b(SXM\d?|PCIe|NVL\d*|HGX)\b", re.IGNORECASE)
MEMORY = re.compile(r"\b(\d+) ?GB\b", re.IGNORECASE)
# Words that say who made it, not what it is.
NOISE = re.compile(
    r"\b(NVIDIA|Tesla|GeForce|Quadro|Graphics|HBM\d\w*|simulated)\b|[()]", re.IGNORECASE
)
FORMS = {"pcie": "PCIe"}


def canonical(name: str, pci_device_id: int, memory_bytes: int) -> Model:
    if pci_device_id & 0xFFFF == NVIDIA and (known := KNOWN.get(pci_device_id >> 16)):
        return known
    spaced = name.replace("-", " ").replace("_", " ")
    form = FORM.search(spaced)
    rest = NOISE.sub(" ", MEMORY.sub(" ", FORM.sub(" ", spaced)))
    spelled = "" if form is None else form[1]
    return Model(
        name="-".join(rest.split()) or "GPU",
        form=FORMS.get(spelled.lower(), spelled.upper()),
        memory_gib=round(memory_bytes / GIB),
    )
