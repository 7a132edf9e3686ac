"""The shares that hold now: their files open, their arbiter told."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpuslice_agent.enforcement.arbiters import Arbiters
from gpuslice_agent.enforcement.directories import Directories
from gpuslice_agent.enforcement.library import AgentLibrary, OpenShare, Slot
from gpuslice_agent.enforcement.tenants import Tenants
from gpuslice_agent.enforcement.usage import Meter, process
from gpuslice_agent.errors import EnforcementError
from gpuslice_agent.model import Limits, Owner, Process, Share, ShareState


def corrupt(share: Share) -> Share:
    """The share, reported as corrupt unless it is on its way out anyway."""
    if share.state is ShareState.ENDING:
        return share
    return replace(share, state=ShareState.CORRUPT)


@dataclass(slots=True)
class Held:
    gpu_uuid: str
    files: OpenShare
    meter: Meter = field(default_factory=Meter)


class Enforcement:
    def __init__(
        self,
        library: AgentLibrary,
        shares_dir: Path,
        *,
        tmpfs: bool,
        name_of: Callable[[int], str],
    ) -> None:
        self._library = library
        self._directories = Directories(shares_dir, library, tmpfs=tmpfs)
        self._arbiters = Arbiters(library)
        self._tenants = Tenants()
        self._name_of = name_of
        self._held: dict[str, Held] = {}

    def start(self, share: Share, overhead_bytes: int) -> Share:
        """Makes the files and paces the share. Nothing is left of a failure.

        Of a whole GPU nothing is paced, and no file is the tenant's.
        """
        self._directories.create(share, overhead_bytes)
        try:
            return self.resume(share)
        except BaseException:
            self._directories.remove(share.id)
            raise

    def resume(self, share: Share) -> Share:
        """Takes a share up again whose files are there, with the limits that the ledger has."""
        if share.limits.whole:
            return share
        directory = self._directories.of(share.id)
        files = OpenShare(self._library, directory)
        try:
            if files.limits() != share.limits:
                files.set_limits(share.limits)
            self._arbiters.put(share.gpu_uuid, files, share.limits)
        except BaseException:
            files.close()
            raise
        self._held[share.id] = Held(share.gpu_uuid, files)
        return replace(share, directory=str(directory))

    def set_limits(self, share: Share, limits: Limits) -> None:
        held = self._held_or_error(share.id)
        held.files.set_limits(limits)
        self._arbiters.put(held.gpu_uuid, held.files, limits)

    def stop(self, share_id: str) -> None:
        """Idempotent; also removes files that were never taken up."""
        held = self._held.pop(share_id, None)
        if held is not None:
            self._arbiters.take(held.gpu_uuid, held.files)
            held.files.close()
        self._directories.remove(share_id)

    def process_count(self, share_id: str) -> int:
        held = self._held.get(share_id)
        return held.files.process_count() if held else 0

    def used_bytes(self, share_id: str) -> int:
        return self._held_or_error(share_id).files.usage().held_bytes

    def look(self, share: Share) -> Share:
        """The share with its usage as of now."""
        held = self._held.get(share.id)
        if held is None:
            return share
        try:
            seen = held.files.usage()
        except EnforcementError:
            return corrupt(share)
        paced = self._arbiters.paces(held.gpu_uuid)
        usage = held.meter.read(seen, time.monotonic_ns(), paced, self._process)
        mended = ShareState.READY if share.state is ShareState.CORRUPT else share.state
        return replace(share, usage=usage, state=mended)

    def has_files(self, share: Share) -> bool:
        return self._directories.is_complete(share)

    def remember(self, share: Share) -> None:
        """Puts the share's record right, where it differs."""
        self._directories.write_record(share)

    def found(self) -> tuple[str, ...]:
        """The ids of all share directories, known or not."""
        return self._directories.present()

    def sweep(self) -> None:
        """Removes what a killed agent had begun."""
        self._directories.sweep()

    def adopt(self, share_id: str) -> Share:
        """A share that the ledger does not know, as its files describe it.

        Without its record nobody knows whose it is: then it ends when no process holds it.
        """
        if (share := self._directories.record(share_id)) is not None and share.id == share_id:
            return share
        files = OpenShare(self._library, self._directories.of(share_id))
        try:
            return Share(
                id=share_id,
                gpu_uuid=files.gpu_uuid(),
                limits=files.limits(),
                owner=Owner("found without a record"),
                created_at=time.time(),
                state=ShareState.ENDING,
            )
        finally:
            files.close()

    def close(self) -> None:
        """Lets go of everything. Shares keep their files, and pace themselves."""
        self._arbiters.stop()
        for held in self._held.values():
            held.files.close()
        self._held.clear()

    def _process(self, slot: Slot) -> Process:
        pid = self._tenants.pid_of(slot)
        return process(slot, pid, self._name_of(pid))

    def _held_or_error(self, share_id: str) -> Held:
        held = self._held.get(share_id)
        if held is None:
            raise EnforcementError(f"Share {share_id} has no files: it cannot be changed.")
        return held
