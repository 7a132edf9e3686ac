"""How many lines a second the parser of the kernel's log takes, on one core: faults only, which is
the most work there is, and an ordinary log with one fault in a hundred lines. The ratio says how
much a fault costs beside a line that is none.

    python bench/xid_parser.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import pairs

from gpuslice_agent.health.line import parse

FAULTS = (
    "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    "[   81.234567] NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:00): 31, pid=7194, name=python3, Ch "
    "00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_8 faulted @ 0x73ac_1c00.",
    "4,1234,81234567,-;NVRM: Xid (PCI:0000:9b:00): 119, pid=2024380, name=nvidia-smi, Timeout "
    "after 6s of waiting for RPC response from GPU4 GSP! Expected function 103 (GSP_RM_ALLOC).",
    "Nov 20 14:03:07 node kernel: NVRM: Xid (PCI:0018:01:00): 145, pid=876767, name=ray::Work, "
    "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008 0x00000001 0x00000000)",
    "NVRM: GPU 0000:29:00.0: GPU has fallen off the bus.",
    "nvidia-nvswitch0: SXid (PCI:0000:a9:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
)
ORDINARY = (
    "pci 0000:9b:00.0: [10de:2330] type 00 class 0x030200 PCIe Endpoint",
    "usb 1-1: new high-speed USB device number 4 using xhci_hcd",
    "EXT4-fs (nvme0n1p2): mounted filesystem r/w with ordered data mode. Quota mode: none.",
    "docker0: port 1(veth79a1b2c) entered forwarding state",
    "nvidia-uvm: Loaded the UVM driver, major device number 509.",
)
LINES = 60_000


def parsing(lines: Sequence[str]) -> Callable[[], float]:
    """Lines a second."""

    def measure() -> float:
        begin = time.thread_time()
        for line in lines:
            parse(line)
        return len(lines) / (time.thread_time() - begin)

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    arguments = parser.parse_args()
    faults = [FAULTS[i % len(FAULTS)] for i in range(LINES)]
    ordinary = [
        FAULTS[i // 100 % len(FAULTS)] if i % 100 == 0 else ORDINARY[i % len(ORDINARY)]
        for i in range(LINES)
    ]
    rows = pairs.interleave(arguments.pairs, parsing(faults), parsing(ordinary))
    pairs.report(
        "xid_parser",
        "no GPU",
        [
            pairs.figure("faults only", "lines/s", [row[0] for row in rows], "≥ 200 000"),
            pairs.figure("an ordinary log", "lines/s", [row[1] for row in rows], "≥ 200 000"),
            pairs.figure(
                "a fault costs, beside an ordinary line", "times", [row[1] / row[0] for row in rows]
            ),
        ],
    )


if __name__ == "__main__":
    main()
