"""The ShareConfig that a claim or a DeviceClass may carry: strictly decoded, a sentence a mistake.

{apiVersion: gpu.gpuslice.io/v1alpha1, kind: ShareConfig} and any of policy, priority, overcommit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from gpuslice_agent.model import Overcommit, Policy, Priority
from gpuslice_plugin.api import Object
from gpuslice_plugin.dra.names import DRIVER
from gpuslice_plugin.errors import ClaimError

VERSION = f"{DRIVER}/v1alpha1"
KIND = "ShareConfig"
SETTINGS: Mapping[str, type[StrEnum]] = {
    "policy": Policy,
    "priority": Priority,
    "overcommit": Overcommit,
}


@dataclass(frozen=True, slots=True)
class ShareConfig:
    """None where it left the choice to us."""

    policy: Policy | None = None
    priority: Priority | None = None
    overcommit: Overcommit | None = None


def decode(parameters: object) -> ShareConfig:
    """Of the `opaque.parameters` of a claim or a class."""
    if not isinstance(parameters, dict):
        raise ClaimError("The parameters for gpu.gpuslice.io are no object: write a ShareConfig.")
    given = dict(cast(Object, parameters))
    version, kind = given.pop("apiVersion", None), given.pop("kind", None)
    if version != VERSION:
        raise ClaimError(f"The ShareConfig has apiVersion {version!r}: write {VERSION}.")
    if kind != KIND:
        raise ClaimError(f"The parameters are of kind {kind!r}: write ShareConfig.")
    for name, value in given.items():
        if name not in SETTINGS:
            known = ", ".join(SETTINGS)
            raise ClaimError(f"The ShareConfig has a field {name!r}: it may have {known}.")
        if value not in tuple(SETTINGS[name]):
            right = ", ".join(SETTINGS[name])
            raise ClaimError(f"The ShareConfig has {name} {value!r}: write one of {right}.")
    return ShareConfig(**{name: SETTINGS[name](value) for name, value in given.items()})  # type: ignore[arg-type]


def merged(configs: Iterable[ShareConfig]) -> ShareConfig:
    """A later one wins, field by field."""
    merged = ShareConfig()
    for one in configs:
        merged = ShareConfig(
            one.policy or merged.policy,
            one.priority or merged.priority,
            one.overcommit or merged.overcommit,
        )
    return merged
