"""The shim, where containers find it."""

from pathlib import Path

import pytest

from gpuslice_agent.errors import InstallationError
from gpuslice_plugin import shim_files
from gpuslice_plugin.cdi import SHIM


def test_a_copy_stays_as_it_is_while_containers_may_use_it(tmp_path: Path) -> None:
    shim = tmp_path / "libgpuslice.so"
    shim.write_bytes(b"one")
    first = shim_files.install(shim, tmp_path / "state")
    inode = first.library.stat().st_ino
    assert shim_files.install(shim, tmp_path / "state") == first
    assert first.library.stat().st_ino == inode
    shim.write_bytes(b"another")
    second = shim_files.install(shim, tmp_path / "state")
    assert first.library.read_bytes() == b"one"
    assert second.library.read_bytes() == b"another"
    shim_files.forget_others(second)
    assert not first.library.exists() and second.library.exists()


def test_the_preload_file_names_the_shim_as_containers_see_it(tmp_path: Path) -> None:
    shim = tmp_path / "libgpuslice.so"
    shim.write_bytes(b"one")
    files = shim_files.install(shim, tmp_path)
    assert files.preload.read_text() == f"{SHIM}\n"
    assert files.preload.stat().st_mode & 0o777 == 0o644
    assert files.library.stat().st_mode & 0o777 == 0o755


def test_what_cannot_be_copied_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    shim = tmp_path / "libgpuslice.so"
    shim.write_bytes(b"one")
    with pytest.raises(InstallationError, match="The shim cannot be copied to"):
        shim_files.install(shim, tmp_path / "state")
