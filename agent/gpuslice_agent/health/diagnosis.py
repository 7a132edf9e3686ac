"""Takes in what all sources say and keeps what is known of the node's health. No I/O, no clock."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace

from gpuslice_agent.entities import (
    NODE,
    Action,
    Effect,
    Entity,
    EntityKind,
    Incident,
    NodeHealth,
    XidCount,
    gpu_entity,
)
from gpuslice_agent.health import states
from gpuslice_agent.health.blame import Tenancies
from gpuslice_agent.health.catalogue import Catalogue
from gpuslice_agent.health.judge import (
    DOUBLE_BIT,
    NEVER_BLAMED,
    REPAIRS,
    Judgement,
    judge,
    recovery_action,
)
from gpuslice_agent.health.line import FALLEN_OFF_THE_BUS, RECOVERY_ACTION_CHANGED, Kind, Line
from gpuslice_agent.health.merge import IN_WORDS, KERNEL_LOG, NVML, OPERATIONAL, Merger, Sighting
from gpuslice_agent.health.states import Case, Ends, Finding
from gpuslice_agent.nvml.vitals import OPERATIONAL_FATAL, Notice

ECHO_SECONDS = 5.0  # within which a fault may follow from another of the same GPU
REPAIR_SECONDS = 60.0  # within which a double-bit error and its repair are one matter
TOLD_LATE_SECONDS = 60.0  # a tenant is not told of what happened longer ago
INCIDENTS_MAX = 64
JOINED_SECONDS = 60.0  # incidents of one share and code within this are one, with a count
COUNTS_MAX = 4096


class Diagnosis:
    def __init__(self, catalogue: Catalogue, may_evict: bool) -> None:
        self._catalogue = catalogue
        self._may_evict = may_evict
        self._merger = Merger()
        self.tenancies = Tenancies()
        self.cases: dict[Entity, Case] = {}
        self.counts: dict[tuple[Entity, int], XidCount] = {}
        self._incidents: deque[Incident] = deque(maxlen=INCIDENTS_MAX)
        self._last_fault: dict[str, dict[int, float]] = {}  # by GPU and code
        self._grave: dict[str, float] = {}  # by GPU: the last fault that took it away
        self._verified: dict[str, float] = {}

    # -- what sources say ---------------------------------------------------------------------

    def logged(self, line: Line, at: float, now: float) -> None:
        """A line of the kernel's log. `at` is when it was written."""
        if line.kind in (Kind.XID, Kind.SXID, Kind.RECOVERED) and line.code is not None:
            source = KERNEL_LOG if line.numbered else IN_WORDS
            self._merger.add(Sighting(source, at, line.pci, line.code, line.gi, line.ci, line))
        elif line.kind in (Kind.INIT_FAILED, Kind.MISMATCH):
            self._find_untold(line, at)

    def notified(self, pci: str, notice: Notice, at: float) -> None:
        """An event of NVML. Only Xids say what happened; others say that it is time to look."""
        if notice.code is not None:
            source = NVML if notice.event else OPERATIONAL
            self._merger.add(Sighting(source, at, pci, notice.code, notice.gi, notice.ci))
        elif notice.severity >= OPERATIONAL_FATAL:
            self._find(gpu_entity(pci), _operational(notice, at))

    def settle(self, now: float, partitioned: Set[str], silent: Set[str]) -> Set[str]:
        """Acts on the faults that are told completely. Returns the GPUs (PCI) that had one."""
        told = self._merger.ready(now, partitioned, silent)
        for sighting in told:
            self._act_on(sighting, now)
        return {sighting.pci for sighting in told}

    @property
    def waiting(self) -> bool:
        return self._merger.waiting

    def sensed(self, pci: str, present: Mapping[str, str], action: int | None, now: float) -> None:
        """A look at the GPU that was answered: `present` by name in states.SIGNS with what was
        read; `action` is the driver's recovery action, None where it has none."""
        entity = gpu_entity(pci)
        for cause, evidence in present.items():
            self._find(entity, states.sensed(cause, evidence, now))
        if action is not None:
            self._driver_asks(pci, action, f"recovery action {action}", now)
        asked = any(one.cause == "recovery action" for one in self._case(entity).findings)
        self._end(
            entity,
            lambda one: (
                (one.ends is Ends.SENSED and one.cause in states.SIGNS and one.cause not in present)
                or (one.ends is Ends.ANSWER and not asked and now - one.last > 1.0)
            ),
            now,
        )
        if self._case(entity).effect is not Effect.NO_EXECUTE:
            self._verified[pci] = now

    def unanswered(self, pci: str, cause: str, evidence: str, now: float) -> None:
        """A look that failed: `cause` is no answer, hung, unreadable, lost or missing."""
        self._find(gpu_entity(pci), states.sensed(cause, evidence, now))

    def reset_seen(self, pci: str, now: float) -> None:
        """The GPU, its driver or the machine began anew."""
        for entity in [one for one in self.cases if one.pci == pci]:
            self._end(entity, lambda one: one.ends is not Ends.SENSED, now)

    def restarted(self, now: float) -> None:
        """The machine began anew: what was sensed is sensed again, if it is still so."""
        for entity in tuple(self.cases):
            self._end(entity, lambda one: one.cause != "missing", now)

    def forget(self, pci: str) -> None:
        """Another GPU is in its place."""
        for entity in [one for one in self.cases if one.pci == pci]:
            del self.cases[entity]

    def age(self, now: float) -> None:
        for entity, case in tuple(self.cases.items()):
            # Node and switches cannot be asked: their time alone has to do.
            asked = entity.kind not in (EntityKind.NODE, EntityKind.NVSWITCH)
            verified = self._verified.get(entity.pci, 0.0) if asked else now
            aged = states.aged(case, now, verified)
            if aged.is_empty:
                del self.cases[entity]
            else:
                self.cases[entity] = aged

    def restore(self, cases: Iterable[Case], counts: Iterable[XidCount]) -> None:
        self.cases = {case.entity: case for case in cases}
        self.counts = {(count.entity, count.code): count for count in counts}

    def health(self, uuids: Mapping[str, str]) -> NodeHealth:
        """`uuids` by PCI address."""
        return NodeHealth(
            entities=tuple(
                states.health(case, uuids.get(entity.pci, ""), self._may_evict)
                for entity, case in sorted(self.cases.items(), key=lambda item: str(item[0]))
            ),
            counts=tuple(
                replace(count, uuid=uuids.get(count.entity.pci, ""))
                for count in self.counts.values()
            ),
            incidents=tuple(self._incidents),
        )

    # -- what follows -------------------------------------------------------------------------

    def _act_on(self, sighting: Sighting, now: float) -> None:
        pci, code, at = sighting.pci, sighting.code, sighting.at
        line = sighting.line or Line(Kind.XID, pci, code)
        if line.kind is Kind.RECOVERED:
            self._driver_asks(pci, 0, line.message, now)
            return
        judgement = judge(line, self._catalogue, self._asked(pci))
        echo = self._is_echo(pci, code, at, judgement)
        self._last_fault.setdefault(pci, {})[code] = at
        entity = self._entity(line, sighting)
        self._count(entity, code, at)
        if judgement.ends is not None:
            self._end(entity, lambda one: one.cause == f"xid {judgement.ends}", now)
        if echo:
            return
        if code == RECOVERY_ACTION_CHANGED:
            if line.recovery is not None:  # else whoever looks next will read it
                self._driver_asks(pci, line.recovery, line.message, now)
        elif judgement.action is Action.RESTART_APP:
            self._tell_tenant(entity, code, at, line, judgement, now)
        else:
            self._find_fault(entity, code, at, line, self._with_repair(pci, code, at, judgement))

    def _entity(self, line: Line, sighting: Sighting) -> Entity:
        if line.kind is Kind.SXID:
            return Entity(EntityKind.NVSWITCH, sighting.pci)
        # A GPU off the bus takes its instances along.
        if sighting.code == FALLEN_OFF_THE_BUS:
            return gpu_entity(sighting.pci)
        return gpu_entity(sighting.pci, sighting.gi, sighting.ci)

    def _is_echo(self, pci: str, code: int, at: float, judgement: Judgement) -> bool:
        """Whether it only follows another fault: one that the driver names, or one just before."""
        if judgement.blames and at - self._grave.get(pci, 0) < ECHO_SECONDS:
            return True
        others = (last for one, last in self._last_fault.get(pci, {}).items() if one != code)
        return judgement.echo and any(at - last < ECHO_SECONDS for last in others)

    def _with_repair(self, pci: str, code: int, at: float, judgement: Judgement) -> Judgement:
        faults = self._last_fault.get(pci, {})
        near = {one for one, last in faults.items() if abs(at - last) < REPAIR_SECONDS}
        if DOUBLE_BIT in near and not REPAIRS.isdisjoint(near) and code in {DOUBLE_BIT, *REPAIRS}:
            return replace(judgement, action=Action.DRAIN_AND_RESET)
        return judgement

    def _find_fault(
        self, entity: Entity, code: int, at: float, line: Line, judgement: Judgement
    ) -> None:
        consequence = states.CONSEQUENCES[judgement.action]
        ends = Ends.ANSWER if code == FALLEN_OFF_THE_BUS else states.ends_by(judgement.action)
        name = "sxid" if line.kind is Kind.SXID else "xid"
        if judgement.action in (Action.NONE, Action.IGNORE):
            return
        finding = Finding(
            f"{name} {code}", ends, judgement.action, consequence, judgement.meaning,
            line.message or f"NVML reported Xid {code}", at, at,
        )  # fmt: skip
        if consequence.effect is not Effect.NONE:
            self._grave[entity.pci] = at
        self._find(entity, finding)

    def _find_untold(self, line: Line, at: float) -> None:
        """A line without a number."""
        judgement = judge(line, self._catalogue)
        entity = NODE if line.kind is Kind.MISMATCH else gpu_entity(line.pci)
        finding = Finding(
            line.kind.value, Ends.ANSWER if entity is not NODE else Ends.TIME, judgement.action,
            states.CONSEQUENCES[judgement.action], judgement.meaning, line.message, at, at,
        )  # fmt: skip
        self._find(entity, finding)

    def _driver_asks(self, pci: str, value: int, evidence: str, now: float) -> None:
        entity = gpu_entity(pci)
        before = self._asked(pci)
        if value == 0:
            self._end(entity, lambda one: one.cause == "recovery action", now)
            if before.weight >= Action.RESET_GPU.weight:
                self.reset_seen(pci, now)
            return
        action = recovery_action(value)
        finding = Finding(
            "recovery action", Ends.SENSED, action, states.CONSEQUENCES[action],
            f"The driver asks for {action}.", evidence, now, now,
        )  # fmt: skip
        self._find(entity, finding)

    def _asked(self, pci: str) -> Action:
        findings = self._case(gpu_entity(pci)).findings
        asked = (one.action for one in findings if one.cause == "recovery action")
        return next(asked, Action.NONE)

    def _tell_tenant(
        self, entity: Entity, code: int, at: float, line: Line, judgement: Judgement, now: float
    ) -> None:
        tenancy = self.tenancies.of(line.pid, now)
        if tenancy is None or code in NEVER_BLAMED or now - at > TOLD_LATE_SECONDS:
            return
        for index, one in enumerate(self._incidents):
            if (one.share, one.code) == (tenancy.share, code) and at - one.at < JOINED_SECONDS:
                self._incidents[index] = replace(one, count=one.count + 1)
                return
        self._incidents.append(
            Incident(
                at, code, entity, judgement.action, judgement.blames,
                judgement.meaning, line.pid or 0, line.process or "", tenancy.share, tenancy.owner,
                pods=tenancy.pods,
            )
        )  # fmt: skip

    def _count(self, entity: Entity, code: int, at: float) -> None:
        before = self.counts.get((entity, code))
        if before is None and len(self.counts) >= COUNTS_MAX:
            return
        count = 1 if before is None else before.count + 1
        self.counts[entity, code] = XidCount(entity, code, count, at)

    def _case(self, entity: Entity) -> Case:
        return self.cases.get(entity) or Case(entity)

    def _find(self, entity: Entity, finding: Finding) -> None:
        self.cases[entity] = states.found(self._case(entity), finding)

    def _end(self, entity: Entity, over: Callable[[Finding], bool], now: float) -> None:
        if entity in self.cases:
            self.cases[entity] = states.ended(self.cases[entity], over, now)


def _operational(notice: Notice, at: float) -> Finding:
    action = Action.FOLLOW_DRIVER
    return Finding(
        "operational event", Ends.TIME, action, states.CONSEQUENCES[action],
        "The driver told of a fatal event that has no Xid.", f"sequence {notice.sequence}", at, at,
    )  # fmt: skip
