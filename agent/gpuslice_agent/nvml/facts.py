"""How the GPUs are joined and what they are, as NVML says. Runs in the child: a call may hang."""

import ctypes
from collections.abc import Iterator, Sequence
from uuid import UUID

from gpuslice_agent.nvml.calls import nvml, or_none, text
from gpuslice_agent.topology import GpuFacts, Link, LinkEnd, short_address

CPUS_AT_MOST = 4096
NUMA_NODES_AT_MOST = 64
WORD_BITS = 64  # an unsigned long


def facts() -> tuple[GpuFacts, ...]:
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    uuids = [text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    by_uuid = dict(zip(uuids, handles, strict=True))
    return tuple(_of_gpu(index, uuid, by_uuid) for index, uuid in enumerate(uuids))


def _of_gpu(index: int, uuid: str, by_uuid: dict[str, object]) -> GpuFacts:
    handle = by_uuid[uuid]
    pci = nvml.nvmlDeviceGetPciInfo(handle)
    mig = or_none(nvml.nvmlDeviceGetMigMode, handle)
    return GpuFacts(
        index=index,
        uuid=uuid,
        name=text(nvml.nvmlDeviceGetName(handle)),
        pci_address=short_address(text(pci.busId)),
        pci_device_id=int(pci.pciDeviceId),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        compute_capability=or_none(nvml.nvmlDeviceGetCudaComputeCapability, handle),
        links=tuple(_links(handle)),
        levels=tuple(
            (other, _level(handle, there)) for other, there in by_uuid.items() if other != uuid
        ),
        numa_node=_numa_node(handle),
        cpus=_list_of(or_none(nvml.nvmlDeviceGetCpuAffinity, handle, CPUS_AT_MOST // WORD_BITS)),
        mig_capable=mig is not None,
        mig_enabled=mig is not None and mig[0] == nvml.NVML_DEVICE_MIG_ENABLE,
        virtual=or_none(nvml.nvmlDeviceGetVirtualizationMode, handle)
        == nvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU,
        clique=_clique(handle),
    )


def _links(handle: object) -> Iterator[Link]:
    ends = {
        nvml.NVML_NVLINK_DEVICE_TYPE_GPU: LinkEnd.GPU,
        nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH: LinkEnd.SWITCH,
    }
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        state = or_none(nvml.nvmlDeviceGetNvLinkState, handle, link)
        if state is None:
            return  # beyond the last, or a GPU without any
        remote = or_none(nvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, link)
        if state == nvml.NVML_FEATURE_ENABLED and remote is not None:
            kind = or_none(nvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link)
            yield Link(ends.get(kind, LinkEnd.OTHER), short_address(text(remote.busId)))


def _level(one: object, other: object) -> int:
    level = or_none(nvml.nvmlDeviceGetTopologyCommonAncestor, one, other)
    return int(nvml.NVML_TOPOLOGY_SYSTEM if level is None else level)


def _numa_node(handle: object) -> int | None:
    """The nearest memory's; NVML's own word for NUMA nodes means those of a GPU's memory."""
    near = _numbers(
        or_none(
            nvml.nvmlDeviceGetMemoryAffinity,
            handle,
            NUMA_NODES_AT_MOST // WORD_BITS,
            nvml.NVML_AFFINITY_SCOPE_NODE,
        )
    )
    return near[0] if near else None


def _clique(handle: object) -> str:
    """CLUSTER.CLIQUE, where the fabric manager has finished; empty without a fabric."""
    fabric = nvml.c_nvmlGpuFabricInfo_v2_t()
    if or_none(nvml.nvmlDeviceGetGpuFabricInfoV, handle, ctypes.byref(fabric)) is None:
        return ""
    cluster = bytes(fabric.clusterUuid)
    if fabric.state != nvml.NVML_GPU_FABRIC_STATE_COMPLETED or not any(cluster):
        return ""
    return f"{UUID(bytes=cluster)}.{fabric.cliqueId}"


def _numbers(words: Sequence[int] | None) -> list[int]:
    """The bits that are set."""
    return [
        place * WORD_BITS + bit
        for place, word in enumerate(words or ())
        for bit in range(WORD_BITS)
        if word >> bit & 1
    ]


def _list_of(words: Sequence[int] | None) -> str:
    """As the kernel writes it: 0-23,48-71."""
    ranges: list[list[int]] = []
    for number in _numbers(words):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
