"""A pod's object, and when each of its containers runs."""

from gpuslice_plugin.pods import Container, Role, moments, read

from .objects import container, pod


def test_init_containers_run_one_after_another_and_sidecars_from_their_turn_on() -> None:
    found = read(
        pod(
            init=[
                container("early", restartPolicy="Always"),
                container("one"),
                container("late", restartPolicy="Always"),
                container("two"),
            ],
            main=[container("main"), container("other")],
        )
    )
    assert moments(found) == {
        "early": (0, 1, 2),
        "one": (0,),
        "late": (1, 2),
        "two": (1,),
        "main": (2,),
        "other": (2,),
    }


def test_a_container_is_read_with_its_whole_resources_and_plain_variables() -> None:
    found = read(
        pod(
            main=[
                container(
                    "main",
                    {"nvidia.com/gpu": "2", "nvidia.com/gpumem": "3k", "cpu": "500m"},
                    env=[{"name": "A", "value": "1"}, {"name": "B"}],
                )
            ]
        )
    )
    assert found.containers == (
        Container(
            "main",
            Role.MAIN,
            (("nvidia.com/gpu", 2), ("nvidia.com/gpumem", 3000)),
            (("A", "1"),),
        ),
    )


def test_a_static_pod_has_the_uid_that_the_kubelet_knows() -> None:
    mirror = pod("static", annotations={"kubernetes.io/config.mirror": "hash"})
    assert read(mirror).uid == "hash"


def test_a_pod_is_over_when_its_phase_says_so() -> None:
    assert not read(pod(phase="Running")).terminal
    assert read(pod(phase="Failed")).terminal
    assert read(pod(phase="Succeeded")).terminal
