"""Kubernetes quantities: 30, 500m, 20Gi, 1e3. Exact, whatever the size."""

import re
from fractions import Fraction
from math import ceil

BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60}
DECIMAL = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
}
SHAPE = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)")


def parse(text: str | int) -> int:
    """The whole number, rounded up as Kubernetes rounds; ValueError: no quantity."""
    match = SHAPE.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity like 30, 500m or 20Gi")
    number, exponent, suffix = Fraction(match[1]), match[2], match[3] or ""
    if exponent is not None:
        return ceil(number * Fraction(10) ** int(exponent))
    return ceil(number * (BINARY.get(suffix) or DECIMAL[suffix]))


def binary(count: int) -> str:
    """As the API server writes a quantity of bytes: the largest unit without a fraction."""
    for suffix, unit in reversed(BINARY.items()):
        if count and count % unit == 0:
            return f"{count // unit}{suffix}"
    return str(count)
