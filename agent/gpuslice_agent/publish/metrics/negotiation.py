"""Which form of the page a scraper wants, by its Accept and Accept-Encoding (RFC 9110)."""

from gpuslice_agent.publish.metrics.page import Format

# 0.0.1 differs from 1.0.0 in nothing that we write, and old Prometheus servers ask for it.
OPENMETRICS_VERSIONS = frozenset(("", "1.0.0", "0.0.1"))


def format_of(accept: str) -> Format:
    """OpenMetrics only for who prefers it to plain text; who takes anything gets plain text."""
    openmetrics = text = 0.0
    for media, parameters in _ranges(accept):
        weight = _weight(parameters)
        if media == "application/openmetrics-text":
            if parameters.get("version", "") in OPENMETRICS_VERSIONS:
                openmetrics = max(openmetrics, weight)
        elif media in ("text/plain", "text/*"):
            text = max(text, weight)
    return Format.OPENMETRICS if openmetrics > 0 and openmetrics >= text else Format.TEXT


def takes_gzip(accept_encoding: str) -> bool:
    weights = {coding: _weight(parameters) for coding, parameters in _ranges(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _ranges(header: str) -> list[tuple[str, dict[str, str]]]:
    ranges: list[tuple[str, dict[str, str]]] = []
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        pairs = (piece.partition("=") for piece in parameters)
        ranges.append((name, {key.strip(): value.strip(' "') for key, _, value in pairs}))
    return ranges


def _weight(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
