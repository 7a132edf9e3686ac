"""Reading objects: what is absent and what is null are the same to the API."""

from typing import Any, cast

Object = dict[str, Any]


def part(thing: Object, name: str) -> Object:
    """The object at a field; empty where there is none."""
    return cast(Object, thing.get(name) or {})


def parts(thing: Object, name: str) -> list[Object]:
    """The list of objects at a field; empty where there is none."""
    return cast(list[Object], thing.get(name) or [])
