"""What a claim's status says of its devices, for people and for controllers: pure.

One entry a device, with one condition and some data: far below the API's 8 conditions and 10 KiB.
"""

from collections.abc import Mapping

from gpuslice_agent.model import Gpu, HealthState, Share
from gpuslice_plugin.api import Object, part, parts
from gpuslice_plugin.dra.claims import Claim, Result, cdi_name
from gpuslice_plugin.dra.names import DRIVER

READY = "Ready"


def status(
    claim: Claim, document: Object, gpus: Mapping[str, Gpu], shares: Mapping[str, Share], now: str
) -> Object:
    """To be applied: this driver's devices. `gpus` by device name, `shares` by CDI device."""
    before = {
        (one["device"], one.get("shareID") or ""): one
        for one in parts(part(document, "status"), "devices")
        if one.get("driver") == DRIVER
    }
    return {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": {"name": claim.reference.name, "uid": claim.reference.uid},
        "status": {
            "devices": [
                _device(
                    result,
                    gpus[result.device],
                    shares.get(cdi_name(claim.reference.uid, result.position)),
                    before.get((result.device, result.share_id), {}),
                    now,
                )
                for result in claim.results
            ]
        },
    }


def is_there(document: Object, wanted: Object) -> bool:
    """Nothing would change: then nothing is written."""
    there = [
        one for one in parts(part(document, "status"), "devices") if one.get("driver") == DRIVER
    ]
    return bool(there == wanted["status"]["devices"])


def _device(result: Result, gpu: Gpu, share: Share | None, before: Object, now: str) -> Object:
    identity = {"driver": DRIVER, "pool": result.pool, "device": result.device}
    if result.share_id:
        identity["shareID"] = result.share_id
    condition = _condition(gpu)
    nothing: Object = {}
    old = next((one for one in parts(before, "conditions") if one["type"] == READY), nothing)
    is_same = all(old.get(name) == value for name, value in condition.items())
    time = old["lastTransitionTime"] if is_same else now
    data: Object = {"uuid": gpu.uuid, "product": gpu.name}
    if share is not None:
        limits = share.limits
        data |= {"share": share.id, "cores": limits.cores, "memoryBytes": limits.memory_bytes}
        data |= {"policy": limits.policy.value, "priority": limits.priority.value}
        if share.mig is not None:
            data |= {"migDevice": share.mig.uuid, "migProfile": share.mig.name}
    return {
        **identity,
        "conditions": [{**condition, "lastTransitionTime": time}],
        "data": data,
    }


def _condition(gpu: Gpu) -> Object:
    if gpu.health.state is HealthState.UNHEALTHY:
        message = gpu.health.reason[:1000] or "no reason known"
        return {"type": READY, "status": "False", "reason": "Unhealthy", "message": message}
    return {"type": READY, "status": "True", "reason": "Prepared", "message": ""}
