"""What pods ask for, written out for the scheduler by the policy in deploy/policies."""

from collections.abc import Iterator

import pytest

from gpuslice_plugin.device_plugin.asks import ask, parse, sums

from . import tenants
from .cluster import Cluster
from .policies import ANNOTATION, RIGHT, WRONG, applied, dry_run, made


@pytest.fixture(scope="module")
def writing(bare: Cluster) -> Iterator[Cluster]:
    yield from applied(bare, "", lambda: made(bare, "gpu=2")[0] == parse("gpu=2,gpucores=200"))


@pytest.mark.parametrize("text", [*RIGHT, *WRONG, "gpucores=30", "gpu=1"])
def test_what_is_asked_for_is_written_out_as_the_agent_reads_it(
    writing: Cluster, text: str
) -> None:
    written, annotation = made(writing, text)
    assert written == sums(parse(text))
    assert ask(written, annotation) == ask(parse(text))


def test_what_is_written_out_already_is_left_as_it_is(writing: Cluster) -> None:
    written, annotation = made(writing, "gpu=2,gpumem=6000", **{ANNOTATION: "gpu=2,gpumem=3000"})
    assert written == parse("gpu=2,gpumem=6000")
    assert annotation == "gpu=2,gpumem=3000"


def test_what_cannot_be_is_left_for_the_agent_to_explain(writing: Cluster) -> None:
    assert made(writing, "gpucores=150")[0] == parse("gpucores=150")


def test_hami_s_priority_becomes_its_variable(writing: Cluster) -> None:
    document = tenants.pod("dry", limits={"gpu": 1, "gpucores": 30, "priority": 0})
    (container,) = dry_run(writing, document)["spec"]["containers"]
    assert "nvidia.com/priority" not in container["resources"]["limits"]
    assert container["env"] == [{"name": "CUDA_TASK_PRIORITY", "value": "0"}]


def test_init_containers_are_written_out_too(writing: Cluster) -> None:
    document = tenants.pod("dry", limits={"gpu": 1})
    document["spec"]["initContainers"] = [tenants.container_of("first", limits={"gpu": 2})]
    answer = dry_run(writing, document)
    assert (
        answer["spec"]["initContainers"][0]["resources"]["limits"]["nvidia.com/gpucores"] == "200"
    )
    assert answer["metadata"]["annotations"] == {
        ANNOTATION: "gpu=1",
        "asked.gpuslice.io/first": "gpu=2",
    }


def test_a_pod_without_gpus_is_not_touched(writing: Cluster) -> None:
    assert "annotations" not in dry_run(writing, tenants.pod("dry"))["metadata"]
