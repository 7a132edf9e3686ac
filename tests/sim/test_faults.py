"""Faults injected into a simulated node, as NVML, CUDA programs and the kernel log tell them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent import native_files, simulation
from gpuslice_agent.simulated_kmsg import SimulatedKmsg
from gpuslice_agent.simulation import SimNode

from .nvml_node import KERNELS, look

STATE = """
import json, pynvml as n
n.nvmlInit()
CRC_FLIT = n.NVML_NVLINK_ERROR_DL_CRC_FLIT
def ask(call, *arguments):
    try:
        return call(*arguments)
    except n.NVMLError as error:
        return str(error)
def seen(index):
    h = n.nvmlDeviceGetHandleByIndex(index)
    field = ask(n.nvmlDeviceGetFieldValues, h, [n.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    return {
        "uuid": ask(n.nvmlDeviceGetUUID, h),
        "action": field if isinstance(field, str) else field[0].value.uiVal,
        "remapped": ask(n.nvmlDeviceGetRemappedRows, h),
        "corrected": ask(n.nvmlDeviceGetTotalEccErrors, h, 0, n.NVML_VOLATILE_ECC),
        "corrected_ever": ask(n.nvmlDeviceGetTotalEccErrors, h, 0, n.NVML_AGGREGATE_ECC),
        "uncorrected": ask(n.nvmlDeviceGetTotalEccErrors, h, 1, n.NVML_VOLATILE_ECC),
        "width": ask(n.nvmlDeviceGetCurrPcieLinkWidth, h),
        "generation": ask(n.nvmlDeviceGetCurrPcieLinkGeneration, h),
        "reasons": ask(n.nvmlDeviceGetCurrentClocksEventReasons, h),
        "links": [ask(n.nvmlDeviceGetNvLinkState, h, link) for link in range(3)],
        "link_errors": ask(n.nvmlDeviceGetNvLinkErrorCounter, h, 2, CRC_FLIT),
    }
print(json.dumps([seen(i) for i in range(n.nvmlDeviceGetCount())]))
"""

EVENTS = """
import json, sys, pynvml as n
n.nvmlInit()
events = n.nvmlEventSetCreate()
for index in range(n.nvmlDeviceGetCount()):
    h = n.nvmlDeviceGetHandleByIndex(index)
    n.nvmlDeviceRegisterEvents(h, n.nvmlDeviceGetSupportedEventTypes(h), events)
print("ready", flush=True)
while True:
    e = n.nvmlEventSetWait_v2(events, 20000)
    print(json.dumps([e.eventType, e.eventData, e.gpuInstanceId, e.computeInstanceId]), flush=True)
"""

ASKER = """
import pynvml as n
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
print("ready", flush=True)
input()
n.nvmlDeviceGetTemperature(h, 0)
print("answered", flush=True)
"""

XID, UNAVAILABLE, RECOVERY = 0x8, 0x4000, 0x8000
NOWHERE = 0xFFFFFFFF


@pytest.fixture
def node() -> Iterator[SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


def inject(node: SimNode, *words: str) -> None:
    """Options first, as they come: inject(node, "--gpu", "1", "xid", "79")."""
    options = [words[i : i + 2] for i in range(0, len(words), 2) if words[i].startswith("--")]
    flat = [word for pair in options for word in pair]
    program = native_files.sim_node_program()
    subprocess.run([program, "inject", *flat, str(node.path), *words[len(flat) :]], check=True)


def state(node: SimNode, gpu: int = 0) -> dict[str, Any]:
    seen: list[dict[str, Any]] = look(node, STATE)
    return seen[gpu]


def program(node: SimNode, text: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        env=node.environment(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def lines(node: SimNode) -> list[str]:
    log = SimulatedKmsg(node.path / "kmsg")
    found: list[str] = []
    while True:
        try:
            found.append(log.read(8192).decode().split(";", 1)[1].rstrip("\n"))
        except BlockingIOError:
            log.close()
            return found


def test_an_xid_is_in_the_log_as_the_driver_writes_it_after_the_name_of_its_gpu(
    node: SimNode,
) -> None:
    inject(node, "--gpu", "1", "--pid", str(os.getpid()), "xid", "13")
    inject(node, "--gpu", "1", "--gi", "5", "--ci", "0", "xid", "94")
    name = Path("/proc/self/comm").read_text().strip()
    gpu = state(node, 1)["uuid"]
    said = lines(node)[1:]
    assert said[0] == f"NVRM: GPU at PCI:0000:0f:00: {gpu}"
    assert said[1].startswith("NVRM: GPU Board Serial Number: ")
    assert said[2].startswith(
        f"NVRM: Xid (PCI:0000:0f:00): 13, pid={os.getpid()}, name={name}, Graphics SM Warp"
    )
    assert said[3].startswith(
        "NVRM: Xid (PCI:0000:0f:00 GPU-I:05 GPU-CI:00): 94, pid='<unknown>', name=<unknown>, Cont"
    )


def test_events_reach_who_registered_with_their_instances(node: SimNode) -> None:
    with program(node, EVENTS) as watcher:
        inject(node, "--gpu", "1", "xid", "13")
        inject(node, "--gi", "5", "--ci", "0", "xid", "94")
        inject(node, "lost")
        assert watcher.stdout
        seen = [json.loads(watcher.stdout.readline()) for _ in range(6)]
        watcher.kill()
    assert seen == [
        [XID, 13, NOWHERE, NOWHERE],
        [XID, 94, 5, 0],
        [XID, 79, NOWHERE, NOWHERE],
        [UNAVAILABLE, 0, NOWHERE, NOWHERE],
        [XID, 154, NOWHERE, NOWHERE],
        [RECOVERY, 0, NOWHERE, NOWHERE],
    ]


def test_what_is_polled_says_what_was_injected_until_a_reset_or_for_ever(node: SimNode) -> None:
    well = state(node)
    for fault in (
        ("ecc-corrected", "3"),
        ("ecc-uncorrected", "1"),
        ("remapped-uncorrected", "2"),
        ("remap-pending",),
        ("remap-failure",),
        ("recovery-action", "4"),
        ("pcie-width", "8"),
        ("pcie-gen", "3"),
        ("clock-reasons", "0x48"),
        ("links-down", "2"),
        ("link-errors", "2", "7"),
    ):
        inject(node, *fault)
    ill = state(node)
    assert (ill["corrected"], ill["corrected_ever"], ill["uncorrected"]) == (3, 3, 1)
    assert ill["remapped"] == [0, 2, 1, 1]
    assert (ill["action"], ill["width"], ill["generation"], ill["reasons"]) == (4, 8, 3, 0x48)
    assert ill["links"] == [1, 0, 1]
    assert ill["link_errors"] == 7
    assert state(node, 1)["action"] == 0
    inject(node, "--gpu", "0", "reset")
    after = state(node)
    assert (after["corrected"], after["corrected_ever"], after["action"]) == (0, 3, 0)
    assert after["remapped"] == [0, 2, 0, 1]
    inject(node, "--gpu", "0", "clear")
    assert state(node) == well


def test_a_change_of_the_recovery_action_is_an_xid_154_and_back(node: SimNode) -> None:
    inject(node, "recovery-action", "2")
    inject(node, "--gpu", "0", "reset")
    assert [line.split("): ")[1] for line in lines(node) if "Xid" in line] == [
        "154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
        "154, GPU recovery action changed from 0x2 (Node Reboot Required) to 0x0 (None)",
    ]


def test_a_lost_gpu_is_told_lost_and_after_a_restart_it_is_missing(node: SimNode) -> None:
    other = state(node, 1)
    inject(node, "--gpu", "0", "lost")
    assert state(node, 0)["uuid"] == "GPU is lost"
    assert state(node, 1) == other
    inject(node, "restart")
    assert look(node, STATE) == [other]
    assert any("RmInitAdapter failed" in line for line in lines(node))
    inject(node, "--gpu", "0", "clear")
    assert len(look(node, STATE)) == 2


# A kernel that writes where there is no memory.
STRAY = """
import ctypes, json, os, sys
driver = ctypes.CDLL("libcuda.so.1")
context, module, fill = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
driver.cuInit(0)
driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
driver.cuCtxSetCurrent(context)
driver.cuModuleLoad(ctypes.byref(module), sys.argv[1].encode())
driver.cuModuleGetFunction(ctypes.byref(fill), module, b"gpuslice_fill")
target, value, count = ctypes.c_uint64(4096), ctypes.c_uint32(1), ctypes.c_uint64(1)
words = [ctypes.addressof(word) for word in (target, value, count)]
parameters = (ctypes.c_void_p * 3)(*words)
driver.cuLaunchKernel(fill, 1, 1, 1, 1, 1, 1, 0, None, parameters, None)
print(json.dumps([os.getpid(), driver.cuCtxSynchronize()]))
"""


def test_a_stray_write_of_a_kernel_is_an_xid_31_of_its_process(node: SimNode) -> None:
    pid, error = look(node, STRAY, str(KERNELS))
    assert error == 700  # CUDA_ERROR_ILLEGAL_ADDRESS
    known = os.stat("/proc/self/ns/pid").st_ino == 0xEFFFFFFC
    process = f"pid={pid}, name=" if known else "pid='<unknown>', name=<unknown>"
    assert f"NVRM: Xid (PCI:0000:07:00): 31, {process}" in lines(node)[-1]


def test_a_node_of_another_layout_is_refused_in_a_sentence(node: SimNode) -> None:
    file = node.path / "node"
    with file.open("r+b") as opened:
        opened.seek(8)
        opened.write((1).to_bytes(4, "little"))
    program = native_files.sim_node_program()
    done = subprocess.run([program, "show", node.path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "holds a simulated node of another gpuslice (layout 1, this one knows " in done.stderr
    init = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))"
    done = subprocess.run(
        [sys.executable, "-c", init],
        env=node.environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "803\n"  # CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
    assert "another gpuslice (layout 1," in done.stderr


def in_state_d(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "D"


def test_a_hung_gpu_keeps_nvml_in_state_d_deaf_to_a_polite_end(node: SimNode) -> None:
    with program(node, ASKER) as asker:
        assert asker.stdin
        assert asker.stdout
        inject(node, "hang")
        asker.stdin.write("\n")
        asker.stdin.flush()
        deadline = time.monotonic() + 20
        while not in_state_d(asker.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        asker.terminate()
        assert in_state_d(asker.pid)
        inject(node, "hang", "0")
        asker.wait(20)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("xid", "no"), "xid takes a code from 1 to 9999, not 'no'."),
        (("nothing",), "there is no fault 'nothing'; docs/simulated-node.md lists them."),
        (("pcie-width", "64"), "pcie-width takes a number up to 32, not '64'."),
        (("link-errors", "99", "1"), "that GPU has no NVLink '99'."),
    ],
)
def test_what_cannot_be_injected_is_refused_in_a_sentence(
    node: SimNode, words: tuple[str, ...], sentence: str
) -> None:
    program = native_files.sim_node_program()
    done = subprocess.run(
        [program, "inject", str(node.path), *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, f"gpuslice-sim-node: {sentence}\n")
