"""What several sources tell of one fault is one fault, and counts are no sums."""

from gpuslice_agent.health.line import Kind, Line
from gpuslice_agent.health.merge import KERNEL_LOG, NVML, OPERATIONAL, Merger, Sighting

GPU = "0000:3b:00"
OTHER = "0000:9b:00"


def logged(at: float, code: int = 31, pci: str = GPU, gi: int | None = None) -> Sighting:
    return Sighting(KERNEL_LOG, at, pci, code, gi, line=Line(Kind.XID, pci, code, pid=7))


def notified(at: float, code: int = 31, gi: int | None = None, ci: int | None = None) -> Sighting:
    return Sighting(NVML, at, GPU, code, gi, ci)


def told(*sightings: Sighting, now: float = 100.0) -> tuple[Sighting, ...]:
    merger = Merger()
    for sighting in sightings:
        merger.add(sighting)
    return merger.ready(now, frozenset(), frozenset())


def test_two_sources_within_two_seconds_tell_one_fault() -> None:
    assert len(told(logged(1.0), notified(2.9))) == 1
    assert len(told(logged(1.0), notified(3.1))) == 2


def test_faults_of_other_gpus_or_codes_are_others() -> None:
    assert len(told(logged(1.0), logged(1.0, pci=OTHER), logged(1.0, code=13))) == 3


def test_the_count_is_the_most_that_any_source_told() -> None:
    burst = [logged(1 + i / 100) for i in range(5)]
    assert len(told(*burst, notified(1.0), notified(1.1), notified(1.2))) == 5
    assert len(told(notified(1.0), notified(1.1), *burst)) == 5
    both = (Sighting(OPERATIONAL, 1.0, GPU, 31), *burst, notified(1.0))
    assert len(told(*both)) == 5


def test_the_instance_is_nvmls_and_the_process_the_logs() -> None:
    (one,) = told(logged(1.0), notified(1.1, gi=5, ci=0))
    assert (one.gi, one.ci) == (5, 0)
    assert one.line is not None and one.line.pid == 7


def test_an_absent_instance_matches_any_but_two_that_differ_do_not_match() -> None:
    assert len(told(notified(1.0, gi=5), logged(1.0))) == 1
    assert len(told(notified(1.0, gi=5), logged(1.0, gi=6))) == 2


def test_on_a_gpu_with_instances_the_log_waits_a_moment_for_nvml() -> None:
    merger = Merger()
    merger.add(logged(10.0))
    assert merger.ready(10.1, {GPU}, frozenset()) == ()
    assert merger.waiting
    merger.add(notified(10.15, gi=5))
    (one,) = merger.ready(10.2, {GPU}, frozenset())
    assert one.gi == 5
    assert not merger.waiting


def test_nobody_waits_for_a_source_that_says_nothing() -> None:
    merger = Merger()
    merger.add(logged(10.0))
    assert len(merger.ready(10.0, {GPU}, {NVML})) == 1
    merger.add(notified(20.0))
    assert len(merger.ready(20.0, frozenset(), {KERNEL_LOG})) == 1


def test_a_fault_that_was_told_is_not_told_again_by_the_other_source() -> None:
    merger = Merger()
    merger.add(logged(10.0))
    assert len(merger.ready(10.0, frozenset(), frozenset())) == 1
    merger.add(notified(10.5))
    assert merger.ready(11.0, frozenset(), frozenset()) == ()


def test_a_storm_takes_time_in_proportion_and_no_memory_for_ever() -> None:
    merger = Merger()
    for i in range(20_000):
        merger.add(logged(i / 2000))
    assert len(merger.ready(20.0, frozenset(), frozenset())) == 20_000
    merger.ready(100.0, frozenset(), frozenset())
    assert merger._untold == {}  # pyright: ignore[reportPrivateUsage]
