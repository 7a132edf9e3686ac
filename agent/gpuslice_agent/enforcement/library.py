"""libgpuslice_agent.so through cffi. Layouts live in its header and nowhere in Python."""

from dataclasses import dataclass
from errno import EPROTO
from pathlib import Path
from typing import Any

import cffi

from gpuslice_agent.errors import CorruptShareError, EnforcementError
from gpuslice_agent.model import Limits, Overcommit, Policy, Priority

POLICY_NUMBER = {Policy.HARD: 0, Policy.ELASTIC: 1}
PRIORITY_NUMBER = {Priority.LOW: 0, Priority.NORMAL: 1, Priority.HIGH: 2}
OVERCOMMIT_NUMBER = {Overcommit.OFF: 0, Overcommit.SWAP: 1}
POLICY_OF = {number: policy for policy, number in POLICY_NUMBER.items()}
PRIORITY_OF = {number: priority for priority, number in PRIORITY_NUMBER.items()}
OVERCOMMIT_OF = {number: mode for mode, number in OVERCOMMIT_NUMBER.items()}
REASON_BYTES = 256
SLOTS = 1024


@dataclass(frozen=True, slots=True)
class Slot:
    """One live process of a share, as it describes itself. Sizes in bytes, times in ns."""

    index: int
    pid: int  # in its own pid namespace; 0: it is just claiming the slot
    pid_namespace: int
    start_time: int
    memory_bytes: int
    context_bytes: int
    module_bytes: int
    data_bytes: int
    array_bytes: int
    managed_bytes: int
    pinned_bytes: int
    swapped_bytes: int
    busy_ns: int
    throttled_ns: int
    launches: int
    last_activity_ns: int
    waiting: bool


@dataclass(frozen=True, slots=True)
class SlotUsage:
    """What the usage file of a share says."""

    held_bytes: int  # by live processes: what the dead held is theirs no more
    busy_ns: int
    paces_itself: bool
    slots: tuple[Slot, ...]


class AgentLibrary:
    def __init__(self, library: Path, header: Path) -> None:
        self.ffi = cffi.FFI()
        try:
            lines = header.read_text().splitlines()
            # The preprocessor's lines only guard the rest; cffi wants plain declarations.
            self.ffi.cdef("\n".join(line for line in lines if not line.startswith("#")))
            self.calls: Any = self.ffi.dlopen(str(library))
        except OSError as error:
            raise EnforcementError(
                f"The agent's library cannot be loaded ({error}): install gpuslice again."
            ) from error
        self.reason: Any = self.ffi.new(f"char[{REASON_BYTES}]")
        self.slots: Any = self.ffi.new(f"struct gpuslice_process_usage[{SLOTS}]")

    def check(self, status: int) -> None:
        """Raises the sentence that the call left."""
        if status == 0:
            return
        # A tenant's path or name may be in it.
        sentence = self.text(self.reason)
        raise (CorruptShareError if status == -EPROTO else EnforcementError)(sentence + ".")

    def text(self, native: Any) -> str:
        raw: Any = self.ffi.string(native)
        return str(raw.decode(errors="replace"))

    def create_files(
        self, directory: Path, gpu_uuid: str, share_id: str, limits: Limits, overhead_bytes: int
    ) -> None:
        """Makes grant, usage and doorbell in an empty directory; nothing is left of a failure."""
        native = self.limits(limits, overhead_bytes)
        self.check(
            self.calls.gpuslice_files_create(
                str(directory).encode(), gpu_uuid.encode(), share_id.encode(), native, self.reason
            )
        )

    def limits(self, limits: Limits, overhead_bytes: int) -> Any:
        return self.ffi.new(
            "struct gpuslice_share_limits *",
            {
                "memory_bytes": limits.memory_bytes,
                "overhead_bytes": overhead_bytes,
                "cores": limits.cores,
                "weight": limits.weight,
                "policy": POLICY_NUMBER[limits.policy],
                "priority": PRIORITY_NUMBER[limits.priority],
                "overcommit": OVERCOMMIT_NUMBER[limits.overcommit],
            },
        )


