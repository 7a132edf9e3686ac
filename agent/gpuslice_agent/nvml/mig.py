"""The NVML calls about MIG. They run in the child: here a call may hang.

Making and removing do what is missing and no more, so that whoever was killed in between asks
again.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from gpuslice_agent.errors import NvmlError
from gpuslice_agent.mig import MigDevice, MigPlace, MigProfile
from gpuslice_agent.model import Reading
from gpuslice_agent.nvml.calls import nvml, or_none, text
from gpuslice_agent.nvml.protocol import (
    Description,
    MakePartition,
    Partitions,
    ReadMig,
    RemovePartition,
    SetMigMode,
)

MIB = 1 << 20
PREFIX = "MIG "  # of the names of profiles
INSTANCES_AT_MOST = 16
PLACES_AT_MOST = 64
SHARED = nvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED


def partitioned(request: SetMigMode | ReadMig | MakePartition | RemovePartition) -> Partitions:
    """Does it, and says what is there then."""
    handle = nvml.nvmlDeviceGetHandleByUUID(request.uuid)
    try:
        if isinstance(request, SetMigMode):
            _set_mode(handle, request.enabled)
        elif isinstance(request, MakePartition):
            _make(handle, request.place)
        elif isinstance(request, RemovePartition):
            _remove(handle, request.place)
    except nvml.NVMLError_NoPermission as error:
        raise NvmlError("cutting a GPU into MIG partitions needs root") from error
    except nvml.NVMLError_InUse as error:
        raise NvmlError("programs still use the GPU, or the MIG partition") from error
    except nvml.NVMLError_InsufficientResources as error:
        raise NvmlError("the GPU has no room for the MIG partition") from error
    return Partitions(is_enabled(handle), devices(handle))


def with_profiles(description: Description) -> Description:
    gpus = tuple(
        replace(gpu, mig_profiles=profiles(nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)))
        for gpu in description.gpus
    )
    return msgspec.structs.replace(description, gpus=gpus)


def with_devices(reading: Reading, uuid: str) -> Reading:
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    if not is_enabled(handle):
        return reading
    return replace(reading, mig=True, mig_devices=devices(handle))


def is_enabled(handle: object) -> bool:
    mode = or_none(nvml.nvmlDeviceGetMigMode, handle)
    return mode is not None and bool(mode[0] == nvml.NVML_DEVICE_MIG_ENABLE)


def profiles(handle: object) -> tuple[MigProfile, ...]:
    """Known also while the mode is off; none of a GPU that cannot."""
    if or_none(nvml.nvmlDeviceGetMigMode, handle) is None:
        return ()
    found = (
        or_none(nvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, kind)
        for kind in range(nvml.NVML_GPU_INSTANCE_PROFILE_COUNT)
    )
    return tuple(_profile(handle, info) for info in found if info is not None)


def devices(handle: object) -> tuple[MigDevice, ...]:
    """Every GPU instance, by each of its compute instances, or without any."""
    if not is_enabled(handle):
        return ()
    found = list(_usable(handle))
    known = {device.gpu_instance for device in found}
    found += [
        _bare(handle, profile, instance)
        for profile in profiles(handle)
        for instance in _instances(handle, profile.id)
        if nvml.nvmlGpuInstanceGetInfo(instance).id not in known
    ]
    return tuple(sorted(found, key=lambda one: (one.place.start, one.compute_instance)))


def _profile(handle: object, info: Any) -> MigProfile:
    places = (nvml.c_nvmlGpuInstancePlacement_t * PLACES_AT_MOST)()
    count = ctypes.c_uint(PLACES_AT_MOST)
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, info.id, places, ctypes.byref(count))
    there = places[: count.value]
    return MigProfile(
        id=int(info.id),
        name=text(info.name).removeprefix(PREFIX),
        memory_bytes=int(info.memorySizeMB) * MIB,
        compute_slices=int(info.sliceCount),
        multiprocessors=int(info.multiprocessorCount),
        most=int(info.instanceCount),
        slices=max((int(place.size) for place in there), default=0),
        starts=tuple(sorted(int(place.start) for place in there)),
    )


def _usable(handle: object) -> Iterator[MigDevice]:
    by_id = {profile.id: profile for profile in profiles(handle)}
    minor = int(nvml.nvmlDeviceGetMinorNumber(handle))
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError_NotFound:
            continue
        gpu_instance = int(nvml.nvmlDeviceGetGpuInstanceId(device))
        instance = nvml.nvmlDeviceGetGpuInstanceById(handle, gpu_instance)
        info = nvml.nvmlGpuInstanceGetInfo(instance)
        profile = by_id[int(info.profileId)]
        parts = int(nvml.nvmlDeviceGetAttributes_v2(device).computeInstanceSliceCount)
        yield MigDevice(
            uuid=text(nvml.nvmlDeviceGetUUID(device)),
            name=profile.name if parts == profile.compute_slices else f"{parts}c.{profile.name}",
            place=_place(profile, info),
            memory_bytes=profile.memory_bytes,
            gpu_minor=minor,
            gpu_instance=gpu_instance,
            compute_instance=int(nvml.nvmlDeviceGetComputeInstanceId(device)),
        )


def _bare(handle: object, profile: MigProfile, instance: object) -> MigDevice:
    info = nvml.nvmlGpuInstanceGetInfo(instance)
    minor = int(nvml.nvmlDeviceGetMinorNumber(handle))
    place = _place(profile, info)
    return MigDevice("", profile.name, place, profile.memory_bytes, minor, int(info.id))


def _place(profile: MigProfile, info: Any) -> MigPlace:
    return MigPlace(profile.id, profile.name, int(info.placement.start), int(info.placement.size))


def _instances(handle: object, profile_id: int) -> list[object]:
    """The GPU instances of one profile."""
    array = (nvml.c_nvmlGpuInstance_t * INSTANCES_AT_MOST)()
    count = ctypes.c_uint(INSTANCES_AT_MOST)
    nvml.nvmlDeviceGetGpuInstances(handle, profile_id, array, ctypes.byref(count))
    return list(array[: count.value])


def _instance_at(handle: object, place: MigPlace) -> object | None:
    for instance in _instances(handle, place.profile_id):
        if nvml.nvmlGpuInstanceGetInfo(instance).placement.start == place.start:
            return instance
    return None


def _set_mode(handle: object, enabled: bool) -> None:
    wanted = nvml.NVML_DEVICE_MIG_ENABLE if enabled else nvml.NVML_DEVICE_MIG_DISABLE
    other = nvml.NVML_DEVICE_MIG_DISABLE if enabled else nvml.NVML_DEVICE_MIG_ENABLE
    status = nvml.nvmlDeviceSetMigMode(handle, wanted)
    if is_enabled(handle) == enabled:
        return
    # Else it would change by itself at the next reset, when nobody expects it any more.
    nvml.nvmlDeviceSetMigMode(handle, other)
    if status == nvml.NVML_ERROR_IN_USE:
        raise NvmlError("programs use the GPU: its MIG mode cannot change now")
    raise NvmlError("the MIG mode changes with a reset of the GPU only: set it with nvidia-smi")


def _make(handle: object, place: MigPlace) -> None:
    instance = _instance_at(handle, place)
    if instance is None:
        where = nvml.c_nvmlGpuInstancePlacement_t(place.start, place.slices)
        instance = nvml.nvmlDeviceCreateGpuInstanceWithPlacement(
            handle, place.profile_id, ctypes.byref(where)
        )
    if not any(_compute_instances(instance)):
        nvml.nvmlGpuInstanceCreateComputeInstance(instance, _largest(instance))


def _remove(handle: object, place: MigPlace) -> None:
    instance = _instance_at(handle, place) if is_enabled(handle) else None
    if instance is None:
        return
    for compute in _compute_instances(instance):
        nvml.nvmlComputeInstanceDestroy(compute)
    nvml.nvmlGpuInstanceDestroy(instance)


def _largest(instance: object) -> int:
    """The compute profile that takes the whole GPU instance."""
    return int(max(_compute_profiles(instance), key=lambda info: info.sliceCount).id)


def _compute_profiles(instance: object) -> list[Any]:
    found = (
        or_none(nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, instance, kind, SHARED)
        for kind in range(nvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT)
    )
    return [info for info in found if info is not None]


def _compute_instances(instance: object) -> Iterator[object]:
    for info in _compute_profiles(instance):
        array = (nvml.c_nvmlComputeInstance_t * INSTANCES_AT_MOST)()
        count = ctypes.c_uint(INSTANCES_AT_MOST)
        nvml.nvmlGpuInstanceGetComputeInstances(instance, info.id, array, ctypes.byref(count))
        yield from array[: count.value]
