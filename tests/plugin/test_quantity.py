"""Quantities as Kubernetes writes them."""

import pytest

from gpuslice_plugin.quantity import binary, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("30", 30),
        ("20Gi", 20 << 30),
        ("1.5Gi", 3 << 29),
        ("1500000000", 1500000000),
        ("1500M", 1500000000),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("500m", 1),
        ("1001m", 2),
        ("-1.5", -1),
        (7, 7),
    ],
)
def test_a_quantity_is_read_and_rounded_up(text: str | int, value: int) -> None:
    assert parse(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1GiB", "0x10", "1e", "1e3Gi", "--1", "nan"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse(text)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (1, "1"), (1024, "1Ki"), (80 << 30, "80Gi"), (3 << 29, "1536Mi")]
)
def test_bytes_are_written_in_the_largest_unit_without_a_fraction(count: int, text: str) -> None:
    assert binary(count) == text
    assert parse(text) == count
