"""Who may open the socket."""

import asyncio
import grp
import os
from pathlib import Path
from typing import Any, cast

import pytest

from gpuslice_agent.control import server
from gpuslice_agent.run_directory import RunDirectory

NOBODY_ASKS = server.Control(*cast(Any, (None, None, None)))


def served_mode(directory: RunDirectory, *, private: bool) -> tuple[int, int]:
    async def run() -> tuple[int, int]:
        async with server.serve(NOBODY_ASKS, directory, private=private):
            about = os.stat(directory.socket)
            return about.st_mode & 0o777, about.st_gid

    return asyncio.run(run())


def test_the_services_socket_is_for_root_and_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs the service")
    group = next(one for one in grp.getgrall() if one.gr_gid != 0)
    monkeypatch.setattr(server, "GROUP", group.gr_name)
    assert served_mode(RunDirectory(tmp_path), private=False) == (0o660, group.gr_gid)


def test_without_the_group_only_root_reaches_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "GROUP", "a group that is not there")
    mode, _ = served_mode(RunDirectory(tmp_path), private=False)
    assert mode == 0o600


def test_a_private_socket_is_for_its_user(tmp_path: Path) -> None:
    mode, _ = served_mode(RunDirectory(tmp_path), private=True)
    assert mode == 0o600