class OpenShare:
    """The files of a share, open. To be closed, after it left its arbiter."""

    def __init__(self, library: AgentLibrary, directory: Path) -> None:
        self._library = library
        handle = library.ffi.new("struct gpuslice_agent_share **")
        path = str(directory).encode()
        library.check(library.calls.gpuslice_agent_share_open(path, handle, library.reason))
        self.handle: Any = handle[0]

    def close(self) -> None:
        self._library.calls.gpuslice_agent_share_close(self.handle)

    def set_limits(self, limits: Limits) -> None:
        """Takes effect at the next allocation or launch of each process."""
        library = self._library
        native = library.limits(limits, self._current().overhead_bytes)
        library.check(
            library.calls.gpuslice_agent_share_set_limits(self.handle, native, library.reason)
        )

    def limits(self) -> Limits:
        """Those in force, as the grant has them."""
        native = self._current()
        return Limits(
            cores=native.cores,
            memory_bytes=native.memory_bytes,
            policy=POLICY_OF[native.policy],
            priority=PRIORITY_OF[native.priority],
            weight=native.weight,
            overcommit=OVERCOMMIT_OF[native.overcommit],
        )

    def gpu_uuid(self) -> str:
        library = self._library
        return library.text(library.calls.gpuslice_agent_share_gpu_uuid(self.handle))

    def process_count(self) -> int:
        """How many processes hold the share; right also where its usage file is corrupt."""
        return int(self._library.calls.gpuslice_agent_share_process_count(self.handle))

    def usage(self) -> SlotUsage:
        """CorruptShareError: a tenant damaged the file."""
        library = self._library
        usage: Any = library.ffi.new("struct gpuslice_share_usage *")
        library.check(
            library.calls.gpuslice_agent_share_usage(
                self.handle, usage, library.slots, SLOTS, library.reason
            )
        )
        return SlotUsage(
            held_bytes=usage.live_bytes,
            busy_ns=usage.busy_ns,
            paces_itself=bool(usage.pacing_local),
            slots=tuple(_slot(library.slots[i]) for i in range(min(usage.process_count, SLOTS))),
        )

    def _current(self) -> Any:
        library = self._library
        native: Any = library.ffi.new("struct gpuslice_share_limits *")
        library.check(
            library.calls.gpuslice_agent_share_get_limits(self.handle, native, library.reason)
        )
        return native


class Arbiter:
    """The native thread that decides which share of one GPU may run."""

    def __init__(self, library: AgentLibrary) -> None:
        self._library = library
        handle = library.ffi.new("struct gpuslice_arbiter **")
        library.check(library.calls.gpuslice_arbiter_start(handle, library.reason))
        self._handle: Any = handle[0]

    def add(self, share: OpenShare) -> None:
        library = self._library
        library.check(
            library.calls.gpuslice_arbiter_add(self._handle, share.handle, library.reason)
        )

    def remove(self, share: OpenShare) -> None:
        self._library.calls.gpuslice_arbiter_remove(self._handle, share.handle)

    def stop(self) -> None:
        """Its shares pace themselves a second later."""
        self._library.calls.gpuslice_arbiter_stop(self._handle)


def _slot(native: Any) -> Slot:
    return Slot(
        index=native.slot,
        pid=native.pid,
        pid_namespace=native.pid_namespace,
        start_time=native.start_time,
        memory_bytes=native.held_bytes,
        context_bytes=native.context_bytes,
        module_bytes=native.module_bytes,
        data_bytes=native.data_bytes,
        array_bytes=native.array_bytes,
        managed_bytes=native.managed_bytes,
        pinned_bytes=native.pinned_bytes,
        swapped_bytes=native.swapped_bytes,
        busy_ns=native.busy_ns,
        throttled_ns=native.throttled_ns,
        launches=native.launches,
        last_activity_ns=native.last_activity_ns,
        waiting=native.waiting > 0,
    )
