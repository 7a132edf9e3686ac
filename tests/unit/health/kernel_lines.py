"""Lines as the driver prints them, with what they say: the captures and formats that are known."""

from dataclasses import dataclass

from gpuslice_agent.entities import Action


@dataclass(frozen=True)
class Known:
    """`text` is the record's text; a newline in it is one within the record."""

    text: str
    pci: str
    code: int | None
    action: Action
    gi: int | None = None
    ci: int | None = None
    pid: int | None = None
    process: str | None = None


A = Action
UNKNOWN = "pid='<unknown>', name=<unknown>, "
KNOWN = (
    Known("NVRM: Xid (0000:03:00): 14, Channel 00000001", "0000:03:00", 14, A.IGNORE),
    Known(
        f"NVRM: Xid (PCI:0000:05:00): 79, {UNKNOWN}GPU has fallen off the bus.",
        "0000:05:00",
        79,
        A.RESTART_BM,
    ),
    Known(
        "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.",
        "0000:01:00",
        79,
        A.RESTART_BM,
    ),
    Known("NVRM: GPU 0000:29:00.0: GPU has fallen off the bus.", "0000:29:00", 79, A.RESTART_BM),
    Known(
        "NVRM: The NVIDIA GPU 0000:b3:00.0\n"
        "NVRM: (PCI ID: 10de:26b5) installed in this system has\n"
        "NVRM: fallen off the bus and is not responding to commands.",
        "0000:b3:00",
        79,
        A.RESTART_BM,
    ),
    Known(
        f"NVRM: Xid (PCI:0000:38:00): 13, {UNKNOWN}Graphics SM Warp Exception on "
        "(GPC 9, TPC 1, SM 1): Out Of Range Address",
        "0000:38:00",
        13,
        A.RESTART_APP,
    ),
    Known(
        f"NVRM: Xid (PCI:0000:38:00): 13, {UNKNOWN}Graphics Exception: ESR 0x546fb0=0x11f000e "
        "0x546fb4=0x24 0x546fa8=0xf81eb60 0x546fac=0x1174",
        "0000:38:00",
        13,
        A.RESTART_APP,
    ),
    Known(
        "NVRM: Xid (PCI:0000:3b:00): 31, pid=4711, name=python3, Ch 00000008, intr 00000000. MMU "
        "Fault: ENGINE GRAPHICS GPCCLIENT_T1_8 faulted @ 0x73ac_1c000000. Fault is of type "
        "FAULT_PDE ACCESS_TYPE_VIRT_WRITE",
        "0000:3b:00",
        31,
        A.RESTART_APP,
        pid=4711,
        process="python3",
    ),
    Known(
        "NVRM: Xid (PCI:0000:01:00): 43, pid=1814139, name=cuda_assert_64b, Ch 00000018",
        "0000:01:00",
        43,
        A.IGNORE,
        pid=1814139,
        process="cuda_assert_64b",
    ),
    Known(
        "NVRM: Xid (PCI:0000:dc:00): 45, pid=1818990, name=python3, Ch 00000001 "
        "caused by previous Xid 149",
        "0000:dc:00",
        45,
        A.IGNORE,
        pid=1818990,
        process="python3",
    ),
    Known(
        "NVRM: Xid (PCI:0000:0d:00): 51, BAD_TSG encountered on runlist: 0 with error code: 4",
        "0000:0d:00",
        51,
        A.CONTACT_SUPPORT,
    ),
    Known(
        "NVRM: Xid (PCI:0000:3b:00): 62, pid=213710, name=nvtop, 323b6a66 000066f0 00000000",
        "0000:3b:00",
        62,
        A.RESET_GPU,
        pid=213710,
        process="nvtop",
    ),
    Known(
        f"NVRM: Xid (PCI:0000:D8:00): 74, {UNKNOWN}NVLink: fatal error detected on link "
        "14(0x100000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)",
        "0000:d8:00",
        74,
        A.CONTACT_SUPPORT,
    ),
    Known(
        "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9). "
        "RST: No, D-RST: No",
        "0000:01:00",
        94,
        A.RESTART_APP,
        gi=5,
        pid=7194,
    ),
    Known(
        "NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:00): 31, pid=7194, name=python3, Ch 00000008, "
        "intr 00000000. MMU Fault: ENGINE GRAPHICS",
        "0000:01:00",
        31,
        A.RESTART_APP,
        gi=5,
        ci=0,
        pid=7194,
        process="python3",
    ),
    Known(
        f"NVRM: Xid (PCI:0000:3b:00): 95, {UNKNOWN}Uncontained: LTC TAG (0x2, 0x1). RST: Yes, "
        "D-RST: No",
        "0000:3b:00",
        95,
        A.RESET_GPU,
    ),
    Known(
        "NVRM: Xid (PCI:0000:3b:00): 109, pid=99, name=train, Ch 00000008, errorString CTX SWITCH "
        "TIMEOUT, Info 0x58005",
        "0000:3b:00",
        109,
        A.RESET_GPU,
        pid=99,
        process="train",
    ),
    Known(
        "NVRM: Xid (PCI:0000:9b:00): 119, pid=2024380, name=nvidia-smi, Timeout after 6s of "
        "waiting for RPC response from GPU4 GSP! Expected function 103 (GSP_RM_ALLOC) "
        "(0x2081 0x4).",
        "0000:9b:00",
        119,
        A.RESET_GPU,
        pid=2024380,
        process="nvidia-smi",
    ),
    Known(
        f"NVRM: Xid (PCI:0000:9b:00): 119, {UNKNOWN}Timeout waiting for RPC from GSP! Expected "
        "function FREE (0x0 0x0).",
        "0000:9b:00",
        119,
        A.RESET_GPU,
    ),
    Known(
        f"NVRM: Xid (PCI:0000:3b:00): 120, {UNKNOWN}GSP Error: Task 1 raised error code 0x5 for "
        "reason 0x0 at 0x63f01ac (0 more errors skipped)",
        "0000:3b:00",
        120,
        A.RESET_GPU,
    ),
    Known(
        "NVRM: Xid (PCI:0018:01:00): 145, pid=876767, name=ray::WorkerDict, RLW_RXPIPE Nonfatal "
        "XC0 i0 Link 13 (0x0409a0c2 0x00000008 0x00000001 0x00000000 0x00100000 0x00000004)",
        "0018:01:00",
        145,
        A.IGNORE,
        pid=876767,
        process="ray::WorkerDict",
    ),
    Known(
        "NVRM: Xid (PCI:0009:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 "
        "(0x021425c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)",
        "0009:01:00",
        149,
        A.RESET_GPU,
    ),
    Known(
        "NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x4 "
        "(Drain and Reset)",
        "0009:01:00",
        154,
        A.DRAIN_AND_RESET,
    ),
    Known(
        "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 "
        "(OS Reboot)",
        "0000:01:00",
        154,
        A.RESTART_BM,
    ),
    Known(
        "NVRM: Xid (PCI:0000:0d:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 "
        "(PF FLR)",
        "0000:0d:00",
        154,
        A.RESET_GPU,
    ),
    Known(
        "NVRM: Xid (PCI:0000:0e:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 "
        "(GPU Reset Required)",
        "0000:0e:00",
        154,
        A.RESET_GPU,
    ),
    Known(
        f"NVRM: Xid (PCI:0000:3b:00): 172, {UNKNOWN}SM ICACHE, Uncorrectable SRAM error in GPC 7 "
        "TPC 6",
        "0000:3b:00",
        172,
        A.FOLLOW_DRIVER,
    ),
    Known(
        "nvidia-nvswitch0: SXid (PCI:0000:a9:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
        "0000:a9:00",
        20034,
        A.RESET_GPU,
    ),
    Known(
        "nvidia-nvswitch0: SXid (PCI:0000:a9:00.0): 20034, Data {0x50610002, 0x10100030}",
        "0000:a9:00",
        20034,
        A.IGNORE,
    ),
    Known(
        "nvidia-nvswitch3: SXid (PCI:0000:ab:00.0): 12028, Non-fatal, Link 32 egress non-posted "
        "PRIV error (First)",
        "0000:ab:00",
        12028,
        A.IGNORE,
    ),
    # Not captured, but of drivers that there are.
    Known("NVRM: Xid (PCI:0000:3b:00): 999, something new", "0000:3b:00", 999, A.FOLLOW_DRIVER),
    Known(
        "NVRM: Xid (PCI:0000:3b:00): 45, pid=7, name=a(b), c, Ch 00000001",
        "0000:3b:00",
        45,
        A.IGNORE,
        pid=7,
        process="a(b)",
    ),
    Known(
        "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0xffff:1482)",
        "0000:3b:00",
        None,
        A.RESET_GPU,
    ),
)
RECOVERED = (
    "NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x4 (Drain and Reset) to "
    "0x0 (None)"
)


def as_record(text: str, priority: int = 4, flags: str = "-") -> str:
    """As one read of /dev/kmsg returns it."""
    escaped = text.replace("\\", "\\x5c").replace("\n", "\\x0a")
    return (
        f"{priority},1234,81234567,{flags};{escaped}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:3b:00.0\n"
    )


def _as_dmesg(text: str) -> str:
    return "[   81.234567] " + text.replace("\n", "\n               ")


def _as_dmesg_with_dates(text: str) -> str:
    return "[Fri Nov 20 14:03:07 2026] " + text.replace("\n", "\n[Fri Nov 20 14:03:07 2026] ")


def _as_journal(text: str) -> str:
    before = "Nov 20 14:03:07 gpu-node-7 kernel: "
    return before + text.replace("\n", "\n" + " " * len(before))


def _as_syslog(text: str) -> str:
    return "Nov  2 04:03:07 gpu-node-7 kernel: [   81.234567] " + text.replace("\n", "#012")


WRAPPERS = {
    "record": as_record,
    "dmesg": _as_dmesg,
    "dmesg -T": _as_dmesg_with_dates,
    "journal": _as_journal,
    "syslog": _as_syslog,
}
