"""The agent's end of the NVML child: a deadline on every call, a new child for a lost one."""

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from gpuslice_agent.errors import NvmlError, NvmlHungError
from gpuslice_agent.model import Reading
from gpuslice_agent.nvml.protocol import (
    LENGTH,
    Answer,
    CanLimit,
    Describe,
    DescribeTopology,
    Description,
    Failure,
    Limit,
    Observation,
    Read,
    Request,
    TopologyFacts,
    Verdict,
    answer_from,
    frame,
)
from gpuslice_agent.topology import GpuFacts

log = logging.getLogger(__name__)

PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds, by failures in a row
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

    async def describe(self) -> Description:
        """What this child, or the last, found when it started."""
        async with self._turn:
            return await self._described()

    async def read(self, uuid: str) -> Reading:
        async with self._turn:
            await self._described()
            return (await self._ask(Read(uuid), Observation, self._deadline)).reading

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

    async def end(self) -> bool:
        """Ends the child, which closes every device file. False: the driver holds on to it."""
        if self._child is not None:
            self._child.hang_up()  # whoever waits for an answer gives up now, and the turn
        async with self._turn:
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
        if self._child is None:
            self._child, self._description = await self._start(), None
        if self._description is None:
            # The first call of a child loads the driver, which may take its time.
            self._description = await self._ask(Describe(), Description, self._start_deadline)
        return self._description

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
            self._give_up(child, NvmlError("the NVML child died in a call"))
            raise self._why from error
        except asyncio.CancelledError:
            # Its answer would be taken for that of the next call.
            self._give_up(child, NvmlError("the NVML child was stopped in a call"))
            raise
        self._failures = 0
        if isinstance(answer, Failure):
            raise NvmlError(answer.sentence)
        assert isinstance(answer, kind)
        return answer

    async def _start(self) -> "Child":
        # A process in an uninterruptible call ignores SIGKILL; the next would only join it there.
        if not await self._end():
            raise NvmlHungError("the NVML child is stuck in the driver and cannot be killed")
        if time.monotonic() < self._not_before:
            raise self._why
        self._before_start()
        return Child(self._command)

    def _give_up(self, child: "Child", why: NvmlError) -> None:
        child.close()
        log.warning("NVML child given up pid=%d reason=%s", child.pid, why)
        self._child, self._why = None, why
        self._stuck = child
        # One hung GPU costs its own reading; the next child serves the others at once.
        self._not_before = time.monotonic() + PAUSES[self._failures]
        self._failures = min(self._failures + 1, len(PAUSES) - 1)


class Child:
    def __init__(self, command: tuple[str, ...]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        ours.setblocking(False)
        self._socket = ours

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
