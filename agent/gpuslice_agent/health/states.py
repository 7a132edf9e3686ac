"""The state machine of one entity: a table says what a finding comes to, and how it ends. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gpuslice_agent.entities import (
    Action,
    Effect,
    Entity,
    EntityHealth,
    EntityState,
    heaviest,
)

FIRST_WATCH_SECONDS = 10.0
LONGEST_WATCH_SECONDS = 3600.0
# A fault that comes again within a day of its end doubles the time that the next end is watched.
FORGIVEN_SECONDS = 86_400.0
SUSPECTED_SECONDS = 3600.0
REASONS_MAX = 8
EVIDENCE_MAX_CHARACTERS = 240  # of one line


@dataclass(frozen=True, slots=True)
class Consequence:
    state: EntityState
    effect: Effect


_NOTHING = Consequence(EntityState.HEALTHY, Effect.NONE)
_WATCHED = Consequence(EntityState.SUSPECT, Effect.NONE)
_KEPT_FREE = Consequence(EntityState.DEGRADED, Effect.NO_SCHEDULE)
_OUT = Consequence(EntityState.UNHEALTHY, Effect.NO_SCHEDULE)
_LOST = Consequence(EntityState.UNHEALTHY, Effect.NO_EXECUTE)

# What each action that is asked for makes of the entity.
CONSEQUENCES: Mapping[Action, Consequence] = {
    Action.NONE: _NOTHING,
    Action.IGNORE: _NOTHING,
    Action.RESTART_APP: _NOTHING,  # told to whoever runs there
    Action.FOLLOW_DRIVER: _WATCHED,
    Action.CHECK_UVM: _WATCHED,
    Action.UPDATE_SWFW: _WATCHED,
    Action.CHECK_MECHANICALS: _WATCHED,
    Action.CONTACT_SUPPORT: _WATCHED,
    Action.DRAIN_P2P: _KEPT_FREE,
    Action.RECOVER_IMEX: _KEPT_FREE,
    Action.RESET_GPU: _OUT,
    Action.DRAIN_AND_RESET: _OUT,
    Action.BUS_RESET: _OUT,
    Action.RESTART_VM: _OUT,
    Action.RESTART_BM: _LOST,
}


class Ends(StrEnum):
    """What ends a finding."""

    SENSED = "sensed"  # the next look that does not find it
    ANSWER = "answer"  # the GPU answers again, which a lost one does not without a reset
    RESET = "reset"  # a reset, or a start of driver or machine, seen after it
    TIME = "time"  # an hour without another


@dataclass(frozen=True, slots=True)
class Sign:
    """What a look at a GPU can find, and what it comes to."""

    sentence: str
    action: Action
    consequence: Consequence


# Polled state, by the name of its cause.
SIGNS: Mapping[str, Sign] = {
    "remap pending": Sign(
        "A memory row waits to be remapped, which a reset does.", Action.RESET_GPU, _KEPT_FREE
    ),
    "remap failed": Sign("A memory row could not be remapped.", Action.CONTACT_SUPPORT, _KEPT_FREE),
    "SRAM errors": Sign(
        "SRAM has had more errors than NVIDIA allows.", Action.CONTACT_SUPPORT, _KEPT_FREE
    ),
    "fabric": Sign("The NVLink fabric is not well.", Action.CONTACT_SUPPORT, _KEPT_FREE),
    "NVLink": Sign(
        "Fewer NVLinks are up than there were.",
        Action.CONTACT_SUPPORT,
        Consequence(EntityState.DEGRADED, Effect.NONE),
    ),
    "PCIe width": Sign(
        "The GPU uses fewer PCI Express lanes than it could.", Action.CHECK_MECHANICALS, _WATCHED
    ),
    "slowed": Sign(
        "The GPU slows itself down for heat or power.", Action.CHECK_MECHANICALS, _WATCHED
    ),
    "no answer": Sign("NVML did not answer in time.", Action.FOLLOW_DRIVER, _WATCHED),
    # Whoever hangs may come back: what runs there is never ended for it.
    "hung": Sign("The driver hangs in a call for the GPU.", Action.RESET_GPU, _OUT),
    "unreadable": Sign("NVML refuses to read the GPU.", Action.CONTACT_SUPPORT, _OUT),
    "lost": Sign("The GPU does not answer on the bus.", Action.RESTART_BM, _LOST),
    "missing": Sign("The GPU was here before and is not now.", Action.RESTART_BM, _LOST),
    "source": Sign("A source of faults cannot be read.", Action.NONE, _NOTHING),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why an entity is not well."""

    cause: str  # "xid 79", or a name in SIGNS
    ends: Ends
    action: Action
    consequence: Consequence
    sentence: str
    evidence: str = ""
    since: float = 0.0
    last: float = 0.0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One entity: what is the matter with it now, and what was until a moment ago."""

    entity: Entity
    findings: tuple[Finding, ...] = ()
    over: tuple[Finding, ...] = ()  # watched until `well_at`
    over_since: float = 0.0
    since: float = 0.0
    relapses: int = 0
    well_since: float = 0.0  # 0: it has not been ill yet

    @property
    def state(self) -> EntityState:
        now = heaviest((one.consequence.state for one in self.findings), EntityState.HEALTHY)
        mild = now in (EntityState.HEALTHY, EntityState.SUSPECT)
        return EntityState.RECOVERING if mild and self.over else now

    @property
    def effect(self) -> Effect:
        """Who is being watched stays closed, but nothing is ended any more."""
        least = Effect.NO_SCHEDULE if self.over else Effect.NONE
        return heaviest((one.consequence.effect for one in self.findings), least)

    @property
    def watch_seconds(self) -> float:
        return min(FIRST_WATCH_SECONDS * 2.0**self.relapses, LONGEST_WATCH_SECONDS)

    @property
    def is_empty(self) -> bool:
        return not (self.findings or self.over or self.relapses or self.well_since)


def sensed(cause: str, evidence: str, now: float) -> Finding:
    sign = SIGNS[cause]
    return Finding(
        cause, Ends.SENSED, sign.action, sign.consequence, sign.sentence, evidence, now, now
    )


def ends_by(action: Action) -> Ends:
    """Of a fault that was told once: nobody says when it is over, except a reset."""
    consequence = CONSEQUENCES[action]
    return Ends.TIME if consequence.effect is Effect.NONE else Ends.RESET


def found(case: Case, finding: Finding) -> Case:
    """Its time is the finding's. The same cause again is the same finding, as it was last said."""
    before = next((one for one in case.findings if one.cause == finding.cause), None)
    others = tuple(one for one in case.findings if one.cause != finding.cause)
    if before is not None:
        finding = replace(finding, since=before.since, count=before.count + finding.count)
    relapsed = before is None and _is_relapse(case, finding)
    after = replace(
        case,
        findings=(*others, finding),
        over=tuple(one for one in case.over if one.cause != finding.cause),
        relapses=case.relapses + relapsed,
    )
    return _dated(case, after, finding.last)


