"""The shim, where container runtimes find it: on the host, and for as long as containers use it."""

import hashlib
import os
from pathlib import Path

from gpuslice_agent.errors import InstallationError
from gpuslice_plugin.cdi import SHIM, ShimFiles

# Not in the run directory: /run is mounted noexec on some hosts, and a container with a user
# namespace cannot take that off its mount of the shim.
FOLDER = "shim"


def install(shim: Path, state_dir: Path) -> ShimFiles:
    """Copies it under a name of its own for each version: one in use is never written to.

    InstallationError: there is no room, or no permission.
    """
    folder = state_dir / FOLDER
    try:
        content = shim.read_bytes()
        name = f"libgpuslice-{hashlib.sha256(content).hexdigest()[:16]}.so"
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Tenants of any uid map it through their mounts; the folders above may stay closed.
        return ShimFiles(
            _written(folder / name, content, 0o755),
            _written(folder / "ld.so.preload", f"{SHIM}\n".encode(), 0o644),
        )
    except OSError as error:
        raise InstallationError(
            f"The shim cannot be copied to {folder}: {error.strerror}."
        ) from error


def forget_others(files: ShimFiles) -> None:
    """Removes versions that no CDI file names any more. Containers that run keep theirs."""
    for path in files.library.parent.glob("libgpuslice-*.so"):
        if path != files.library:
            path.unlink(missing_ok=True)


def _written(path: Path, content: bytes, mode: int) -> Path:
    if not (path.exists() and path.read_bytes() == content):
        new = path.with_name(f"{path.name}.new")
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.chmod(mode)
        new.rename(path)
    return path
