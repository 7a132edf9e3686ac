"""deploy/monitoring: the rules hold, and whatever rules and dashboard ask for is on the page."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gpuslice_agent.publish.metrics.content import content
from gpuslice_agent.publish.metrics.page import Format, Page
from gpuslice_plugin.calls import Calls
from gpuslice_plugin.device_plugin.unfit import UnfitPods

from .nodes import full
from .prometheus import promtool

MONITORING = Path(__file__).parents[2] / "deploy/monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
VARIABLES: list[dict[str, Any]] = DASHBOARD["templating"]["list"]


def rules() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
    return spec


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """The labels of every name on the page, with the Kubernetes side's."""
    registry = CollectorRegistry()
    registry.register(UnfitPods())
    registry.register(Calls().histogram)
    snapshot = full(1, 1)
    page = Page(snapshot, content()(snapshot), registry).body(Format.TEXT, gzipped=False)
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def check_query(query: str, served: dict[str, set[str]]) -> None:
    """Every name is served, with every label that it is selected by."""
    names = re.findall(r"\b(gpuslice_\w+)(?:\{([^}]*)\})?", re.sub(r"\w+:[\w:]+", "", query))
    assert names or "up{" in query, query
    for name, selectors in names:
        assert name in served, query
        selected = set(re.findall(r"(\w+)\s*[!=]=?~?\s*\"", selectors))
        assert selected <= served[name] | {"instance", "job"}, query


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    checked = promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert checked.returncode == 0, checked.stderr


def test_records_and_alerts_come_out_as_they_should(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    cases = tmp_path / "test.yaml"
    cases.write_text(Path(__file__).with_name("rules_test.yaml").read_text())
    tested = promtool("test", "rules", str(cases))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_rules_ask_for_what_there_is(served: dict[str, set[str]]) -> None:
    for group in rules()["groups"]:
        for rule in group["rules"]:
            check_query(rule["expr"], served)


def test_every_alert_says_what_to_do() -> None:
    alerts = [rule for group in rules()["groups"] for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert set(alert["annotations"]) == {"summary", "description"}


def test_the_dashboard_asks_for_what_there_is(served: dict[str, set[str]]) -> None:
    assert len(QUERIES) > 20
    asked = [one["query"]["query"] for one in VARIABLES if one["type"] == "query"]
    for query in [*QUERIES, *asked]:
        check_query(query, served)


def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    queries = [query.replace("$__rate_interval", "1m") for query in QUERIES]
    records = [{"record": f"panel:{i}:query", "expr": query} for i, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stderr


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    """What its schema requires of a dashboard, a panel and a variable, as of schemaVersion 39."""
    assert DASHBOARD["schemaVersion"] == 39
    assert {"uid", "title", "time", "templating", "annotations"} <= set(DASHBOARD)
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    names = {variable["name"] for variable in VARIABLES}
    for panel in PANELS:
        assert panel["type"] in ("row", "stat", "table", "timeseries")
        targets = panel.get("targets", [])
        assert bool(targets) is (panel["type"] != "row")
        assert len({target["refId"] for target in targets}) == len(targets)
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(panel)))
        assert used <= names | {"__rate_interval"}, panel["title"]
    for one, other in itertools.combinations((panel["gridPos"] for panel in PANELS), 2):
        assert not overlap(one, other)


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    assert one["x"] + one["w"] <= 24
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or above)
