"""The agent's end of the NVML child: a deadline on every call, a new child for a lost one."""

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import TypeVar

from gpuslice_agent.errors import NvmlError, NvmlHungError, NvmlLostError, NvmlStuckError
from gpuslice_agent.mig import MigPlace
from gpuslice_agent.model import Reading
from gpuslice_agent.nvml.protocol import (
    LENGTH,
    Answer,
    CanLimit,
    Describe,
    DescribeTopology,
    Description,
    Examination,
    Examine,
    Failure,
    Limit,
    MakePartition,
    Observation,
    Partitions,
    Read,
    ReadMig,
    RemovePartition,
    Request,
    SetMigMode,
    Start,
    TopologyFacts,
    Verdict,
    answer_from,
    frame,
    notice_from,
)
from gpuslice_agent.nvml.vitals import Notice, Vitals
from gpuslice_agent.topology import GpuFacts

log = logging.getLogger(__name__)

PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds, by failures in a row
NOTICE_BYTES = 65_536
NOTICES_MAX = 10_000  # unread; the kernel's log has them too
MIG_SECONDS = 30.0  # to change how a GPU is cut takes longer than to look
END_SECONDS = 2.0  # within which whoever must reset a GPU wants its device files closed

A = TypeVar("A", bound=Answer)


class Nvml:
    """NVML, one call at a time. Every call ends within its deadline, whatever the driver does."""

    def __init__(
        self,
        deadline: float,
        start_deadline: float,
        command: tuple[str, ...] = (),
        before_start: Callable[[], None] = lambda: None,
    ) -> None:
        self._deadline = deadline
        self._start_deadline = start_deadline
        self._command = command or (sys.executable, "-P", "-m", "gpuslice_agent.nvml.child")
        self._before_start = before_start
        self._turn = asyncio.Lock()
        self._child: Child | None = None
        self._description: Description | None = None
        self._stuck: Child | None = None
        self._failures = 0
        self._not_before = 0.0
        self._why = NvmlError("NVML has not been asked yet")
        self._notices: asyncio.Queue[Notice] = asyncio.Queue(NOTICES_MAX)

    async def describe(self) -> Description:
        """What this child, or the last, found when it started."""
        async with self._turn:
            return await self._described()

    async def read(self, uuid: str) -> Reading:
        async with self._turn:
            await self._described()
            return (await self._ask(Read(uuid), Observation, self._deadline)).reading

    async def examine(self, uuid: str) -> Vitals:
        async with self._turn:
            await self._described()
            return (await self._ask(Examine(uuid), Examination, self._deadline)).vitals

    async def notices(self) -> AsyncGenerator[Notice]:
        """What NVML tells unasked, through this child and every later one. For one reader."""
        while True:
            yield await self._notices.get()

    @property
    def stuck_pid(self) -> int | None:
        """Of a child that is given up and cannot be killed, or not yet."""
        return self._stuck.pid if self._stuck is not None and self._stuck.alive() else None

    async def topology(self) -> tuple[GpuFacts, ...]:
        """How the GPUs are joined."""
        async with self._turn:
            await self._described()
            return (await self._ask(DescribeTopology(), TopologyFacts, self._deadline)).gpus

    async def can_limit(self, uuid: str, cgroup: str) -> bool:
        """Whether the driver limits the memory of cgroups like this one on the GPU."""
        async with self._turn:
            await self._described()
            return (await self._ask(CanLimit(uuid, cgroup), Verdict, self._deadline)).yes

    async def limit(self, uuid: str, cgroup: str, size: int | None) -> None:
        """Limits what the processes of a cgroup hold on the GPU to bytes; None: no longer."""
        async with self._turn:
            await self._described()
            await self._ask(Limit(uuid, cgroup, size), Verdict, self._deadline)

    async def partitions(self, uuid: str) -> Partitions:
        """Whether a GPU is in MIG mode, and its partitions."""
        return await self._partitioned(ReadMig(uuid))

    async def set_mig_mode(self, uuid: str, enabled: bool) -> Partitions:
        return await self._partitioned(SetMigMode(uuid, enabled))

    async def make_partition(self, uuid: str, place: MigPlace) -> Partitions:
        """Idempotent, also after it was interrupted."""
        return await self._partitioned(MakePartition(uuid, place))

    async def remove_partition(self, uuid: str, place: MigPlace) -> Partitions:
        """Idempotent, also after it was interrupted."""
        return await self._partitioned(RemovePartition(uuid, place))

    async def _partitioned(
        self, request: ReadMig | SetMigMode | MakePartition | RemovePartition
    ) -> Partitions:
        async with self._turn:
            await self._described()
            seconds = self._deadline if isinstance(request, ReadMig) else MIG_SECONDS
            return await self._ask(request, Partitions, seconds)

    async def end(self) -> bool:
        """Ends the child, which closes every device file. False: the driver holds on to it."""
        if self._child is not None:
            self._child.hang_up()  # whoever waits for an answer gives up now, and the turn
        async with self._turn:
            self._description = None  # there may be other GPUs
            return await self._end()

    async def _end(self) -> bool:
        child, self._child = self._child or self._stuck, None
        if child is None:
            return True
        child.close()
        gone = await asyncio.to_thread(child.gone_within, END_SECONDS)
        self._stuck = None if gone else child
        return gone

    async def _described(self) -> Description:
        # The first call of a child loads the driver, which may take its time.
        if self._child is None:
            self._child = await self._start()
            if self._description is not None:
                await self._ask_all(Start(), Verdict)
        if self._description is None:
            self._description = await self._ask_all(Describe(), Description)
        return self._description

    async def _ask_all(self, request: Request, kind: type[A]) -> A:
        try:
            return await self._ask(request, kind, self._start_deadline)
        except NvmlHungError as error:
            # No one GPU was asked: whoever waits for one has learnt nothing of it.
            raise NvmlStuckError(str(error)) from error

    async def _ask(self, request: Request, kind: type[A], deadline: float) -> A:
        child = self._child
        assert child is not None
        try:
            async with asyncio.timeout(deadline):
                answer = await child.ask(request)
        except TimeoutError as error:
            self._give_up(child, NvmlHungError(f"NVML did not answer within {deadline:g} s"))
            raise self._why from error
        except (ConnectionError, EOFError) as error:
            self._description = None  # the driver may be another
            self._give_up(child, NvmlError("the NVML child died in a call"))
            raise self._why from error
        except asyncio.CancelledError:
            # Its answer would be taken for that of the next call.
            self._give_up(child, NvmlError("the NVML child was stopped in a call"))
            raise
        self._failures = 0
        if isinstance(answer, Failure):
            kind_of_error = NvmlLostError if answer.lost else NvmlError
            raise kind_of_error(answer.sentence)
        assert isinstance(answer, kind)
        return answer

    async def _start(self) -> "Child":
        # A process in an uninterruptible call ignores SIGKILL; the next would only join it there.
        if not await self._end():
            raise NvmlStuckError("the NVML child is stuck in the driver and cannot be killed")
        if time.monotonic() < self._not_before:
            raise self._why
        self._before_start()
        return Child(self._command, self._told)

    def _told(self, notice: Notice) -> None:
        with suppress(asyncio.QueueFull):
            self._notices.put_nowait(notice)

    def _give_up(self, child: "Child", why: NvmlError) -> None:
        child.close()
        log.warning("NVML child given up pid=%d reason=%s", child.pid, why)
        self._child, self._why = None, why
        self._stuck = child
        # One hung GPU costs its own reading; the next child serves the others at once.
        self._not_before = time.monotonic() + PAUSES[self._failures]
        self._failures = min(self._failures + 1, len(PAUSES) - 1)


