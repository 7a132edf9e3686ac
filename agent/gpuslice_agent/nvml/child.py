"""The NVML child: `python -m gpuslice_agent.nvml.child FD EVENTS_FD`.

It answers requests on the first socket and tells NVML's events on the second.
"""

import ctypes
import os
import signal
import socket
import sys

from gpuslice_agent.errors import NvmlError
from gpuslice_agent.nvml import calls, examine, facts, limits, mig, notices
from gpuslice_agent.nvml.protocol import (
    LENGTH,
    Answer,
    CanLimit,
    Describe,
    DescribeTopology,
    Examination,
    Examine,
    Failure,
    Limit,
    Observation,
    Read,
    Request,
    Start,
    TopologyFacts,
    Verdict,
    frame,
    request_from,
)

PR_SET_PDEATHSIG = 1


def main() -> None:
    end_with(os.getppid())
    answers = Answers(socket.socket(fileno=int(sys.argv[2])))
    with socket.socket(fileno=int(sys.argv[1])) as agent:
        while (request := receive(agent)) is not None:
            agent.sendall(frame(answers.to(request)))


def end_with(parent: int) -> None:
    """An agent that is killed takes the child and its device handles with it, even from a call."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def receive(agent: socket.socket) -> Request | None:
    """None: the agent has gone."""
    header = agent.recv(LENGTH.size, socket.MSG_WAITALL)
    if len(header) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(header)
    return request_from(agent.recv(size, socket.MSG_WAITALL))


class Answers:
    def __init__(self, events: socket.socket) -> None:
        self._started = False
        self._events = events

    def to(self, request: Request) -> Answer:
        try:
            if not self._started:
                calls.start()
                self._started = True
                notices.tell(self._events)
            if isinstance(request, Start):
                return Verdict(True)
            if isinstance(request, Describe):
                return mig.with_profiles(calls.describe())
            if isinstance(request, DescribeTopology):
                return TopologyFacts(facts.facts())
            if isinstance(request, Examine):
                return Examination(examine.examine(request.uuid))
            if isinstance(request, CanLimit):
                return Verdict(limits.limits(request.uuid, request.cgroup))
            if isinstance(request, Limit):
                limits.limit(request.uuid, request.cgroup, request.size)
                return Verdict(True)
            if isinstance(request, Read):
                return Observation(mig.with_devices(calls.read(request.uuid), request.uuid))
            return mig.partitioned(request)
        except NvmlError as error:
            return Failure(str(error))
        except calls.nvml.NVMLError as error:
            return Failure(f"NVML says: {error}", isinstance(error, calls.nvml.NVMLError_GpuIsLost))


if __name__ == "__main__":
    main()
