"""What becomes of a GPU, and of who runs on it, after each fault; and how it is well again."""

from dataclasses import replace

import pytest

from gpuslice_agent.entities import (
    Action,
    Effect,
    Entity,
    EntityHealth,
    EntityKind,
    EntityState,
    NodeHealth,
    gpu_entity,
)
from gpuslice_agent.health import catalogue
from gpuslice_agent.health.diagnosis import Diagnosis
from gpuslice_agent.health.line import parse
from gpuslice_agent.health.merge import NVML
from gpuslice_agent.model import Process, Share, Usage
from gpuslice_agent.nvml.vitals import XID, Notice

from ..nodes import gpu, share

PCI = "0000:3b:00"
NOBODY: frozenset[str] = frozenset()


class Patient:
    """One GPU's life, with a clock of its own."""

    def __init__(self, may_evict: bool = False) -> None:
        self.diagnosis = Diagnosis(catalogue.load(), may_evict)
        self.now = 1000.0

    def logs(self, text: str) -> None:
        line = parse(text)
        assert line is not None
        self.diagnosis.logged(line, self.now, self.now)
        self.diagnosis.settle(self.now, NOBODY, {NVML})

    def has_xid(self, code: int, words: str = "", pid: int | None = None) -> None:
        process = "" if pid is None else f"pid={pid}, name=train, "
        self.logs(f"NVRM: Xid (PCI:{PCI}): {code}, {process}{words}")

    def looks(self, *present: str, action: int | None = 0, after: float = 5.0) -> None:
        self.now += after
        self.diagnosis.sensed(PCI, dict.fromkeys(present, "seen"), action, self.now)
        self.diagnosis.age(self.now)

    @property
    def all(self) -> NodeHealth:
        return self.diagnosis.health({PCI: "GPU-0"})

    @property
    def health(self) -> EntityHealth:
        return self.all.of(gpu_entity(PCI))

    def state(self) -> EntityState:
        return self.health.state


# What the table makes of an Xid: the state, the effect and the action.
@pytest.mark.parametrize(
    ("code", "state", "effect", "action"),
    [
        (43, EntityState.HEALTHY, Effect.NONE, Action.NONE),
        (13, EntityState.HEALTHY, Effect.NONE, Action.NONE),
        (56, EntityState.SUSPECT, Effect.NONE, Action.CONTACT_SUPPORT),
        (95, EntityState.UNHEALTHY, Effect.NO_SCHEDULE, Action.RESET_GPU),
        (48, EntityState.UNHEALTHY, Effect.NO_SCHEDULE, Action.RESET_GPU),
        (151, EntityState.UNHEALTHY, Effect.NO_SCHEDULE, Action.RESTART_VM),
        (79, EntityState.UNHEALTHY, Effect.NO_EXECUTE, Action.RESTART_BM),
        (167, EntityState.SUSPECT, Effect.NONE, Action.FOLLOW_DRIVER),
        (999, EntityState.SUSPECT, Effect.NONE, Action.FOLLOW_DRIVER),
    ],
)
def test_an_xid_makes_of_a_gpu_what_the_table_says(
    code: int, state: EntityState, effect: Effect, action: Action
) -> None:
    patient = Patient(may_evict=True)
    patient.has_xid(code)
    found = patient.health
    assert (found.state, found.effect, found.action) == (state, effect, action)
    assert [(one.code, one.count) for one in patient.all.counts] == [(code, 1)]


def test_without_leave_to_evict_a_lost_gpu_only_keeps_others_away() -> None:
    patient = Patient(may_evict=False)
    patient.has_xid(79)
    assert patient.health.effect is Effect.NO_SCHEDULE


def test_a_lost_gpu_wants_the_machine_started_anew_whatever_the_driver_asks_for() -> None:
    patient = Patient()
    patient.has_xid(79)
    patient.looks(action=1)
    assert patient.health.action is Action.RESTART_BM


def test_an_unknown_code_takes_a_gpu_away_only_when_the_driver_does() -> None:
    patient = Patient()
    patient.has_xid(999)
    assert patient.health.effect is Effect.NONE
    patient.looks(action=1)
    assert (patient.health.effect, patient.health.action) == (Effect.NO_SCHEDULE, Action.RESET_GPU)


def test_a_recovery_action_of_a_newer_driver_is_not_taken_for_none() -> None:
    patient = Patient()
    patient.looks(action=42)
    assert patient.state() is EntityState.SUSPECT


