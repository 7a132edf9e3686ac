"""A real Prometheus scrapes a real server: HTTPS, a password, OpenMetrics, and our rules."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import yaml

from gpuslice_agent.publish.metrics import serve_metrics

from .nodes import GIB, full
from .prometheus import program
from .test_monitoring import rules
from .test_server import certificate, config, free_address

NODE = full(2, 3)


@contextmanager
def prometheus(folder: Path, target: dict[str, Any]) -> Generator[str]:
    """Its address. It ends with the block."""
    address = free_address()
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules()))
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "gpuslice", "honor_labels": True, **target}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    command = [program("prometheus"), f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield address
        finally:
            process.terminate()


def asked(address: str, query: str) -> list[dict[str, Any]]:
    """What it answers, as soon as it has something to say."""
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except OSError:
            found = []
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def test_a_real_prometheus_scrapes_every_series_and_evaluates_our_rules(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("scraper:" + bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode())
    files = certificate(tmp_path, "node")
    settings = config(
        tmp_path,
        metrics_basic_auth_file=str(users),
        metrics_compatibility="dcgm,hami",
        **files,
    )
    target = {
        "scheme": "https",
        "static_configs": [{"targets": [settings.metrics_address]}],
        "basic_auth": {"username": "scraper", "password": "open sesame"},
        "tls_config": {"ca_file": files["metrics_tls_certificate"]},
    }
    with serve_metrics(settings, lambda: NODE), prometheus(tmp_path, target) as address:
        (up,) = asked(address, "up == 1")
        assert up["metric"]["instance"] == settings.metrics_address
        (used,) = asked(address, 'gpuslice_share_memory_used_bytes{share="1-2"}')
        assert used["metric"]["pod"] == "chat-2"
        assert float(used["value"][1]) == GIB // 2
        recorded = asked(address, "namespace_pod_container:gpuslice_share_memory_used_bytes:sum")
        assert {one["metric"]["pod"] for one in recorded} == {"chat-0", "chat-1", "chat-2"}
        # OpenCost's question: what did each container of the GPU's time.
        opencost = asked(address, 'avg(DCGM_FI_PROF_GR_ENGINE_ACTIVE{container!=""}) by (pod)')
        assert len(opencost) == 3
        (alert,) = asked(address, 'ALERTS{alertname="GpuFaultsUnheard"}')
        assert alert["metric"]["source"] == "nvml"
