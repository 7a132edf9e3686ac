"""The one Config: defaults, then file, environment and flags, each over the one before."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gpuslice_agent import run_directory
from gpuslice_agent.errors import ConfigError
from gpuslice_agent.model import Order, Policy

PREFIX = "GPUSLICE_"
SERVICE_STATE = Path("/var/lib/gpuslice")

Seconds = Annotated[float, Meta(ge=0.1, le=3600)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    run_dir: Path
    """Socket, lock and the files of shares; on a tmpfs, for it is of no use after a reboot."""
    state_dir: Path
    """The ledger. Outlives the agent, not needed after a reboot."""
    metrics_address: Annotated[str, Meta(pattern=r"^(|.+:\d{1,5})$")] = "127.0.0.1:9477"
    """HOST:PORT of /metrics; empty: none."""
    poll_interval: Seconds = 1.0
    """Seconds between looks at GPUs and shares while there is a share or somebody watches."""
    idle_interval: Seconds = 15.0
    """The same at rest; a scrape interval, so that metrics are never older than two of them."""
    driver_root: Path = Path("/")
    """The root below which NVIDIA's driver is: in a container, where it has the node's root."""
    nvml_deadline: Seconds = 5.0
    """Seconds an NVML call may take before its GPU counts as hung; healthy: milliseconds."""
    nvml_start_deadline: Seconds = 60.0
    """The same for the first call, which may have to load the driver (seconds for each GPU)."""
    policy: Policy = Policy.HARD
    """For requests that name none."""
    placement: Order = Order.BINPACK
    """For requests that name none."""
    overcommit_ratio: Annotated[float, Meta(ge=1.0, le=100.0)] = 1.0
    """How far the memory promised on a GPU may exceed the card."""
    log_level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$")] = "info"
    private: bool = False
    """Started by `gpuslice run` for its user: ends with the last share and serves no metrics."""
    private_grace: Seconds = 3.0
    """Seconds a private agent waits for another share before it ends."""


RIGHT = {
    "metrics_address": "HOST:PORT, or empty for none",
    "poll_interval": "seconds from 0.1 to 3600",
    "idle_interval": "seconds from 0.1 to 3600",
    "nvml_deadline": "seconds from 0.1 to 3600",
    "nvml_start_deadline": "seconds from 0.1 to 3600",
    "private_grace": "seconds from 0.1 to 3600",
    "policy": "hard or elastic",
    "placement": "binpack, spread or topology",
    "overcommit_ratio": "a number from 1 to 100",
    "log_level": "debug, info, warning or error",
    "private": "true or false",
}


def load(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object], uid: int
) -> Config:
    """`flags` holds those given, by field name; `environ` is read for GPUSLICE_<FIELD>."""
    settings: dict[str, object] = {}
    given = {name: value for name, value in flags.items() if value is not None}
    for name, value in _from_file(file).items():
        settings[name] = _checked(f"{file}: {name}", name, value)
    for name, value in _from_environment(environ).items():
        settings[name] = _checked(_variable(name), name, value)
    for name, value in given.items():
        settings[name] = _checked(f"--{name.replace('_', '-')}", name, value)
    run_dir = settings.setdefault("run_dir", run_directory.locate(environ, uid).path)
    assert isinstance(run_dir, Path)
    settings.setdefault(
        "state_dir", SERVICE_STATE if run_dir == run_directory.SERVICE else run_dir / "state"
    )
    if settings.get("private"):
        settings["metrics_address"] = ""
    return Config(**settings)  # type: ignore[arg-type]  # each was checked above


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"The configuration {file} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration {file} is no TOML: {error}.") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    # Other GPUSLICE_ variables (shares, simulated node) speak to the shim and the simulation.
    names = Config.__struct_fields__
    given = {name: environ[_variable(name)] for name in names if _variable(name) in environ}
    # As for every command: an empty GPUSLICE_RUN_DIR names none.
    return {name: value for name, value in given.items() if value or name != "run_dir"}


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _checked(spelled: str, name: str, value: object) -> object:
    fields = {field.name: field.type for field in msgspec.structs.fields(Config)}
    if name not in fields:
        raise ConfigError(f"{spelled} is no setting; the settings are {', '.join(fields)}.")
    try:
        # Strings of the environment become numbers and booleans, as written in a file.
        return msgspec.convert(value, fields[name], strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        right = RIGHT.get(name, "a path")
        raise ConfigError(f"{spelled} = {value!r} is wrong: give {right}.") from error


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value).absolute()
    raise ValueError(f"{value!r} is no path")
