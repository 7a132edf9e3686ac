"""The Go toolchain: the machine's own if it is new enough, else the one on the module proxy."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import urllib.request
import zipfile
from pathlib import Path

from . import cache

VERSION = (1, 26, 8)
NAME = "go" + ".".join(map(str, VERSION))
# Of the zip, so that a proxy need not be trusted.
SHA256 = {
    "amd64": "30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7",
    "arm64": "02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99",
}
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def install(target: Path, package: str, *flags: str, cgo: bool = False) -> None:
    """Builds the main package PATH@VERSION into `target`, static unless it needs C."""
    environment = {"GOBIN": str(target), "CGO_ENABLED": str(int(cgo))}
    _go("install", *flags, package, environment=environment)


def build(module: Path, target: Path, *flags: str, environment: dict[str, str]) -> None:
    """Builds the main package in the folder `module`, whose go.sum says what may go into it."""
    _go("build", *flags, "-o", str(target), ".", directory=module, environment=environment)


def source(module: str) -> Path:
    """The files of MODULE@VERSION, in the toolchain's own cache."""
    return Path(json.loads(_go("mod", "download", "-json", module, directory=Path("/")))["Dir"])


def _go(
    *arguments: str, directory: Path | None = None, environment: dict[str, str] | None = None
) -> str:
    # Of the caller's settings GOPROXY and the like must hold; GOFLAGS could ask for anything.
    inherited = {name: value for name, value in os.environ.items() if name != "GOFLAGS"}
    return subprocess.run(
        [_program(), *arguments],
        cwd=directory,
        # The compiler's own garbage collector takes its time out of that of a small machine.
        env={**inherited, "GOTOOLCHAIN": "local", "GOGC": "400", **(environment or {})},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def _program() -> str:
    if (found := shutil.which("go")) and _version(found) >= VERSION:
        return found
    return str(cache.kept(NAME, _fetch) / "bin/go")


def _version(program: str) -> tuple[int, ...]:
    said = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True)
    numbers = re.match(r"go(\d+)\.(\d+)\.(\d+)", said.stdout)
    return tuple(map(int, numbers.groups())) if numbers else ()


def _fetch(target: Path) -> None:
    version = f"v0.0.1-{NAME}.linux-{ARCHITECTURE}"
    archive = target / "toolchain.zip"
    with urllib.request.urlopen(f"{_proxy()}/golang.org/toolchain/@v/{version}.zip") as answer:
        archive.write_bytes(answer.read())
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256[ARCHITECTURE]:
        raise RuntimeError(f"{NAME} from {_proxy()} is not the one that is pinned here")
    prefix = f"golang.org/toolchain@{version}/"
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            member.filename = member.filename.removeprefix(prefix)
            content.extract(member, target)
    archive.unlink()
    # Module zips carry no modes.
    for program in [*(target / "bin").iterdir(), *(target / "pkg/tool").rglob("*")]:
        program.chmod(0o755)


def _proxy() -> str:
    """As the environment says, or a go command of any age."""
    said = os.environ.get("GOPROXY", "")
    if not said and (found := shutil.which("go")):
        said = subprocess.run([found, "env", "GOPROXY"], capture_output=True, text=True).stdout
    for one in re.split("[,|]", said.strip()):
        if one.startswith("http"):
            return one.rstrip("/")
    raise RuntimeError(f"{NAME} is to be fetched: set GOPROXY, or install go, however old")
