"""GPU time, as a user meets it: `gpuslice sim … gpuslice run --cores …`, and the agent it starts.

The truth is the busy time that the simulated node counted for a tenant's processes, over the time
in which the tenant had work.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from ..sim.c_programs import KERNELS, build
from ..sim.share_on_node import Tenant
from ..sim.time_shares import Load, busy_by_pid
from .node import Node, Run

SECONDS = 10.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    return build(folder / "launch_loop", "launch_loop.c", flags=("-lcuda",))


@dataclass
class Loaded:
    """The processes of one share, each ready to work; or one process without a share."""

    node: Node
    processes: list[Tenant]
    run: Run | None = None

    def starts(self) -> None:
        for tenant in self.processes:
            assert tenant.process.stdin
            tenant.process.stdin.write(f"{SECONDS}\n")
            tenant.process.stdin.flush()

    def busy_ns(self) -> int:
        busy = busy_by_pid(self.node.sim)
        return sum(busy[tenant.process.pid] for tenant in self.processes)

    def charged_ns(self) -> int:
        return sum(share.usage.busy_ns for share in self.run.shares()) if self.run else 0

    def elapsed_ns(self) -> int:
        said = [tenant.says() for tenant in self.processes]
        return int(max(one["end_ns"] for one in said) - min(one["start_ns"] for one in said))


def words(program: Path, load: Load) -> tuple[str, ...]:
    options = ("--ptx", str(KERNELS), "--mode", load.mode, "--kernel-us", str(load.kernel_us))
    return (str(program), *options)


def loaded(node: Node, program: Path, cores: int, *loads: Load) -> Loaded:
    run = node.run(f"--cores {cores} --mem 16GiB --gpu 0", *words(program, loads[0]))
    ready(run)
    for load in loads[1:]:
        ready(run.join(*words(program, load)))
    return Loaded(node, [run, *run.joined], run)


def ready(tenant: Tenant) -> None:
    assert tenant.process.stdout
    assert tenant.process.stdout.readline() == "ready\n"


def percent(*tenants: Loaded) -> list[float]:
    """Of GPU time, for each tenant while all of them work; and so much each was charged."""
    before = [tenant.busy_ns() for tenant in tenants]
    charged_before = [tenant.charged_ns() for tenant in tenants]
    for tenant in tenants:
        tenant.starts()
    elapsed = [tenant.elapsed_ns() for tenant in tenants]
    used = [tenant.busy_ns() - start for tenant, start in zip(tenants, before, strict=True)]
    for tenant, start, used_ns, time_ns in zip(tenants, charged_before, used, elapsed, strict=True):
        if tenant.run:
            assert tenant.charged_ns() - start == pytest.approx(used_ns, abs=time_ns / 100)
    return [100 * used_ns / time_ns for used_ns, time_ns in zip(used, elapsed, strict=True)]


@pytest.mark.parametrize(
    "loads",
    [
        (Load("loop", 50),),
        (Load("loop", 50_000),),
        (Load("graph", 100),),
        (Load("cooperative", 200),),
        (Load("ex", 200),),
        (Load("streams4", 200),),
        (Load("loop", 50), Load("loop", 200)),
    ],
    ids=lambda loads: "+".join(f"{load.mode}-{load.kernel_us}us" for load in loads),
)
def test_a_share_of_thirty_gets_thirty_percent(
    node: Node, program: Path, loads: tuple[Load, ...]
) -> None:
    [share] = percent(loaded(node, program, 30, *loads))
    assert share == pytest.approx(30, abs=1)


@pytest.mark.parametrize(
    ("small_us", "large_us"), [(500, 500), (2000, 2000), (10_000, 10_000), (2000, 10_000)]
)
def test_shares_of_thirty_and_seventy_get_thirty_and_seventy_percent(
    node: Node, program: Path, small_us: int, large_us: int
) -> None:
    small, large = percent(
        loaded(node, program, 30, Load("loop", small_us)),
        loaded(node, program, 70, Load("loop", large_us)),
    )
    assert small == pytest.approx(30, abs=2)
    assert large == pytest.approx(70, abs=2)


def test_a_share_of_all_time_has_what_a_program_without_a_shim_has(
    node: Node, program: Path
) -> None:
    [hooked] = percent(loaded(node, program, 100, Load("loop", 50)))
    node.end_all()
    plain = node.start(*words(program, Load("loop", 50)))
    ready(plain)
    [unhooked] = percent(Loaded(node, [plain]))
    plain.process.kill()
    plain.process.communicate()
    assert hooked >= 0.99 * unhooked > 90