def _is_relapse(case: Case, finding: Finding) -> bool:
    if finding.consequence.effect is Effect.NONE:
        return False
    well_lately = case.well_since and finding.last - case.well_since < FORGIVEN_SECONDS
    return bool(case.over or well_lately)


def ended(case: Case, over: Callable[[Finding], bool], now: float) -> Case:
    """Ends the findings that are `over`. Those that kept work away are watched for a while."""
    gone = tuple(one for one in case.findings if over(one))
    if not gone:
        return case
    watched = tuple(one for one in gone if one.consequence.effect is not Effect.NONE)
    after = replace(
        case,
        findings=tuple(one for one in case.findings if one not in gone),
        over=(*(one for one in case.over if one.cause not in {w.cause for w in watched}), *watched),
        over_since=now if watched else case.over_since,
    )
    return _dated(case, after, now)


def aged(case: Case, now: float, verified_at: float) -> Case:
    """What time does. `verified_at` is when the entity was last seen to work."""
    case = ended(
        case, lambda one: one.ends is Ends.TIME and now - one.last > SUSPECTED_SECONDS, now
    )
    well = (
        case.over
        and all(one.consequence.effect is Effect.NONE for one in case.findings)
        and verified_at > case.over_since
        and now - case.over_since >= case.watch_seconds
    )
    if well:
        return _dated(case, replace(case, over=(), well_since=now), now)
    if case.well_since and not case.over and now - case.well_since > FORGIVEN_SECONDS:
        return replace(case, relapses=0, well_since=0.0)
    return case


def health(case: Case, uuid: str, may_evict: bool) -> EntityHealth:
    """For everybody outside. Without leave to evict, the strongest effect is NoSchedule."""
    present = sorted(case.findings, key=lambda one: one.consequence.state.weight, reverse=True)
    over = case.over
    effect = case.effect
    if effect is Effect.NO_EXECUTE and not may_evict:
        effect = Effect.NO_SCHEDULE
    return EntityHealth(
        entity=case.entity,
        uuid=uuid,
        state=case.state,
        effect=effect,
        action=heaviest((one.action for one in present), Action.NONE),
        since=case.since,
        reasons=(
            *(_reason(one) for one in present[:REASONS_MAX]),
            *(f"It is over and being watched: {one.sentence}" for one in over[:REASONS_MAX]),
        ),
        evidence=tuple(
            one.evidence[:EVIDENCE_MAX_CHARACTERS]
            for one in (*present, *over)[:REASONS_MAX]
            if one.evidence
        ),
    )


def _reason(finding: Finding) -> str:
    name = finding.cause.replace("xid", "Xid") if finding.cause.startswith(("xid", "sxid")) else ""
    times = f" ({finding.count} times)" if finding.count > 1 and name else ""
    return f"{name}{times}: {finding.sentence}" if name else finding.sentence


def _dated(before: Case, after: Case, now: float) -> Case:
    return after if after.state is before.state else replace(after, since=now)
