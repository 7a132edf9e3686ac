"""The names of others, in their units."""

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from gpuslice_agent.model import Limits, Owner, Snapshot

from .nodes import GIB, full, written


def values(snapshot: Snapshot, name: str, **labels: str) -> list[float]:
    """Of all series that have these labels; an empty one is one that is not there."""
    return [
        sample.value
        for family in text_string_to_metric_families(written(snapshot, compatibility="dcgm,hami"))
        for sample in family.samples
        if sample.name.removesuffix("_total") == name
        and all(sample.labels.get(key, "") == value for key, value in labels.items())
    ]


NODE = full(1, 2)
(CARD,) = NODE.gpus


def test_dcgms_units_are_mib_percent_mhz_and_mj() -> None:
    expected = {
        "DCGM_FI_DEV_FB_USED": 5 * 1024,
        "DCGM_FI_DEV_FB_FREE": 75 * 1024,
        "DCGM_FI_DEV_GPU_UTIL": 40,
        "DCGM_FI_DEV_MEM_COPY_UTIL": 25,
        "DCGM_FI_DEV_SM_CLOCK": 1410,
        "DCGM_FI_DEV_MEM_CLOCK": 1593,
        "DCGM_FI_DEV_GPU_TEMP": 40,
        "DCGM_FI_DEV_POWER_USAGE": 123.4,
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 1_234_500,
        "DCGM_FI_DEV_XID_ERRORS": 119,
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.4,
    }
    for name, value in expected.items():
        assert values(NODE, name, UUID=CARD.uuid, gpu="0", pod="") == [value], name


def test_a_container_has_what_it_uses_of_a_shared_gpu() -> None:
    assert values(NODE, "DCGM_FI_DEV_FB_USED", pod="chat-1", container="main") == [512]
    assert values(NODE, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", pod="chat-1") == [0.01]
    assert values(NODE, "DCGM_FI_DEV_GPU_UTIL", pod="chat-1") == [1]
    assert values(NODE, "DCGM_FI_DEV_GPU_TEMP", pod="chat-1") == []


def test_two_shares_of_one_container_are_one_series_for_dcgm_and_two_for_hami() -> None:
    one, other = NODE.shares
    both = replace(NODE, shares=(one, replace(other, owner=one.owner)))
    assert values(both, "DCGM_FI_DEV_FB_USED", pod="chat-0") == [1024]
    used = "hami_vgpu_memory_used_bytes"
    assert [values(both, used, pod="chat-0", vdevice_index=i) for i in ("0", "1")] == [
        [GIB // 2]
    ] * 2


def test_a_pod_that_has_the_gpu_to_itself_is_on_every_series_of_it() -> None:
    owner = Owner("team/train", namespace="team", pod="train", container="main")
    whole = replace(NODE.shares[0], owner=owner, limits=Limits(100, 80 * GIB, whole=True))
    node = replace(NODE, shares=(whole,))
    for name in ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_TEMP"):
        assert len(values(node, name)) == len(values(node, name, pod="train")) == 1


def test_what_hami_calls_a_ratio_goes_to_100() -> None:
    assert values(NODE, "hami_host_gpu_utilization_ratio", device_uuid=CARD.uuid) == [40]
    assert values(NODE, "hami_container_device_utilization_ratio", pod="chat-0") == [1]
    assert values(NODE, "hami_gpu_core_allocated_ratio") == [2]
    assert values(NODE, "hami_vgpu_memory_limit_bytes", pod="chat-0", zone="vGPU") == [GIB]


def test_a_share_outside_pods_has_no_name_of_theirs() -> None:
    run = replace(NODE.shares[0], owner=Owner("python train.py", 7))
    node = replace(NODE, shares=(run,))
    assert len(values(node, "DCGM_FI_DEV_FB_USED")) == 1
    assert values(node, "hami_vgpu_memory_used_bytes") == []
