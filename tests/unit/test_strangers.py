"""Who is said to use a GPU as he should not, and who is stopped. The processes are real."""

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuslice_agent.audit import TOLERANCE_BYTES, Breach, Finding, findings, without_owners
from gpuslice_agent.enforcement import Strangers
from gpuslice_agent.model import Owner, Process, Share, Snapshot, StrangerPolicy, Usage

from .nodes import gpu, node, share

POD, OTHER = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "12")


@contextmanager
def running(proc: Path, pod_uid: str, parent: int = 1) -> Generator[int]:
    """The pid of a process that, as `proc` says, is in this pod."""
    with subprocess.Popen(["sleep", "600"]) as process:
        folder = proc / str(process.pid)
        folder.mkdir()
        put(proc, process.pid, pod_uid)
        (folder / "stat").write_text(f"{process.pid} (a) b) S {parent} {' 0' * 17} 77 0")
        try:
            yield process.pid
        finally:
            process.kill()


def put(proc: Path, pid: int, pod_uid: str) -> None:
    path = f"/kubepods/pod{pod_uid}/{'a' * 64}" if pod_uid else "/user.slice"
    (proc / str(pid) / "cgroup").write_text(f"0::{path}\n")


def with_stranger(pid: int, pod_uid: str, *shares: Share) -> Snapshot:
    on = gpu(strangers=(Process(pid=pid, name="miner", memory_bytes=5, pod_uid=pod_uid),))
    return node(on, shares=shares)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


class Judged:
    def __init__(self, policy: StrangerPolicy, proc: Path) -> None:
        self.strangers = Strangers(policy, proc)
        self.heard: list[tuple[Finding, bool]] = []
        self.strangers.listen(lambda finding, stopped: self.heard.append((finding, stopped)))

    def looks(self, snapshot: Snapshot, times: int = 2) -> None:
        for _ in range(times):
            self.strangers.judge(snapshot, {POD})


def killed(policy: StrangerPolicy, proc: Path, pod_uid: str) -> bool:
    judged = Judged(policy, proc)
    with running(proc, pod_uid) as pid:
        judged.looks(with_stranger(pid, pod_uid))
        (heard,) = judged.heard
        gone = False
        if heard[1]:
            gone = wait_for_end(pid)
        assert judged.strangers.stopped == heard[1] == gone
        return gone


def wait_for_end(pid: int) -> bool:
    while is_alive(pid):
        pass
    return True


@pytest.mark.parametrize(
    "policy, of_a_tenant, of_another_pod, outside",
    [
        (StrangerPolicy.REPORT, False, False, False),
        (StrangerPolicy.STOP, True, False, False),
        (StrangerPolicy.STOP_ALL, True, True, True),
    ],
)
def test_the_policy_says_who_is_stopped(
    tmp_path: Path, policy: StrangerPolicy, of_a_tenant: bool, of_another_pod: bool, outside: bool
) -> None:
    assert killed(policy, tmp_path, POD) == of_a_tenant
    assert killed(policy, tmp_path, OTHER) == of_another_pod
    assert killed(policy, tmp_path, "") == outside


def test_a_stranger_is_said_once_and_only_at_the_second_look(tmp_path: Path) -> None:
    judged = Judged(StrangerPolicy.STOP, tmp_path)
    with running(tmp_path, OTHER) as pid:
        judged.looks(with_stranger(pid, OTHER), 1)
        assert judged.heard == []
        judged.looks(with_stranger(pid, OTHER), 5)
    assert [finding.breach for finding, _ in judged.heard] == [Breach.WITHOUT_A_SHARE]


def test_one_that_was_gone_in_between_is_looked_at_anew(tmp_path: Path) -> None:
    judged = Judged(StrangerPolicy.STOP, tmp_path)
    with running(tmp_path, POD) as pid:
        for _ in range(3):
            judged.looks(with_stranger(pid, POD), 1)
            judged.looks(node(gpu()), 1)
        assert judged.heard == [] and is_alive(pid)


def test_a_process_that_is_in_another_pod_by_now_is_left_alone(tmp_path: Path) -> None:
    judged = Judged(StrangerPolicy.STOP, tmp_path)
    with running(tmp_path, POD) as pid:
        put(tmp_path, pid, OTHER)
        judged.looks(with_stranger(pid, POD))
        assert [stopped for _, stopped in judged.heard] == [False] and is_alive(pid)


def test_what_the_agent_itself_has_started_is_nobody(tmp_path: Path) -> None:

    judged = Judged(StrangerPolicy.STOP_ALL, tmp_path)
    with running(tmp_path, "", parent=os.getpid()) as pid:
        judged.looks(with_stranger(pid, ""))
        assert judged.heard == [] and is_alive(pid)


def held_by(pod_uid: str, *, whole: bool = False, over: int = 0) -> Share:
    one = share(gpu())
    return replace(
        one,
        owner=Owner("pod", pod_uid=pod_uid),
        limits=replace(one.limits, whole=whole),
        usage=Usage(over_bytes=over, processes=(Process(pid=7), Process(pid=0))),
    )


def test_more_than_the_limit_counts_beyond_what_drivers_take_for_themselves() -> None:
    fine = node(gpu(), shares=(held_by(POD, over=TOLERANCE_BYTES),))
    assert findings(fine, {POD}) == ()
    (found,) = findings(node(gpu(), shares=(held_by(POD, over=TOLERANCE_BYTES + 1),)), {POD})
    assert found.breach is Breach.BEYOND_THE_LIMIT
    assert (found.process.pid, found.share_id) == (7, "one")


def test_who_holds_too_much_is_stopped_as_what_its_cgroup_says(tmp_path: Path) -> None:
    judged = Judged(StrangerPolicy.STOP, tmp_path)
    with running(tmp_path, POD) as pid:
        too_much = Usage(over_bytes=TOLERANCE_BYTES + 1, processes=(Process(pid=pid),))
        held = replace(share(gpu()), owner=Owner("claim", pod_uids=(POD,)), usage=too_much)
        judged.looks(node(gpu(), shares=(held,)))
        assert wait_for_end(pid)
    ((found, stopped),) = judged.heard
    assert stopped and found.process.pod_uid == POD


def test_who_has_the_gpu_whole_is_no_stranger_on_it() -> None:
    inside, outside = Process(pid=1, pod_uid=POD), Process(pid=2, pod_uid=OTHER)
    uuid = gpu().uuid
    assert without_owners((inside, outside), uuid, [held_by(POD, whole=True)]) == (outside,)
    assert without_owners((inside, outside), uuid, [held_by("", whole=True)]) == ()
    assert without_owners((inside,), uuid, [held_by(POD)]) == (inside,)
    assert without_owners((inside,), gpu(1).uuid, [held_by(POD, whole=True)]) == (inside,)