@pytest.mark.parametrize("sign", ["remap pending", "remap failed", "SRAM errors"])
def test_memory_that_is_to_be_repaired_keeps_the_gpu_free(sign: str) -> None:
    patient = Patient()
    patient.looks(sign)
    assert (patient.health.state, patient.health.effect) == (
        EntityState.DEGRADED,
        Effect.NO_SCHEDULE,
    )


def test_a_fault_stays_until_a_reset_was_seen() -> None:
    patient = Patient()
    patient.has_xid(95)
    for _ in range(1000):
        patient.looks()
    assert patient.state() is EntityState.UNHEALTHY
    patient.diagnosis.reset_seen(PCI, patient.now)
    assert patient.state() is EntityState.RECOVERING
    assert patient.health.effect is Effect.NO_SCHEDULE


def test_a_driver_that_asked_for_a_reset_and_no_longer_does_has_seen_one() -> None:
    patient = Patient()
    patient.has_xid(95)
    patient.has_xid(154, "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)")
    assert patient.health.action is Action.RESET_GPU
    patient.logs(
        f"NVRM: Xid (PCI:{PCI}): 154, GPU recovery action changed from 0x1 (x) to 0x0 (None)"
    )
    assert patient.state() is EntityState.RECOVERING


def test_a_drained_link_is_no_reset() -> None:
    patient = Patient()
    patient.has_xid(95)
    patient.looks(action=3)
    patient.looks(action=0)
    assert patient.state() is EntityState.UNHEALTHY


def test_a_gpu_that_answers_after_it_was_lost_is_watched_and_then_healthy() -> None:
    patient = Patient()
    patient.has_xid(79)
    patient.looks(after=5)
    assert patient.state() is EntityState.RECOVERING
    assert "It is over and being watched" in patient.health.reasons[0]
    patient.looks(after=5)
    assert patient.state() is EntityState.RECOVERING
    patient.looks(after=6)
    assert (patient.health.state, patient.health.effect) == (EntityState.HEALTHY, Effect.NONE)


def test_a_gpu_that_is_not_seen_to_work_does_not_become_healthy_by_waiting() -> None:
    patient = Patient()
    patient.has_xid(95)
    patient.diagnosis.reset_seen(PCI, patient.now)
    patient.now += 10_000
    patient.diagnosis.age(patient.now)
    assert patient.state() is EntityState.RECOVERING


def test_each_relapse_doubles_the_time_that_the_next_recovery_is_watched() -> None:
    patient = Patient()
    watched: list[float] = []
    for _ in range(4):
        patient.looks("remap pending")
        patient.looks(after=1)
        begun = patient.now
        while patient.state() is not EntityState.HEALTHY:
            patient.looks(after=1)
        watched.append(patient.now - begun)
    assert watched == [10, 20, 40, 80]


def test_a_suspicion_ends_after_an_hour_without_another() -> None:
    patient = Patient()
    patient.has_xid(56)
    patient.looks(after=3599)
    assert patient.state() is EntityState.SUSPECT
    patient.looks(after=2)
    assert patient.state() is EntityState.HEALTHY


def test_a_machine_that_began_anew_has_reset_its_gpus() -> None:
    patient = Patient()
    patient.has_xid(79)
    patient.diagnosis.restarted(patient.now)
    assert patient.state() is EntityState.RECOVERING


def test_double_bit_errors_with_their_repair_want_the_gpu_drained() -> None:
    for codes in ((48, 63), (63, 48), (48, 64)):
        patient = Patient()
        for code in codes:
            patient.has_xid(code)
        assert patient.health.action is Action.DRAIN_AND_RESET


def test_what_follows_a_grave_fault_blames_nobody() -> None:
    patient = Patient()
    patient.diagnosis.tenancies.saw([owned(4711)], patient.now)
    patient.has_xid(95)
    patient.now += 1
    patient.has_xid(31, pid=4711)
    assert patient.all.incidents == ()
    assert {one.code for one in patient.all.counts} == {31, 95}


def test_a_fault_that_the_driver_names_as_anothers_consequence_is_only_counted() -> None:
    patient = Patient()
    patient.has_xid(95, "Ch 00000001 caused by previous Xid 48")
    assert patient.state() is EntityState.HEALTHY
    assert patient.all.counts[0].count == 1


def owned(pid: int) -> Share:
    usage = Usage(processes=(Process(pid=pid),))
    return replace(share(gpu(), id="tenant"), usage=usage)


def test_an_application_fault_is_the_tenants_and_changes_nothing_else() -> None:
    patient = Patient()
    patient.diagnosis.tenancies.saw([owned(4711)], patient.now)
    patient.now += 599  # the process may have ended long ago
    patient.has_xid(13, "Graphics Exception", pid=4711)
    (incident,) = patient.all.incidents
    assert (incident.share, incident.code, incident.blamed) == ("tenant", 13, True)
    assert patient.state() is EntityState.HEALTHY


