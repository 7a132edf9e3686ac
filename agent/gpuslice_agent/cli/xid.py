"""`gpuslice xid`: what a code means, and what a line of the kernel's log says. Needs no GPU."""

import json
import sys
from pathlib import Path

import click

from gpuslice_agent.health import catalogue
from gpuslice_agent.health.catalogue import Catalogue
from gpuslice_agent.health.judge import NEVER_BLAMED, judge
from gpuslice_agent.health.line import Kind, Line, parse

FIRST_SXID = 10_000  # NVSwitches count from here on


@click.command()
@click.argument("code", type=click.IntRange(0, 999_999), required=False)
@click.option(
    "--explain",
    "text",
    metavar="LINE",
    help="A line as pasted from /dev/kmsg, dmesg, the journal or syslog; - reads it from stdin.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object; null for no fault.")
@click.option(
    "--catalogue",
    "override",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Laid over our catalogue, as the agent's setting fault_catalogue.",
)
def command(code: int | None, text: str | None, as_json: bool, override: Path | None) -> None:
    """Explains an Xid (or an NVSwitch's SXid), or a line of the kernel's log."""
    if (code is None) == (text is None):
        raise click.UsageError("Give either a code or --explain LINE.")
    known = catalogue.load(override)
    if code is not None:
        document: dict[str, object] | None = _of_code(code, known)
    else:
        document = _of_line(sys.stdin.read() if text == "-" else text, known)
    click.echo(json.dumps(document) if as_json else _for_people(document))


def _of_code(code: int, known: Catalogue) -> dict[str, object]:
    kind = Kind.SXID if code >= FIRST_SXID else Kind.XID
    judgement = judge(Line(kind, code=code), known)
    return {
        "kind": kind.value,
        "code": code,
        "name": judgement.name,
        "class": judgement.kind.value,
        "meaning": judgement.meaning,
        "action": judgement.action.value,
        "known": known.knows(code),
    }


def _of_line(text: str | None, known: Catalogue) -> dict[str, object] | None:
    line = parse(text or "")
    if line is None or not line.is_fault:
        return None
    judgement = judge(line, known)
    return {
        "kind": line.kind.value,
        "code": line.code,
        "name": judgement.name,
        "class": judgement.kind.value,
        "pci": line.pci or None,
        "gi": line.gi,
        "ci": line.ci,
        "pid": line.pid,
        "process": line.process,
        "blames_process": judgement.blames and line.code not in NEVER_BLAMED,
        "meaning": judgement.meaning,
        "action": judgement.action.value,
        "message": line.message,
    }


def _for_people(document: dict[str, object] | None) -> str:
    if document is None:
        return "This line tells of no fault of a GPU."
    name = {"xid": "Xid", "sxid": "SXid", "more": "SXid"}.get(str(document["kind"]), "")
    code = "" if document["code"] is None else f"{name} {document['code']}"
    title = " ".join(filter(None, (code, str(document["name"]))))
    shown = {
        "GPU": document.get("pci"),
        "GPU instance": document.get("gi"),
        "compute instance": document.get("ci"),
        "process": _process(document),
        "class": document["class"],
        "action": document["action"],
    }
    rows = [f"  {key}: {value}" for key, value in shown.items() if value is not None]
    return "\n".join((f"{title or document['kind']}: {document['meaning']}", *rows))


def _process(document: dict[str, object]) -> str | None:
    if document.get("pid") is None:
        return None
    return f"{document['pid']} ({document.get('process') or 'unknown'})"
