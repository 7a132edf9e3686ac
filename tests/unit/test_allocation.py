"""Where a share goes, and why it does not."""

from dataclasses import replace

import pytest

from gpuslice_agent.allocation import Defaults, allocate, resize
from gpuslice_agent.errors import AllocationError, RequestError
from gpuslice_agent.model import Health, HealthState, Order, Policy, ShareRequest, Snapshot

from .nodes import GIB, gpu, node, share

DEFAULTS = Defaults()
TWO = node(gpu(0), gpu(1))


def placed(request: ShareRequest, on: Snapshot, defaults: Defaults = DEFAULTS) -> list[int]:
    index = {one.uuid: one.index for one in on.gpus}
    return [index[one.gpu_uuid] for one in allocate(request, on, defaults)]


def refusal(request: ShareRequest, on: Snapshot) -> str:
    with pytest.raises(AllocationError) as caught:
        allocate(request, on, DEFAULTS)
    return str(caught.value)


def test_cores_alone_bring_their_percentage_of_the_memory_in_whole_blocks() -> None:
    (allocation,) = allocate(ShareRequest(cores=30), TWO, DEFAULTS)
    assert allocation.limits.cores == 30
    assert allocation.limits.memory_bytes == 80 * GIB * 30 // 100 // (2 << 20) * (2 << 20)


def test_a_hundred_cores_bring_all_the_memory_to_the_byte() -> None:
    odd = node(replace(gpu(), memory_bytes=80 * GIB - 12345))
    assert allocate(ShareRequest(cores=100), odd, DEFAULTS)[0].limits.memory_bytes == (
        80 * GIB - 12345
    )


def test_memory_alone_promises_no_time() -> None:
    (allocation,) = allocate(ShareRequest(memory_bytes=GIB), TWO, DEFAULTS)
    assert allocation.limits.cores == 0
    assert allocation.limits.memory_bytes == GIB


def test_the_configuration_decides_the_policy_that_a_request_leaves_open() -> None:
    elastic = Defaults(policy=Policy.ELASTIC)
    request = ShareRequest(cores=1)
    assert allocate(request, TWO, elastic)[0].limits.policy is Policy.ELASTIC
    hard = replace(request, policy=Policy.HARD)
    assert allocate(hard, TWO, elastic)[0].limits.policy is Policy.HARD


def test_shares_fill_a_gpu_up_to_a_hundred_cores_and_its_memory() -> None:
    full = node(gpu(), shares=(share(gpu(), cores=70, gib=60),))
    assert placed(ShareRequest(cores=30, memory_bytes=20 * GIB), full) == [0]
    assert "30 % of its time" in refusal(ShareRequest(cores=31, memory_bytes=GIB), full)
    assert "20 GiB of its memory" in refusal(ShareRequest(memory_bytes=20 * GIB + 1), full)


def test_the_memory_promised_may_exceed_the_card_by_the_ratio() -> None:
    full = node(gpu(), shares=(share(gpu(), gib=80),))
    request = ShareRequest(memory_bytes=40 * GIB)
    assert placed(request, full, Defaults(overcommit_ratio=1.5)) == [0]
    with pytest.raises(AllocationError):
        allocate(replace(request, memory_bytes=41 * GIB), full, Defaults(overcommit_ratio=1.5))


def test_named_gpus_get_one_share_each_in_the_order_named() -> None:
    assert placed(ShareRequest(cores=10, gpus=("1", "0")), TWO) == [1, 0]
    assert placed(ShareRequest(cores=10, gpus=("GPU-00000001-aaaa",)), TWO) == [1]
    assert placed(ShareRequest(cores=10, gpus=("GPU-00000001",)), TWO) == [1]


def test_of_several_named_gpus_all_have_room_or_none_is_taken() -> None:
    half_full = replace(TWO, shares=(share(gpu(1), cores=100),))
    assert "GPU 1 has only 0 % of its time" in refusal(
        ShareRequest(cores=10, gpus=("0", "1")), half_full
    )


def test_binpack_fills_the_fullest_gpu_that_has_room() -> None:
    used = replace(TWO, shares=(share(gpu(1), cores=50),))
    assert placed(ShareRequest(cores=50, memory_bytes=GIB), used) == [1]
    assert placed(ShareRequest(cores=51, memory_bytes=GIB), used) == [0]