class Child:
    def __init__(self, command: tuple[str, ...], told: Callable[[Notice], None]) -> None:
        ours, theirs = socket.socketpair()
        # Packets: each is one event, and none is ever read in half.
        events, their_events = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passed = (theirs.fileno(), their_events.fileno())
        with theirs, their_events:
            self._process = subprocess.Popen(
                [*command, *map(str, passed)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        ours.setblocking(False)
        events.setblocking(False)
        self._socket = ours
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(events, self._read_events, told)

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def gone_within(self, seconds: float) -> bool:
        """Blocks."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def hang_up(self) -> None:
        """Ends it; a call under way fails at once, even where the process cannot be killed."""
        self._process.kill()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """To be called when no call is under way."""
        self._process.kill()
        self._socket.close()
        self._hear_no_more()

    def _hear_no_more(self) -> None:
        if self._events.fileno() >= 0:
            self._loop.remove_reader(self._events)
            self._events.close()

    def _read_events(self, told: Callable[[Notice], None]) -> None:
        try:
            while packet := self._events.recv(NOTICE_BYTES):
                told(notice_from(packet))
        except BlockingIOError:
            return
        except ConnectionError:
            pass
        self._hear_no_more()  # the child has gone

    async def ask(self, request: Request) -> Answer:
        await asyncio.get_running_loop().sock_sendall(self._socket, frame(request))
        (size,) = LENGTH.unpack(await self._receive(LENGTH.size))
        return answer_from(await self._receive(size))

    async def _receive(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            part = await asyncio.get_running_loop().sock_recv(self._socket, size - len(received))
            if not part:
                raise EOFError
            received += part
        return bytes(received)
