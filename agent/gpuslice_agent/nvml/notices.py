"""Waits for NVML's events in a thread of the NVML child, so that no call waits for them.

Each goes to the agent as one packet on a socket of its own. From r615 on the driver has operational
events beside the older ones; both are asked for, because during the change a driver may tell a
fault in either way only.
"""

import contextlib
import ctypes
import socket
import threading
import time
from typing import Any

import msgspec
import pynvml  # pyright: ignore[reportMissingTypeStubs]

from gpuslice_agent.nvml.vitals import Notice

nvml: Any = pynvml

WAIT_MS = 1000
PAUSE_SECONDS = 1.0  # before a set is made anew, after a reset or a change of instances
NO_INSTANCE = 0xFFFFFFFF
# What is said of health; NVML also has events for clocks and power states.
WANTED = (
    nvml.nvmlEventTypeXidCriticalError
    | nvml.nvmlEventTypeSingleBitEccErrorStorm
    | nvml.nvmlEventTypeDramRetirementEvent
    | nvml.nvmlEventTypeDramRetirementFailure
    | nvml.nvmlEventTypeNonFatalPoisonError
    | nvml.nvmlEventTypeFatalPoisonError
    | nvml.nvmlEventTypeGpuUnavailableError
    | nvml.nvmlEventTypeGpuRecoveryAction
)
RECOVERABLE = 30  # the least severity asked for
_OPERATIONAL = 1  # NVML_EVENT_DATA_TYPE_GPU_OPERATIONAL_EVENT
_OVERFLOW = 1 << 6  # NVML_OPERATIONAL_EVENT_ATTR_OVERFLOW
_LEGACY_XID = 1  # NVML_GPU_OPERATIONAL_EVENT_CONTEXT_TYPE_LEGACY_XID
_OLD_DRIVER = (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NotSupported)

_encoder = msgspec.msgpack.Encoder()


def tell(agent: socket.socket) -> None:
    """Starts telling the agent. The thread ends with the child."""
    threading.Thread(target=_keep_telling, args=(agent,), daemon=True).start()


def _keep_telling(agent: socket.socket) -> None:
    while True:
        try:
            _tell_from_one_set(agent)
        except nvml.NVMLError:
            time.sleep(PAUSE_SECONDS)
        except OSError:
            return  # the agent has gone


def _tell_from_one_set(agent: socket.socket) -> None:
    events = nvml.nvmlEventSetCreate()
    try:
        uuids = _register(events)
        structured = _register_operational(events, tuple(uuids.values()))
        while True:
            notice = _waited(events, structured, uuids)
            if notice is not None:
                agent.send(_encoder.encode(notice))
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlEventSetFree(events)


def _register(events: object) -> dict[int | None, str]:
    """UUIDs by handle: a GPU that has an event may not be able to say its name any more."""
    uuids: dict[int | None, str] = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        with contextlib.suppress(nvml.NVMLError):  # a GPU that is lost does not silence the others
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            supported = nvml.nvmlDeviceGetSupportedEventTypes(handle)
            nvml.nvmlDeviceRegisterEvents(handle, WANTED & supported, events)
            uuid = nvml.nvmlDeviceGetUUID(handle)
            uuids[_address(handle)] = uuid.decode() if isinstance(uuid, bytes) else uuid
    return uuids


def _register_operational(events: object, uuids: tuple[str, ...]) -> bool:
    if not hasattr(nvml, "nvmlEventSetRegisterGpuOperationalEvents_v1"):
        return False
    try:
        for uuid in uuids:
            config = nvml.c_nvmlGpuOperationalEventConfig_v1_t(uuid=uuid, minSeverity=RECOVERABLE)
            nvml.nvmlEventSetRegisterGpuOperationalEvents_v1(events, config)
    except _OLD_DRIVER:
        return False
    return bool(uuids)


def _waited(events: object, structured: bool, uuids: dict[int | None, str]) -> Notice | None:
    """None: nothing came in time."""
    with contextlib.suppress(nvml.NVMLError_Timeout):
        if structured:
            return _structured(events)
        data = nvml.nvmlEventSetWait_v2(events, WAIT_MS)
        return Notice(
            uuids.get(_address(data.device), ""),
            int(data.eventType),
            int(data.eventData) if data.eventType == nvml.nvmlEventTypeXidCriticalError else None,
            _instance(data.gpuInstanceId),
            _instance(data.computeInstanceId),
        )
    return None


def _structured(events: object) -> Notice:
    data = nvml.c_nvmlEventSetWait_v3_t(timeoutMs=WAIT_MS)
    nvml.nvmlEventSetWait_v3(events, data)
    operational = data.dataType == _OPERATIONAL
    xid = data.eventType == nvml.nvmlEventTypeXidCriticalError
    return Notice(
        data.uuid.decode(errors="replace"),
        0 if operational else int(data.eventType),
        _legacy_xid(events) if operational else int(data.eventData) if xid else None,
        _instance(data.gpuInstanceId) if not operational else None,
        _instance(data.computeInstanceId) if not operational else None,
        int(data.severity),
        int(data.instanceId),
        bool(data.attributes & _OVERFLOW),
    )


def _legacy_xid(events: object) -> int | None:
    """The code that older tools know, where the event just waited for carries one."""
    contexts = nvml.c_nvmlEventSetGetContextCount_v1_t()
    with contextlib.suppress(*_OLD_DRIVER):
        nvml.nvmlEventSetGetContextCount_v1(events, contexts)
        for index in range(contexts.count):
            info = nvml.c_nvmlEventSetGetContextInfo_v1_t(index=index)
            nvml.nvmlEventSetGetContextInfo_v1(events, info)
            if info.nvmlGpuOperationalEventContextType == _LEGACY_XID:
                xid = nvml.c_nvmlEventSetGetGpuOperationalEventContextLegacyXid_v1_t(index=index)
                nvml.nvmlEventSetGetGpuOperationalEventContextLegacyXid_v1(events, xid)
                return int(xid.xidCode)
    return None


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


def _instance(number: int) -> int | None:
    return None if number == NO_INSTANCE else int(number)
