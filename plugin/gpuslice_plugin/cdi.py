"""The CDI specs by which containers get shares and GPUs: a file for each claim's device or pod.

A spec is a pure function of shares, of what the node's own spec says about their GPUs, and of where
the shim lies. So a file that is lost or damaged can be written again at any time.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuslice_agent.mig import MigDevice
from gpuslice_agent.model import Gpu, OwnerKind, Share, ShareState
from gpuslice_plugin.errors import CdiError
from gpuslice_plugin.nvidia_spec import Edits, NvidiaSpecs

log = logging.getLogger(__name__)

KIND = "k8s.gpu.gpuslice.io/share"
PREFIX = "k8s.gpu.gpuslice.io-"
VERSION = (0, 5, 0)  # as containerd 1.7 reads it; more only where the node's own spec asks for more
SHARES = "/run/gpuslice/shares"  # where the shim looks in a container
SHIM = "/usr/lib/gpuslice/libgpuslice.so"
PRELOAD = "/etc/ld.so.preload"

READ_ONLY = ("ro", "nosuid", "nodev", "bind")
WRITABLE = ("rw", "nosuid", "nodev", "noexec", "bind")
# The toolkit's older ways of injecting GPUs must add nothing to ours, whatever the image says.
ENVIRONMENT = ("NVIDIA_VISIBLE_DEVICES=void",)
# The rest of what a spec may have is no matter of GPUs.
LISTS = ("env", "deviceNodes", "mounts", "hooks", "additionalGids")
PARTITION = "MIG-"  # begins the names of files of partitions that are of no share
# Marks the files that are of no share and are there all the same; its value says whose they are.
BARE = "GPUSLICE_ADMIN_ACCESS"


@dataclass(frozen=True, slots=True)
class ShimFiles:
    """On the host, where the container runtime finds them."""

    library: Path
    preload: Path  # one line: where the library is in the container


@dataclass(frozen=True, slots=True)
class Device:
    """One CDI device: what a container gets that has it."""

    name: str
    shares: tuple[Share, ...] = ()
    gpus: tuple[Gpu, ...] = ()  # as a whole or shared
    partitions: tuple[tuple[Gpu, MigDevice], ...] = ()
    environment: tuple[str, ...] = ()


def device_id(name: str) -> str:
    """As kubelet and runtime call it."""
    return f"{KIND}={bare(name)}"


def bare(name: str) -> str:
    return name.rpartition("=")[2]


def file_of(share: Share) -> str:
    """The file that a share is in: all of a pod's are in one, a claim's devices have one each."""
    if share.owner.kind is OwnerKind.CONTAINER:
        return share.owner.pod_uid
    return bare(share.owner.cdi_devices[0]) if share.owner.cdi_devices else ""


def devices(shares: Iterable[Share], gpu_of: Callable[[str], Gpu]) -> tuple[Device, ...]:
    """Every device that the shares name. The first name of a share carries it, the others nothing:
    a container that has both must not get everything twice."""
    found: dict[str, list[Share]] = {}
    for share in sorted(shares, key=lambda share: share.owner.key):
        first, *others = map(bare, share.owner.cdi_devices)
        found.setdefault(first, []).append(share)
        for name in others:
            found.setdefault(name, [])
    return tuple(
        Device(
            name,
            tuple(held),
            tuple(gpu_of(share.gpu_uuid) for share in held if share.limits.mig is None),
            tuple(_partition(share, gpu_of) for share in held if share.limits.mig is not None),
        )
        for name, held in found.items()
    )


def _partition(share: Share, gpu_of: Callable[[str], Gpu]) -> tuple[Gpu, MigDevice]:
    if share.mig is None:
        raise CdiError(f"The MIG partition of share {share.id} is not there: its claim waits.")
    return gpu_of(share.gpu_uuid), share.mig


def spec(devices: Sequence[Device], nvidia: NvidiaSpecs, shim: ShimFiles) -> dict[str, Any]:
    """The document of one file."""
    versions: list[tuple[int, ...]] = [VERSION]
    entries: list[dict[str, Any]] = []
    for device in devices:
        edits: list[Edits] = [{"env": [*ENVIRONMENT, *device.environment]}]
        for gpu in device.gpus:
            version, common, own = nvidia.of_gpu(gpu)
            versions.append(_parsed(version))
            edits += [common, own]
        for gpu, partition in device.partitions:
            version, common, own = nvidia.of_partition(gpu, partition)
            versions.append(_parsed(version))
            # CUDA uses one MIG device in a process: this, and no other that is visible.
            edits += [common, own, {"env": [f"CUDA_VISIBLE_DEVICES={partition.uuid}"]}]
        limited = [share for share in device.shares if not share.limits.whole]
        if limited:
            edits.append({"mounts": _shim_mounts(shim)})
        edits += [{"mounts": _share_mounts(share)} for share in limited]
        entries.append({"name": device.name, "containerEdits": merged(edits)})
    return {
        "cdiVersion": ".".join(map(str, max(versions))),
        "kind": KIND,
        "devices": entries,
    }


def merged(edits: Iterable[Edits]) -> dict[str, list[Any]]:
    """Each list once: of several GPUs all bring the same driver. Our variables go over theirs."""
    result: dict[str, list[Any]] = {}
    for edit in edits:
        for name, values in edit.items():
            if name not in LISTS:
                continue
            known = result.setdefault(name, [])
            known += [value for value in values or () if value not in known]
    ours = {variable.partition("=")[0] for variable in ENVIRONMENT}
    result["env"] = [
        variable
        for variable in result.get("env", [])
        if variable in ENVIRONMENT or variable.partition("=")[0] not in ours
    ]
    return result


def _shim_mounts(shim: ShimFiles) -> list[Edits]:
    return [
        _mount(str(shim.library), SHIM, READ_ONLY),
        _mount(str(shim.preload), PRELOAD, READ_ONLY),
    ]


def _share_mounts(share: Share) -> list[Edits]:
    """Three files, not their directory: a tenant makes none beside them."""
    at = f"{SHARES}/{share.id}"
    return [
        _mount(f"{share.directory}/grant", f"{at}/grant", (*READ_ONLY, "noexec")),
        _mount(f"{share.directory}/usage", f"{at}/usage", WRITABLE),
        _mount(f"{share.directory}/doorbell", f"{at}/doorbell", WRITABLE),
    ]


def _mount(host: str, container: str, options: Sequence[str]) -> Edits:
    return {"hostPath": host, "containerPath": container, "options": list(options)}


def _parsed(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError as error:
        raise CdiError(
            f"A CDI spec of the node has the version {version}, which is none."
        ) from error


class Spec:
    """The files in the runtime's directory that are ours."""

    def __init__(
        self,
        directory: Path,
        nvidia: NvidiaSpecs,
        shim: ShimFiles,
        gpu_of: Callable[[str], Gpu | None],
    ) -> None:
        self._directory = directory
        self._nvidia = nvidia
        self._shim = shim
        self._gpu_of = gpu_of

    def write(self, name: str, shares: Sequence[Share]) -> str:
        """The file of these shares; the id of their first device. CdiError: not written."""
        found = devices(shares, self._gpu)
        self._put(name, spec(found, self._nvidia, self._shim))
        return device_id(found[0].name)

    def write_bare(self, name: str, gpu_uuid: str, holder: str) -> str:
        """A GPU for somebody who holds no share of it: administrators look after it."""
        device = Device(name, gpus=(self._gpu(gpu_uuid),), environment=(f"{BARE}={holder}",))
        self._put(name, spec([device], self._nvidia, self._shim))
        return device_id(name)

    def write_partition(self, gpu: Gpu, partition: MigDevice) -> str:
        """A MIG partition that an administrator made; its name is its UUID."""
        device = Device(partition.uuid, partitions=((gpu, partition),))
        self._put(partition.uuid, spec([device], self._nvidia, self._shim))
        return device_id(partition.uuid)

    def remove(self, name: str) -> None:
        """Idempotent."""
        self._path(name).unlink(missing_ok=True)

    def present(self) -> frozenset[str]:
        """The names of the files that are there, damaged or not."""
        found = self._directory.glob(f"{PREFIX}*.json")
        return frozenset(path.stem.removeprefix(PREFIX) for path in found)

    def holder(self, name: str) -> str | None:
        """Who was given the file's GPU without a share: whoever made the file removes it. None: it
        is another file, or none that can be read.
        """
        try:
            (device,) = json.loads(self._path(name).read_bytes())["devices"]
            environment = dict(one.split("=", 1) for one in device["containerEdits"]["env"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return environment.get(BARE)

    def agree(self, shares: Iterable[Share]) -> bool:
        """Makes the files those of the shares, after an agent ended, however.

        False: some cannot be written now.
        """
        wanted: dict[str, list[Share]] = {}
        for share in shares:
            if share.owner.cdi_devices and share.state is not ShareState.ENDING:
                wanted.setdefault(file_of(share), []).append(share)
        for name in self.present() - wanted.keys():
            if not name.startswith(PARTITION) and self.holder(name) is None:
                log.info("CDI file of no share removed name=%s", name)
                self.remove(name)
        agreed = True
        for name, held in wanted.items():
            try:
                self.write(name, held)
            except CdiError as error:
                log.error("CDI file not written name=%s reason=%s", name, error)
                agreed = False
        for leftover in self._directory.glob(f"{PREFIX}*.new"):
            leftover.unlink(missing_ok=True)
        return agreed

    def _gpu(self, uuid: str) -> Gpu:
        gpu = self._gpu_of(uuid)
        if gpu is None:
            raise CdiError(f"The GPU {uuid} is not to be seen: no container can have it now.")
        return gpu

    def _path(self, name: str) -> Path:
        return self._directory / f"{PREFIX}{name}.json"

    def _put(self, name: str, document: Mapping[str, Any]) -> None:
        """The runtime may read at any time: it finds a file whole or not at all."""
        text = json.dumps(document, indent=1).encode()
        path = self._path(name)
        try:
            if path.exists() and path.read_bytes() == text:
                return
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            new = path.with_name(f"{path.name}.new")  # runtimes look at .json and .yaml
            with new.open("wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.chmod(0o644)
            new.rename(path)
        except OSError as error:
            raise CdiError(f"The CDI file {path} cannot be written: {error.strerror}.") from error
