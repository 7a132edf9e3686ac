"""Images of the tests, made from local files: no registry is asked, and none serves them."""

import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from ..sim import c_programs
from . import cache
from .go import ARCHITECTURE
from .node import REPOSITORY

PAUSE = "gpuslice.test/pause:dev"
TENANT = "gpuslice.test/tenant:dev"
PROGRAMS = Path(__file__).parent / "programs"
SUITE = "bookworm"
PYTHON = "3.11"  # of that Debian
# Of no use in a container, which gets devices of its own.
DOCUMENTATION = ("usr/share/doc", "usr/share/man", "usr/share/locale")
LEFT_OUT = ("dev", "var/cache/apt", "var/lib/apt/lists", *DOCUMENTATION)


def pause() -> Path:
    """The archive of the image of pods' sandboxes."""
    return _archive("pause", _make_pause, PROGRAMS / "pause.c")


def tenant() -> Path:
    """The archive of Debian with Python, cuda-bindings and the programs of this folder."""
    return _archive("tenant", _make_tenant, PROGRAMS, c_programs.KERNELS, *_bindings())


def debian() -> Path:
    """The files of a small Debian, as owned by root."""
    mirror = os.environ.get("GPUSLICE_DEBIAN_MIRROR", "")
    return (
        cache.kept(f"{SUITE}-{cache.key(SUITE)}", functools.partial(_make_debian, mirror)) / "root"
    )


def _archive(name: str, make: Callable[[Path], None], *inputs: str | Path) -> Path:
    key = cache.key(Path(__file__), *inputs)
    return cache.kept(f"{name}-{key}", make) / f"{name}.tar"


def _make_pause(target: Path) -> None:
    program = target / "pause"
    _compile(program, "pause.c", "-static")
    _write(target / "pause.tar", PAUSE, [_layer({"pause": program})], ["/pause"])
    program.unlink()


def _make_debian(mirror: str, target: Path) -> None:
    root = target / "root"
    command = ["debootstrap", "--variant=minbase", "--include=python3", SUITE, str(root)]
    with (target / "log").open("w") as log:
        subprocess.run([*command, *filter(None, [mirror])], check=True, stdout=log, stderr=log)
    for part in LEFT_OUT:
        shutil.rmtree(root / part)
        (root / part).mkdir()


def _make_tenant(target: Path) -> None:
    packages = target / "packages"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages)),
            *("--python-version", PYTHON, "--only-binary", ":all:", *_bindings()),
        ],
        check=True,
    )
    program, alone = target / "tenant", target / "static-tenant"
    _compile(program, "tenant.c", "-lcuda")
    _compile(alone, "static_tenant.c", "-static")
    ours = {
        "usr/local/bin/tenant": program,
        "usr/local/bin/static-tenant": alone,
        "usr/local/share/gpuslice.ptx": c_programs.KERNELS,
        f"usr/local/lib/python{PYTHON}/dist-packages": packages,
    }
    _write(target / "tenant.tar", TENANT, [_layer({"": debian()}), _layer(ours)], ["sleep", "inf"])
    shutil.rmtree(packages)
    program.unlink()
    alone.unlink()


def _bindings() -> list[str]:
    """cuda-bindings, of the version that the tests of the simulated node use."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    return [one for one in project["dependency-groups"]["clients"] if "cuda-bindings" in one]


def _compile(output: Path, source: str, *flags: str) -> None:
    c_programs.build(output, str(PROGRAMS / source), flags=flags)


def _layer(files: dict[str, Path]) -> bytes:
    """A tar of files and folders, by the path each has in it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, path in files.items():
            archive.add(path, name or ".", filter=_root_owned)
    return content.getvalue()


def _root_owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uname = member.gname = ""
    return member


def _write(target: Path, name: str, layers: Sequence[bytes], command: Sequence[str]) -> None:
    """An archive as `docker save` makes them."""
    config = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {
            "Cmd": list(command),
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers],
        },
    }
    files = {f"{number}.tar": layer for number, layer in enumerate(layers)}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": list(files)}]
    files |= {
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(target, "w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
