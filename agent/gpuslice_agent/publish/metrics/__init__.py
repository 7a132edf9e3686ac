"""/metrics from the current Snapshot: NVML is never asked for a scrape.

gpus, mig, shares and health say what is on the page by our names, dcgm and hami by those of others;
families and page write it, server hands it out.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from gpuslice_agent.config import Config
from gpuslice_agent.model import Snapshot
from gpuslice_agent.publish.metrics.content import content
from gpuslice_agent.publish.metrics.page import Pages
from gpuslice_agent.publish.metrics.server import Admission, served
from gpuslice_agent.publish.metrics.tls import fresh_context

__all__ = ["serve_metrics"]


@contextmanager
def serve_metrics(
    config: Config, snapshot: Callable[[], Snapshot], more: Iterable[Collector] = ()
) -> Generator[None]:
    """Serves /metrics in threads of its own, which only ever read one reference.

    `more` are collectors of others, safe to read from a thread.
    """
    if not config.metrics_address:
        yield
        return
    registry = CollectorRegistry()
    for collector in more:
        registry.register(collector)
    tls = fresh_context(config.metrics_tls_certificate, config.metrics_tls_key)
    pages = Pages(snapshot, content(config.metrics_compatibility, config.node_name), registry)
    with served(config.metrics_address, pages, _admission(config.metrics_basic_auth_file), tls):
        yield


def _admission(file: str) -> Admission | None:
    if not file:
        return None
    # Only here: few ask for it, and each agent would load it for nothing.
    from gpuslice_agent.publish.metrics.credentials import Credentials

    return Credentials(Path(file))
