"""What is built once and kept outside the checkout: Go programs, images."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

KEPT_SECONDS = 7 * 86_400


def directory() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuslice/cluster"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def key(*inputs: str | bytes | Path) -> str:
    """Of texts, and of the content of files and of folders."""
    digest = hashlib.sha256()
    for one in inputs:
        for part in _parts(one):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:12]


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name; where there is none, `make` fills it, and only once it has ended
    well the folder is there for others, who wait meanwhile."""
    path = directory() / name
    with open(directory() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            making = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=directory()))
            try:
                making.chmod(0o755)
                make(making)
                making.rename(path)
            except BaseException:
                shutil.rmtree(making, ignore_errors=True)
                raise
    os.utime(path)
    _forget_unused()
    return path


def _forget_unused() -> None:
    """Of versions and images that no checkout asks for any more."""
    for lock in directory().glob("*.lock"):
        unused = lock.with_suffix("")
        with contextlib.suppress(FileNotFoundError):
            if time.time() - unused.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(unused)


def _parts(one: str | bytes | Path) -> Iterable[bytes]:
    if isinstance(one, str):
        yield one.encode()
    elif isinstance(one, bytes):
        yield one
    else:
        for file in sorted(one.rglob("*")) if one.is_dir() else [one]:
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(file.relative_to(one.parent)).encode()
                yield file.read_bytes()
