"""The node as tables for a terminal: the GPUs as nvidia-smi has them, then who has what."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gpuslice_agent.model import (
    Gpu,
    GpuPath,
    HealthState,
    Limits,
    OwnerKind,
    Process,
    Share,
    ShareState,
    Snapshot,
)

HEALTH_STYLES = {
    HealthState.HEALTHY: "green",
    HealthState.UNHEALTHY: "bold red",
    HealthState.UNKNOWN: "yellow",
}


def tables(snapshot: Snapshot) -> RenderableType:
    if snapshot.problem:
        return Text(snapshot.problem, style="bold red")
    parts: list[RenderableType] = [_heading(snapshot), _gpu_table(snapshot)]
    if snapshot.shares:
        parts.append(_share_table(snapshot))
    if any(_is_of_kubernetes(share) for share in snapshot.shares):
        parts.append(_pod_table(snapshot))
    if any(share.usage.processes for share in snapshot.shares):
        parts.append(_process_table(snapshot))
    if any(gpu.strangers for gpu in snapshot.gpus):
        parts.append(_stranger_table(snapshot))
    return Group(*parts)


def size(count: int) -> str:
    """Such as 8.0 GiB; whole bytes below 1 KiB."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def _heading(snapshot: Snapshot) -> Text:
    node = "simulated node" if snapshot.simulated else "node"
    return Text(
        f"gpuslice, {node}, driver {snapshot.driver_version}, CUDA {snapshot.cuda_version},"
        f" limits held by {snapshot.enforcement}"
    )


def _table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        # The long id of a claim's share folds, so that all of it can be read.
        table.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column != "Share",
            overflow="fold" if column == "Share" else "ellipsis",
        )
    return table


def _gpu_table(snapshot: Snapshot) -> Table:
    paths = any(gpu.path is not GpuPath.LOCAL for gpu in snapshot.gpus)
    table = _table(
        "GPUs", "GPU", "Name", "Health", "Temp", "Power", "Util", "Memory used", "Promised",
        *(("Path",) if paths else ()), right=("Temp", "Power", "Util", "Memory used", "Promised"),
    )  # fmt: skip
    for gpu in snapshot.gpus:
        reading, promised = gpu.reading, snapshot.promised(gpu.uuid)
        table.add_row(
            str(gpu.index),
            gpu.name,
            _health(gpu),
            _or_dash(reading.temperature_celsius, "{:.0f} °C"),
            _or_dash(reading.power_watts, "{:.0f} W"),
            _or_dash(reading.utilization_ratio, "{:.0%}"),
            f"{size(reading.memory_used_bytes)} / {size(gpu.memory_bytes)}",
            f"{promised.cores} %, {size(promised.memory_bytes)}",
            *((gpu.path,) if paths else ()),
        )
    return table


def _share_table(snapshot: Snapshot) -> Table:
    table = _table(
        "Shares", "Share", "GPU", "Owner", "GPU time", "Memory", "Policy", "Priority", "Paced by",
        "State", right=("GPU time", "Memory"),
    )  # fmt: skip
    for share in sorted(snapshot.shares, key=lambda share: share.created_at):
        limits, usage = share.limits, share.usage
        table.add_row(
            share.id,
            _gpu_index(share, snapshot),
            _cut(share.owner.name),
            _whole(limits) or f"{usage.busy_ratio:.0%} of {limits.cores} %",
            _whole(limits) or f"{size(usage.used_bytes)} / {size(limits.memory_bytes)}",
            limits.policy,
            limits.priority,
            usage.pacing,
            _state(share),
        )
    return table


def _whole(limits: Limits) -> str:
    """What nobody else has a part of; empty: a share."""
    if limits.mig is not None:
        return f"MIG {limits.mig.profile}"
    return "whole" if limits.whole else ""


def _pod_table(snapshot: Snapshot) -> Table:
    table = _table("Pods", "Share", "Namespace", "Pod", "Container", "Claim")
    for share in sorted(snapshot.shares, key=lambda share: share.created_at):
        owner = share.owner
        if _is_of_kubernetes(share):
            names = (owner.namespace, owner.pod, owner.container, owner.claim)
            table.add_row(share.id, *(_cut(name) or "-" for name in names))
    return table


def _process_table(snapshot: Snapshot) -> Table:
    table = _table(
        "Processes", "Share", "PID", "Name", "Memory", "GPU time", "Held back", "Launches",
        right=("PID", "Memory", "GPU time", "Held back", "Launches"),
    )  # fmt: skip
    for share in snapshot.shares:
        for process in share.usage.processes:
            table.add_row(
                share.id,
                _pid(process),
                _cut(process.name),
                size(process.memory_bytes),
                f"{process.busy_ns / 1e9:.1f} s",
                f"{process.throttled_ns / 1e9:.1f} s{' *' if process.waiting else ''}",
                str(process.launches),
            )
    return table


def _stranger_table(snapshot: Snapshot) -> Table:
    table = _table("Strangers: processes that hold no share", "GPU", "PID", "Name", "Memory")
    for gpu in snapshot.gpus:
        for process in gpu.strangers:
            table.add_row(
                str(gpu.index), str(process.pid), _cut(process.name), size(process.memory_bytes)
            )
    return table


def _is_of_kubernetes(share: Share) -> bool:
    return share.owner.kind is not OwnerKind.PROCESS


def _health(gpu: Gpu) -> Text:
    reason = f": {gpu.health.reason}" if gpu.health.reason else ""
    return Text(f"{gpu.health.state}{reason}", style=HEALTH_STYLES[gpu.health.state])


def _state(share: Share) -> Text:
    if share.state is ShareState.CORRUPT:
        return Text("corrupt", style="bold red")
    return Text("held back" if share.usage.throttled else share.state)


def _gpu_index(share: Share, snapshot: Snapshot) -> str:
    gpu = snapshot.gpu(share.gpu_uuid)
    return share.gpu_uuid if gpu is None else str(gpu.index)


def _pid(process: Process) -> str:
    return str(process.pid) if process.pid else f"({process.tenant_pid} in its namespace)"


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _cut(name: str, width: int = 32) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
