"""Killed at any step of giving a pod its GPUs or taking them back, the agent finds all in order."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuslice_agent import mounts
from gpuslice_agent.model import ShareState
from gpuslice_agent.simulation import SimNode

from .dying import POD, at_work, prepare, unprepare


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    mounts.detach_below(tmp_path)


def performed(state: Path, node: SimNode, step: int, operation: str) -> bool:
    """Whether it was done before its process would have been killed at `step`."""
    arguments = [str(state), str(node.path), str(step), operation]
    status = subprocess.run([sys.executable, "-m", "tests.plugin.dying", *arguments]).returncode
    assert status in (0, -9)
    return status == 0


def agreed(state: Path, node: SimNode) -> int:
    """How many shares there are, after a restart: with ledger, files and CDI files that agree."""
    with at_work(state, node) as (world, spec):
        shares = world.shares.all()
        ids = {share.id for share in shares}
        assert ids == {share.id for share in world.ledger.shares()}
        assert ids == set(os.listdir(state / "shares"))
        assert all(share.state is ShareState.READY for share in shares)
        assert spec.present() == ({POD} if shares else set())
        assert not list((state / "cdi").glob("*.new"))
        for share in shares:
            assert share.limits.whole or Path(share.directory, "grant").exists()
        return len(shares)


def test_a_kill_at_any_step_of_prepare_leaves_all_or_nothing_and_a_second_try_works(
    state: Path, node: SimNode
) -> None:
    step, done, outcomes = 0, False, set[int]()
    while not done:
        step += 1
        here = state / str(step)
        done = performed(here, node, step, "prepare")
        left = agreed(here, node)
        assert left in ((2,) if done else (0, 2))
        outcomes.add(left)
        with at_work(here, node) as (world, spec):
            before = {share.id for share in world.shares.all()}
            after = {share.id for share in prepare(world, spec, node)}
            assert not before or after == before
            unprepare(world, spec)
        assert agreed(here, node) == 0
    assert step > 10 and outcomes == {0, 2}


def test_a_kill_at_any_step_of_unprepare_leaves_all_or_nothing_and_a_second_try_works(
    state: Path, node: SimNode
) -> None:
    step, done, outcomes = 0, False, set[int]()
    while not done:
        step += 1
        here = state / str(step)
        with at_work(here, node) as (world, spec):
            prepare(world, spec, node)
        done = performed(here, node, step, "unprepare")
        left = agreed(here, node)
        assert left in ((0,) if done else (0, 2))
        outcomes.add(left)
        with at_work(here, node) as (world, spec):
            unprepare(world, spec)
        assert agreed(here, node) == 0
    assert step > 5 and outcomes == {0, 2}


def test_a_damaged_ledger_and_damaged_cdi_files_are_made_again_from_each_other(
    state: Path, node: SimNode, caplog: pytest.LogCaptureFixture
) -> None:
    with at_work(state, node) as (world, spec):
        before = {share.id: share.owner for share in prepare(world, spec, node)}
    (file,) = (state / "cdi").iterdir()
    right = file.read_bytes()
    for damage in (b"", b'{"cdiVersion": ', b"\xff" * 100):
        file.write_bytes(damage)
        (state / "ledger.sqlite").write_bytes(b"nonsense" * 1000)
        with at_work(state, node) as (world, _):
            assert {share.id: share.owner for share in world.shares.all()} == before
        assert file.read_bytes() == right
    assert sum("is damaged" in line for line in caplog.messages) == 3


def test_a_reboot_takes_files_away_and_the_shares_of_pods_get_them_again(
    state: Path, node: SimNode
) -> None:
    with at_work(state, node) as (world, spec):
        before = {share.id for share in prepare(world, spec, node)}
    (file,) = (state / "cdi").iterdir()
    right = file.read_bytes()
    file.unlink()
    mounts.detach_below(state)
    subprocess.run(["rm", "-rf", str(state / "shares")], check=True)
    assert agreed(state, node) == 2
    with at_work(state, node) as (world, _):
        assert {share.id for share in world.shares.all()} == before
    assert file.read_bytes() == right
