"""`gpuslice xid` explains codes and lines without a GPU; `gpuslice health` shows the node's."""

import json
import subprocess
import sys
from typing import Any

import pytest

from .conftest import GPUSLICE, Cli

LINE = (
    "Nov 20 14:03:07 gpu-node-7 kernel: NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:00): 31, "
    "pid=7194, name=python3, Ch 00000008, intr 00000000. MMU Fault"
)


def xid(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [*GPUSLICE, "xid", *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True, check=False)


def explained(*arguments: str, typed: str = "") -> Any:
    done = xid(*arguments, "--json", typed=typed)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_a_line_is_explained_for_programs() -> None:
    said = explained("--explain", LINE)
    assert {name: said[name] for name in ("code", "pci", "gi", "ci", "pid", "process")} == {
        "code": 31,
        "pci": "0000:01:00",
        "gi": 5,
        "ci": 0,
        "pid": 7194,
        "process": "python3",
    }
    assert said["action"] == "RESTART_APP"
    assert said["blames_process"] is True
    assert explained("--explain", "-", typed=LINE + "\n") == said


def test_a_line_that_is_no_fault_is_null() -> None:
    recovered = (
        "NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x4 (x) to 0x0 (None)"
    )
    for line in ("usb 1-1: new high-speed USB device", "", recovered):
        assert explained("--explain", line) is None
    assert "no fault" in xid("--explain", "").stdout


def test_a_code_is_explained_for_people() -> None:
    said = xid("79").stdout
    assert said.startswith("Xid 79 GPU_HAS_FALLEN_OFF_THE_BUS: ")
    assert "action: RESTART_BM" in said
    assert xid("20034").stdout.startswith("SXid 20034: ")
    assert "No catalogue knows this code yet." in xid("4242").stdout


def test_a_code_or_a_line_is_asked_for_and_not_both() -> None:
    for arguments in ((), ("79", "--explain", LINE)):
        done = xid(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Give either a code or --explain LINE." in done.stderr


def test_a_site_may_say_otherwise_of_a_code(tmp_path: Any) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        'version = 1\n[xid]\n79 = { class = "bus", action = "IGNORE", meaning = "Ours." }\n'
    )
    assert explained("79", "--catalogue", str(file))["action"] == "IGNORE"


def test_the_parser_needs_nothing_of_the_agent() -> None:
    """It is run by people on machines that have no GPU, and should be quick."""
    code = (
        "import sys; import gpuslice_agent.cli.xid; "
        "sys.exit(any(name in sys.modules for name in ('grpc', 'pynvml', 'psutil')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_gpus_of_a_node_are_shown_with_their_health(on_node: Cli) -> None:
    done = on_node("health", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert [(one["kind"], one["state"]) for one in shown["entities"]] == [("gpu", "healthy")] * 2
    assert all(one["uuid"].startswith("GPU-") for one in shown["entities"])
    assert on_node("health").stdout.count("healthy") == 2


@pytest.mark.parametrize("name", ["--help", "-h"])
def test_help_is_given(name: str) -> None:
    assert "kernel's log" in xid(name).stdout
