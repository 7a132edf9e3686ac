"""`gpuslice agent`: every setting has its flag, and the file that comes with the unit is right."""

import os
import socket
import tomllib
from pathlib import Path

import msgspec

from gpuslice_agent import config

from .conftest import Cli

SYSTEMD = Path(__file__).parents[2] / "systemd"


def test_the_file_that_comes_with_the_unit_holds_the_defaults() -> None:
    file = SYSTEMD / "agent.toml"
    written = config.load(file, {}, {}, uid=0)
    assert written == config.load(None, {}, {"run_dir": "/run/gpuslice"}, uid=0)
    settings = {field.name for field in msgspec.structs.fields(config.Config)}
    assert settings - set(tomllib.loads(file.read_text())) == {"private", "private_grace"}


def test_every_setting_has_a_flag(bare: Cli) -> None:
    text = bare("agent", "--help").stdout
    for field in msgspec.structs.fields(config.Config):
        assert f"--{field.name.replace('_', '-')} " in text


def test_it_tells_systemd_when_it_serves_and_that_it_lives(on_node: Cli, tmp_path: Path) -> None:
    """Unprivileged settings from a temporary folder, on the simulated node."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(60)
        manager.bind(str(tmp_path / "notify"))
        on_node.environment |= {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "200000",
        }
        with on_node.start(
            "agent", "--state-dir", str(tmp_path / "state"), "--metrics-address", ""
        ) as agent:
            said = set[str]()
            while not {"READY=1", "WATCHDOG=1"} <= said:
                said |= set(manager.recv(4096).decode().splitlines())
            assert os.path.exists(Path(on_node.environment["GPUSLICE_RUN_DIR"], "agent.sock"))
            agent.terminate()
            agent.communicate()
        assert agent.returncode == 0
