"""What the registers in the messages of NVLink's Xids come to: 74, and 144 to 150. Pure."""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from gpuslice_agent.entities import Action

_HEX = r"0x([0-9a-fA-F]{1,8})"
_REGISTERS = re.compile(
    rf"on link (\d{{1,3}})\({_HEX}(?:, {_HEX})?(?:, {_HEX})?(?:, {_HEX})?(?:, {_HEX})?"
)
_LINK5 = re.compile(
    r"([A-Z][A-Z0-9_]{1,30}(?: [A-Z][a-z]{1,20})?) {1,4}(Fatal|Nonfatal) {1,4}XC[01] {1,4}i[01]"
    rf" {{1,4}}Link (\d{{1,3}}) \({_HEX} {_HEX}"
)

FOLLOW_DRIVER_OR_APP = "FOLLOW_DRIVER_OR_APP"


@dataclass(frozen=True, slots=True)
class Decoded:
    action: Action
    text: str  # what was decoded, for people


# Xid 74 prints registers; by register (from 0) the bits and what one of them comes to. Heavier rows
# stand above. Bits in no row: to be reported.
_MAY_BREAK = "may be broken: look at its connectors, then run NVIDIA's field diagnostics"
_BITS: tuple[tuple[int, tuple[int, ...], Action, str], ...] = (
    (3, (18,), Action.RESET_GPU, "follows another fault, and the fabric has to be reset"),
    (0, (4, 5), Action.CONTACT_SUPPORT, "had a parity or ECC error"),
    (2, (0, 1, 2, 6), Action.CONTACT_SUPPORT, "had a parity or ECC error"),
    (4, (18, 19, 21, 22, 24, 25, 27, 28), Action.CONTACT_SUPPORT, "had a parity or ECC error"),
    (0, (8, 9, 12, 16, 17, 24, 28), Action.CHECK_MECHANICALS, _MAY_BREAK),
    (0, (21, 22), Action.CHECK_MECHANICALS, "has a weak signal"),
    (0, (27, 29), Action.CONTACT_SUPPORT, "had an error that matters if it comes again"),
    (
        2,
        (13, 16, 17, 18, 19),
        Action.CONTACT_SUPPORT,
        "had an error that matters if it comes again",
    ),
    (0, (1, 20), Action.CONTACT_SUPPORT, "had an error that most often follows another"),
    (3, (16, 17), Action.CONTACT_SUPPORT, "had an error that most often follows another"),
    (4, (20, 23, 26, 29), Action.IGNORE, "corrects errors at a high rate"),
    (0, (0, 23, 30), Action.IGNORE, "had an event without consequence"),
)


def decode(code: int, message: str, driver_action: Action) -> Decoded | None:
    """None: this code or this message has nothing to decode.

    `driver_action` is what the driver asks for now; some codes leave it to that.
    """
    if code == 74:
        return _decode_74(message)
    if 144 <= code <= 150:
        return _decode_link5(code, message, driver_action)
    return None


def _decode_74(message: str) -> Decoded | None:
    found = _REGISTERS.search(message)
    if found is None:
        return None
    link = found[1]
    registers = [int(text or "0", 16) for text in found.groups()[1:]]
    for register, bits, action, text in _BITS:
        if any(registers[register] >> bit & 1 for bit in bits):
            return Decoded(action, f"link {link} {text}")
    return Decoded(
        Action.CONTACT_SUPPORT, f"link {link} had an error that NVIDIA does not describe"
    )


@dataclass(frozen=True, slots=True)
class _Rule:
    code: int
    unit: str
    patterns: tuple[tuple[int, int], ...]  # mask and value; drivers before R575, and from there on
    statuses: tuple[int, ...]  # empty: any
    action: str
    severity: str

    def fits(self, code: int, info: int, status: int) -> bool:
        return (
            self.code == code
            and (not self.statuses or status in self.statuses)
            and any(info & mask == value for mask, value in self.patterns)
        )


def _decode_link5(code: int, message: str, driver_action: Action) -> Decoded | None:
    found = _LINK5.search(message)
    if found is None:
        return None
    info, status = int(found[4], 16), int(found[5], 16)
    rule = next((rule for rule in _rules() if rule.fits(code, info, status)), None)
    where = f"link {found[3]}, {found[1]}"
    if rule is None:
        return Decoded(Action.FOLLOW_DRIVER, f"{where}: not in NVIDIA's table")
    weight = {"fatal": "fatal", "link": "fatal for the link"}.get(rule.severity, "not fatal")
    return Decoded(_action(rule.action, driver_action), f"{where}: {weight}")


def _action(action: str, driver_action: Action) -> Action:
    if action != FOLLOW_DRIVER_OR_APP:
        return Action(action)
    return Action.RESTART_APP if driver_action is Action.NONE else driver_action


@cache
def _rules() -> tuple[_Rule, ...]:
    text = resources.files("gpuslice_agent.health").joinpath("nvlink5.txt").read_text()
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return tuple(
        _Rule(
            int(code),
            unit,
            (_pattern(before), _pattern(since)),
            () if status == "-" else tuple(int(one, 16) for one in status.split("|")),
            action,
            severity,
        )
        for code, unit, before, since, status, action, severity in rows
    )


def _pattern(bits: str) -> tuple[int, int]:
    mask = int("".join("0" if bit == "-" else "1" for bit in bits), 2)
    return mask, int(bits.replace("-", "0"), 2)
