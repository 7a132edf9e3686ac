"""Objects of the API server, as it writes them."""

from typing import Any

Object = dict[str, Any]


def container(name: str, limits: dict[str, str] | None = None, **more: object) -> Object:
    return {"name": name, "resources": {"limits": limits or {}}, **more}


def pod(
    name: str = "pod",
    *,
    main: list[Object] | None = None,
    init: list[Object] | None = None,
    annotations: dict[str, str] | None = None,
    phase: str = "Pending",
    created: str = "2026-01-01T00:00:00Z",
    uid: str = "",
) -> Object:
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid or f"uid-of-{name}",
            "creationTimestamp": created,
            "annotations": annotations or {},
        },
        "spec": {
            "nodeName": "node",
            "initContainers": init or [],
            "containers": main or [container("main")],
        },
        "status": {"phase": phase},
    }
