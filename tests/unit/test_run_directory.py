"""Whose run directory it is."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from gpuslice_agent import run_directory
from gpuslice_agent.control.client import connect
from gpuslice_agent.errors import AgentAbsentError, AgentRefusedError, RunDirectoryError
from gpuslice_agent.run_directory import Ownership, RunDirectory, locate, prepare


def test_the_environment_names_it(tmp_path: Path) -> None:
    environ = {"GPUSLICE_RUN_DIR": "/named", "XDG_RUNTIME_DIR": str(tmp_path)}
    assert locate(environ, 0).path == Path("/named")


def test_root_has_the_services(tmp_path: Path) -> None:
    assert locate({"XDG_RUNTIME_DIR": str(tmp_path)}, 0).path == Path("/run/gpuslice")


def test_a_user_has_the_services_where_it_has_ever_run(tmp_path: Path) -> None:
    service = tmp_path / "service"
    service.mkdir()
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert locate(environ, 1000, service).path == tmp_path / "gpuslice"
    (service / "agent.lock").touch()
    assert locate(environ, 1000, service).path == service


def test_a_user_without_a_runtime_directory_has_one_in_tmp(tmp_path: Path) -> None:
    assert locate({}, 1000, tmp_path).path == Path("/tmp/gpuslice-1000")
    assert locate({"XDG_RUNTIME_DIR": "relative"}, 1000, tmp_path).path == Path(
        "/tmp/gpuslice-1000"
    )


def test_a_private_one_is_closed_to_others(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    (tmp_path / "run").mkdir(mode=0o777)
    prepare(directory, private=True)
    assert directory.path.stat().st_mode & 0o777 == 0o700


def test_a_link_that_somebody_put_there_first_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunDirectoryError, match="is not a directory of ours"):
        prepare(RunDirectory(tmp_path / "run"), private=True)


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", 12345, 12345)
    with pytest.raises(RunDirectoryError, match=r"owner uid 12345\): remove it"):
        prepare(RunDirectory(tmp_path / "run"), private=True)


def test_a_place_that_cannot_be_written_is_said() -> None:
    with pytest.raises(RunDirectoryError, match="cannot be made"):
        prepare(RunDirectory(Path("/proc/none/run")), private=False)


def test_one_agent_owns_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_directory, "WAIT_SECONDS", 0.1)
    directory = RunDirectory(tmp_path)

    async def take_twice() -> None:
        first = await Ownership.taken(directory, private=True)
        with pytest.raises(RunDirectoryError, match=rf"Another agent \(private {os.getpid()}\)"):
            await Ownership.taken(directory, private=True)
        first.release()
        (await Ownership.taken(directory, private=False)).release()

    asyncio.run(take_twice())


def dead_socket(directory: RunDirectory) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory.socket))


def test_no_socket_means_no_agent(tmp_path: Path) -> None:
    with pytest.raises(AgentAbsentError, match="No agent runs in"):
        connect(RunDirectory(tmp_path))


def test_the_socket_of_a_killed_private_agent_means_no_agent(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.lock.write_text("private 1\n")
    dead_socket(directory)
    with pytest.raises(AgentAbsentError, match="No agent runs in"):
        connect(directory)


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "restarted"])
def test_a_service_that_is_away_never_means_a_second_agent(tmp_path: Path, killed: bool) -> None:
    directory = RunDirectory(tmp_path)
    directory.lock.write_text("service 1\n")
    if killed:
        dead_socket(directory)
    with pytest.raises(AgentRefusedError, match="systemctl status gpuslice"):
        connect(directory)


def test_a_path_that_no_socket_can_have_is_said(tmp_path: Path) -> None:
    with pytest.raises(AgentRefusedError, match="path too long"):
        connect(RunDirectory(tmp_path / ("x" * 110)))
