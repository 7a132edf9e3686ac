"""What a fault asks for, by the catalogue, the driver and what else happened. Pure."""

from dataclasses import dataclass

from gpuslice_agent.entities import Action
from gpuslice_agent.health import nvlink
from gpuslice_agent.health.catalogue import Catalogue, FaultClass
from gpuslice_agent.health.line import RECOVERY_ACTION_CHANGED, Kind, Line

# Values of NVML's field 230 and of Xid 154, by their number. A value that is not here is not None.
RECOVERY_ACTIONS = {
    0: Action.NONE,
    1: Action.RESET_GPU,
    2: Action.RESTART_BM,
    3: Action.DRAIN_P2P,
    4: Action.DRAIN_AND_RESET,
    5: Action.RECOVER_IMEX,
    6: Action.BUS_RESET,
    7: Action.RESTART_BM,
}
# Also where a program caused them: what they say is of the GPU, and the pid is whoever came along.
NEVER_BLAMED = frozenset({79, 119, 120, 154})
# A double-bit error beside these has been repaired, or not: the repair wants the GPU drained.
REPAIRS = frozenset({63, 64})
DOUBLE_BIT = 48


@dataclass(frozen=True, slots=True)
class Judgement:
    action: Action
    meaning: str
    kind: FaultClass = FaultClass.UNKNOWN
    name: str = ""
    echo: bool = False
    ends: int | None = None

    @property
    def blames(self) -> bool:
        """Whether it is the fault of the program that had it."""
        return self.kind is FaultClass.APPLICATION


def recovery_action(value: int) -> Action:
    """Of NVML's number. A number of a newer driver asks for something: it is not nothing."""
    return RECOVERY_ACTIONS.get(value, Action.CONTACT_SUPPORT)


def judge(line: Line, catalogue: Catalogue, driver_action: Action = Action.NONE) -> Judgement:
    if line.kind is Kind.INIT_FAILED:
        meaning = "The driver could not start the GPU."
        return Judgement(Action.RESET_GPU, meaning, FaultClass.FIRMWARE)
    if line.kind is Kind.MISMATCH:
        meaning = "The kernel module and the libraries of the driver are of different versions."
        return Judgement(Action.UPDATE_SWFW, meaning, FaultClass.DRIVER)
    if line.kind in (Kind.SXID, Kind.MORE):
        return _of_switch(line, catalogue)
    return _of_gpu(line, catalogue, driver_action)


def _of_switch(line: Line, catalogue: Catalogue) -> Judgement:
    entry = catalogue.sxid(line.code or 0)
    # What the switch prints knows the case; a table does not.
    fatal = entry.fatal if line.fatal is None else line.fatal
    if line.kind is Kind.MORE:
        fatal = False
    action = Action.RESET_GPU if fatal else Action.IGNORE
    return Judgement(action, entry.meaning, FaultClass.LINK)


def _of_gpu(line: Line, catalogue: Catalogue, driver_action: Action) -> Judgement:
    code = line.code or 0
    entry = catalogue.xid(code)
    action, meaning = entry.action, entry.meaning
    if code == RECOVERY_ACTION_CHANGED and line.recovery is not None:
        action = recovery_action(line.recovery)
    decoded = nvlink.decode(code, line.message, driver_action)
    if decoded is not None:
        action, meaning = decoded.action, f"{meaning} Decoded: {decoded.text}."
    if line.caused_by is not None:
        # The driver itself says what it follows.
        action, meaning = Action.IGNORE, f"{meaning} It follows Xid {line.caused_by}."
    return Judgement(
        action,
        meaning,
        entry.kind,
        entry.name,
        entry.echo or line.caused_by is not None,
        entry.ends,
    )
