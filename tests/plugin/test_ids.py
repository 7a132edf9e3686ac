"""The ids that the kubelet counts."""

from gpuslice_plugin.device_plugin.ids import LONGEST, MESSAGE_BYTES, count, parse
from gpuslice_plugin.device_plugin.resources import Resource, devices
from gpuslice_plugin.device_plugin.service import device_list

from ..unit.nodes import gpu


def test_ids_are_unique_across_resources_and_say_their_numa_node() -> None:
    gpus = [gpu(0, numa_node=0), gpu(1, numa_node=1), gpu(2, numa_node=1)]
    slots, cores = count("slot", gpus, 10), count("core", gpus, 100)
    names = [str(one) for one in (*slots.ids, *cores.ids)]
    assert len(names) == len(set(names)) == 330
    assert sum(one.numa_node == 1 for one in cores.ids) == 200
    assert all(parse(name) in (*slots.ids, *cores.ids) for name in names)


def test_a_gpu_without_a_numa_node_gives_ids_without_one() -> None:
    (first, *_) = count("core", [gpu(0, numa_node=None)], 100).ids
    assert str(first) == "core-n-0"
    assert parse("core-n-0") == first
    assert parse("GPU-12345678") is None


def test_no_list_of_ids_is_longer_than_the_kubelet_reads() -> None:
    gpus = [gpu(index, numa_node=index % 2) for index in range(16)]
    counted = count("slot", gpus, 1_000_000)
    assert counted.left_out == 16_000_000 - len(counted.ids)
    message = device_list(devices(counted.ids))
    assert MESSAGE_BYTES * 0.7 < message.ByteSize() <= MESSAGE_BYTES
    assert max(len(str(one)) for one in counted.ids) <= LONGEST
    by_node = [sum(one.numa_node == node for one in counted.ids) for node in (0, 1)]
    assert by_node[0] == by_node[1]


def test_an_ordinary_node_leaves_no_id_out() -> None:
    gpus = [gpu(index) for index in range(16)]
    resource = Resource("slot", "nvidia.com/gpu", 100)
    assert count(resource.kind, gpus, resource.per_gpu).left_out == 0
