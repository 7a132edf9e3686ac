"""What has to be written so that the cluster has the slices it should have."""

import copy

from gpuslice_plugin.api import Object
from gpuslice_plugin.dra.layout import PublishedSlice
from gpuslice_plugin.dra.plan import Plan, plan

A = PublishedSlice("00000-a", {"sharedCounters": [{"name": "gpu-0"}]})
B = PublishedSlice("00001-b", {"devices": [{"name": "gpu-0"}]})
C = PublishedSlice("00002-c", {"devices": [{"name": "gpu-1"}]})
TAINT = {"key": "k", "effect": "NoSchedule"}


def written(wanted: list[PublishedSlice], there: list[Object]) -> list[Object]:
    """What is there once the plan was carried out."""
    steps = plan(wanted, there, "node-a", "uid")
    gone = {one["metadata"]["name"] for one in (*steps.delete, *steps.update)}
    kept = [one for one in there if one["metadata"]["name"] not in gone]
    return copy.deepcopy([*kept, *steps.update, *steps.create])


def generations(there: list[Object]) -> set[int]:
    return {one["spec"]["pool"]["generation"] for one in there}


def test_a_first_publication_creates_all_slices_of_one_generation() -> None:
    steps = plan([A, B], [], "node-a", "uid")
    assert [one["metadata"]["name"] for one in steps.create] == ["00000-a", "00001-b"]
    for one in steps.create:
        assert one["spec"]["pool"] == {"name": "node-a", "generation": 1, "resourceSliceCount": 2}
        assert one["spec"]["nodeName"] == "node-a"
        assert one["metadata"]["ownerReferences"][0]["uid"] == "uid"


def test_at_rest_nothing_is_written() -> None:
    there = written([A, B], [])
    assert plan([A, B], there, "node-a", "uid") == Plan()


def test_a_change_of_one_gpu_touches_one_slice_and_leaves_the_generation() -> None:
    there = written([A, B, C], [])
    sick = PublishedSlice(C.name, {"devices": [{"name": "gpu-1", "taints": [TAINT]}]})
    steps = plan([A, B, sick], there, "node-a", "uid")
    assert [one["metadata"]["name"] for one in steps.update] == [C.name]
    assert not steps.create and not steps.delete
    assert steps.update[0]["spec"]["pool"]["generation"] == 1


def test_a_gpu_more_or_less_raises_the_generation_of_all() -> None:
    there = written([A, B], [])
    more = written([A, B, C], there)
    assert generations(more) == {2}
    assert {one["spec"]["pool"]["resourceSliceCount"] for one in more} == {3}
    less = written([A, B], more)
    assert generations(less) == {3}
    assert len(less) == 2


def test_one_slice_that_somebody_deleted_comes_back_in_a_new_generation() -> None:
    there = written([A, B, C], [])
    back = written([A, B, C], there[1:])
    assert generations(back) == {2}
    assert plan([A, B, C], back, "node-a", "uid") == Plan()


def test_what_somebody_changed_is_put_right() -> None:
    there = written([A, B], [])
    there[1]["spec"]["devices"] = [{"name": "gpu-9"}]
    (update,) = plan([A, B], there, "node-a", "uid").update
    assert update["spec"]["devices"] == [{"name": "gpu-0"}]


def test_a_taint_that_stays_keeps_its_time_and_is_no_difference() -> None:
    sick = PublishedSlice(B.name, {"devices": [{"name": "gpu-0", "taints": [TAINT]}]})
    there = written([A, sick], [])
    there[1]["spec"]["devices"][0]["taints"][0]["timeAdded"] = "2026-01-01T00:00:00Z"
    assert plan([A, sick], there, "node-a", "uid") == Plan()
    renamed = {"name": "gpu-0", "taints": [TAINT], "attributes": {"type": {"string": "gpu"}}}
    (update,) = plan(
        [A, PublishedSlice(B.name, {"devices": [renamed]})], there, "node-a", "uid"
    ).update
    (taint,) = update["spec"]["devices"][0]["taints"]
    assert taint["timeAdded"] == "2026-01-01T00:00:00Z"
    assert "timeAdded" not in TAINT


def test_an_older_pool_of_another_name_is_replaced() -> None:
    there = written([A, B], [])
    for one in there:
        one["spec"]["pool"]["name"] = "before"
    assert generations(written([A, B], there)) == {2}