def test_spread_takes_the_emptiest_gpu() -> None:
    used = replace(TWO, shares=(share(gpu(0), cores=50),))
    assert placed(ShareRequest(cores=10, placement=Order.SPREAD), used) == [1]


def pairs_by_nvlink() -> Snapshot:
    """0-1 and 2-3 are linked, the rest of the ways leads over the CPUs."""
    uuid = [gpu(i).uuid for i in range(4)]
    distance = [[0 if i // 2 == j // 2 else 50 for j in range(4)] for i in range(4)]
    return node(
        *(
            gpu(i, distances=tuple((uuid[j], distance[i][j]) for j in range(4) if j != i))
            for i in range(4)
        )
    )


def test_topology_puts_shares_of_one_request_on_gpus_near_each_other() -> None:
    request = ShareRequest(cores=10, count=2, placement=Order.TOPOLOGY)
    one_used = replace(pairs_by_nvlink(), shares=(share(gpu(0), cores=95),))
    assert placed(request, one_used) == [2, 3]


def test_topology_breaks_no_whole_group_for_a_single_share() -> None:
    request = ShareRequest(cores=50, placement=Order.TOPOLOGY)
    one_full = replace(pairs_by_nvlink(), shares=(share(gpu(2), cores=100),))
    assert placed(request, one_full) == [3]


def test_several_shares_without_names_go_to_gpus_of_their_own() -> None:
    assert placed(ShareRequest(cores=10, count=2), TWO) == [0, 1]
    assert "no room for 3 shares" in refusal(ShareRequest(cores=10, count=3), TWO)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (ShareRequest(cores=101), "101 cores cannot be"),
        (ShareRequest(cores=-1), "-1 cores cannot be"),
        (ShareRequest(cores=10, memory_bytes=0), "0 bytes of memory are too little"),
        (ShareRequest(), "cores, memory or both"),
        (ShareRequest(cores=0), "say how much memory"),
        (ShareRequest(cores=10, gpus=("2",)), "There is no GPU '2' here; those here are: 0 (GPU-"),
        (ShareRequest(cores=10, gpus=("GPU-x",)), "There is no GPU 'GPU-x' here"),
        (ShareRequest(cores=10, gpus=("GPU-",)), "There is more than one GPU 'GPU-' here"),
        (ShareRequest(cores=10, gpus=("0", "GPU-00000000")), "GPU 0 is named twice"),
        (ShareRequest(memory_bytes=81 * GIB), "GPU 0 has 80 GiB in all"),
        (ShareRequest(memory_bytes=81 * GIB, gpus=("0",)), "GPU 0 has 80 GiB in all"),
        (ShareRequest(cores=10, weight=0), "A weight of 0 cannot be"),
    ],
)
def test_a_request_that_can_never_be_met_is_told_why(request_: ShareRequest, sentence: str) -> None:
    with pytest.raises(RequestError) as caught:
        allocate(request_, TWO, DEFAULTS)
    assert sentence in str(caught.value)


def test_a_node_without_gpus_says_what_discovery_saw() -> None:
    blind = Snapshot(problem="No GPU can be seen: there is no driver.")
    assert refusal(ShareRequest(cores=10), blind) == blind.problem


def test_an_unhealthy_gpu_gets_no_share() -> None:
    sick = replace(gpu(0), health=Health(HealthState.UNHEALTHY, "NVML did not answer"))
    assert placed(ShareRequest(cores=10), node(sick, gpu(1))) == [1]
    assert "GPU 0 is unhealthy (NVML did not answer)" in refusal(
        ShareRequest(cores=10, gpus=("0",)), node(sick, gpu(1))
    )


def test_a_resize_counts_the_others_and_not_itself() -> None:
    mine, other = share(gpu(), cores=60, gib=40), share(gpu(), cores=20, gib=20, id="two")
    busy = node(gpu(), shares=(mine, other))
    assert resize(mine, 80, None, busy, DEFAULTS).cores == 80
    assert resize(mine, None, 60 * GIB, busy, DEFAULTS).memory_bytes == 60 * GIB
    with pytest.raises(AllocationError, match="80 % of its time"):
        resize(mine, 81, None, busy, DEFAULTS)