def of_claim(*pods: str) -> Share:
    one = share(gpu(), id="claimed")
    return replace(one, owner=replace(one.owner, key="claim/1/gpu/0", pod_uids=pods))


def test_a_process_that_nobody_saw_before_its_fault_is_its_pods() -> None:
    patient = Patient()
    patient.diagnosis.tenancies.saw([of_claim("pod-1", "pod-2")], patient.now)
    patient.diagnosis.tenancies.found(4711, "pod-2", gpu().uuid, patient.now)
    patient.diagnosis.tenancies.found(4712, "stranger", gpu().uuid, patient.now)
    patient.has_xid(13, pid=4711)
    patient.has_xid(31, pid=4712)
    (incident,) = patient.all.incidents
    assert (incident.share, incident.pods) == ("claimed", ("pod-2",))


def test_of_a_process_whose_pod_is_not_known_all_pods_of_its_claim_are_told() -> None:
    patient = Patient()
    usage = Usage(processes=(Process(pid=4711),))
    claimed = replace(of_claim("pod-1", "pod-2"), usage=usage)
    patient.diagnosis.tenancies.saw([claimed], patient.now)
    patient.has_xid(13, pid=4711)
    (incident,) = patient.all.incidents
    assert incident.pods == ("pod-1", "pod-2")


def test_a_process_is_forgotten_ten_minutes_after_its_end() -> None:
    patient = Patient()
    patient.diagnosis.tenancies.saw([owned(4711)], patient.now)
    patient.now += 601
    patient.has_xid(13, pid=4711)
    assert patient.all.incidents == ()


@pytest.mark.parametrize("code", [79, 119, 120, 154])
def test_these_blame_no_process_whoever_came_along(code: int) -> None:
    patient = Patient()
    patient.diagnosis.tenancies.saw([owned(4711)], patient.now)
    patient.has_xid(code, pid=4711)
    assert patient.all.incidents == ()


def test_a_tenant_hit_by_a_memory_error_is_told_and_not_blamed() -> None:
    patient = Patient()
    patient.diagnosis.tenancies.saw([owned(4711)], patient.now)
    patient.has_xid(94, pid=4711)
    assert [one.blamed for one in patient.all.incidents] == [False]


def test_ten_thousand_faults_in_a_minute_are_few_words() -> None:
    patient = Patient()
    patient.diagnosis.tenancies.saw([owned(4711)], patient.now)
    for i in range(10_000):
        patient.now += 0.006
        patient.has_xid(13 if i % 2 else 62, pid=4711)
    assert len(patient.all.incidents) <= 2
    assert sum(one.count for one in patient.all.counts) == 10_000
    assert len(" ".join(patient.health.reasons).encode()) <= 1024


def test_a_fault_of_an_instance_is_that_instances_and_not_the_gpus() -> None:
    patient = Patient()
    patient.diagnosis.notified(PCI, Notice("GPU-0", XID, 95, gi=5, ci=0), patient.now)
    patient.diagnosis.settle(patient.now + 1, {PCI}, NOBODY)
    assert patient.state() is EntityState.HEALTHY
    assert patient.all.of(gpu_entity(PCI, 5, 0)).state is EntityState.UNHEALTHY


def test_a_fatal_fault_of_a_switch_takes_the_gpus_on_it_along() -> None:
    patient = Patient()
    patient.logs("nvidia-nvswitch0: SXid (PCI:0000:a9:00.0): 20034, Fatal, Link 30 LTSSM Fault Up")
    switch = patient.all.of(Entity(EntityKind.NVSWITCH, "0000:a9:00"))
    assert switch.state is EntityState.UNHEALTHY
    assert patient.all.of_gpu(PCI).effect is Effect.NO_SCHEDULE
    assert patient.state() is EntityState.HEALTHY


def test_a_switchs_fault_that_is_not_fatal_is_only_counted() -> None:
    patient = Patient()
    patient.logs("nvidia-nvswitch0: SXid (PCI:0000:a9:00.0): 12028, Non-fatal, Link 32 egress")
    assert patient.all.entities == ()
    assert patient.all.counts[0].code == 12028


def test_what_was_found_is_found_again_after_a_restart_of_the_agent() -> None:
    patient = Patient()
    patient.has_xid(95)
    after = Patient()
    after.diagnosis.restore(patient.diagnosis.cases.values(), patient.diagnosis.counts.values())
    assert after.all == patient.all
