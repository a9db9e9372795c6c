"""The metrics, and what is told of them elsewhere: the dashboard asks for what is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from service import errors, metrics
from service.errors import ServiceError
from service.logs import QUIET
from service.registry import Opened
from service.settings import Settings
from tests.service.fakes import Client

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = json.loads((ROOT / "docs" / "dashboard.json").read_text(encoding="utf-8"))
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
OWN = {"counter": set(), "gauge": set(), "histogram": {"le"}}
FROM_PROMETHEUS = {"instance", "job"}

ours = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
SERIES = {
    family.name + suffix: set(metric._labelnames) | OWN[family.type] | FROM_PROMETHEUS
    for metric in ours
    for family in metric.describe()
    for suffix in SUFFIXES[family.type]
}
"""What can be asked for, with its labels."""


def expressions(node: Any) -> list[str]:
    """All queries of the dashboard."""
    if isinstance(node, dict):
        found = [value for key, value in node.items() if key in ("expr", "query") and isinstance(value, str)]
        return found + [each for value in node.values() for each in expressions(value)]
    return [each for value in node for each in expressions(value)] if isinstance(node, list) else []


ASKED = sorted({query for query in expressions(DASHBOARD) if "attentive_" in query})


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for query in ASKED for name in re.findall(r"attentive_\w+", query)}
    for metric in ours:
        [family] = metric.describe()
        assert any(family.name + suffix in shown for suffix in SUFFIXES[family.type]), family.name


@pytest.mark.parametrize("query", ASKED)
def test_the_dashboard_asks_for_what_is_exposed(query: str) -> None:
    names = set(re.findall(r"attentive_\w+", query))
    assert names
    assert names <= SERIES.keys()
    labels = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")}
    labels |= set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query))
    assert all(labels <= SERIES[name] for name in names)
    assert query.count("(") == query.count(")")


def test_probes_are_no_traffic() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    asked = re.findall(r"attentive_requests?_\w+(?:\{.*?\})?", " ".join(ASKED))
    alert = re.findall(r"attentive_requests_total\{.*?\}", page)
    assert len(alert) == 2
    for series in [*asked, *alert]:
        [left_out] = re.findall(r'route!~"([^"]*)"', series)
        assert set(left_out.split("|")) == QUIET


def test_panels_have_a_place_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_what_is_exposed_is_described(client: Client) -> None:
    client.translate(text="The cat.")
    text = client.request("GET", "/metrics").text
    exposed = set(re.findall(r"^# TYPE (attentive_\w+) ", text, re.MULTILINE))
    described = set(re.findall(r"^\| `(attentive_\w+)`", metrics.markdown_table(), re.MULTILINE))
    assert described == {name for name in exposed if not name.endswith("_created")}
    for name in ("attentive_ready 1.0", 'attentive_texts_total{model="echo",source="en",target="fr"}'):
        assert name in text


@pytest.mark.parametrize("processes", ["one", "several"])
def test_what_may_be_worth_an_alert_is_there_before_it_happens(processes: str, tmp_path: Path) -> None:
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)} if processes == "several" else {}
    program = "from service import metrics; print(metrics.exposition().decode())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | shared, capture_output=True, text=True, check=True
    )
    outcomes = {*get_args(get_type_hints(Opened)["outcome"])}
    assert set(re.findall(r'^attentive_reloads_total\{outcome="(\w+)"\} 0.0$', done.stdout, re.MULTILINE)) == outcomes
    codes = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)}
    assert set(re.findall(r'^attentive_refused_total\{code="(\w+)"\} 0.0$', done.stdout, re.MULTILINE)) == codes


def test_labels_are_of_known_kinds() -> None:
    known = {"route", "status", "code", "model", "source", "target", "outcome", "result"}
    assert {label for metric in ours for label in metric._labelnames} <= known


def test_memory_is_that_of_the_process(client: Client) -> None:
    client.request("GET", "/metrics")
    assert 1e7 < (REGISTRY.get_sample_value("attentive_resident_bytes") or 0) < 1e11


def test_the_page_for_operators_names_what_there_is() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\battentive_\w+", page))
    families = {family.name for metric in ours for family in metric.describe()}
    assert families <= {name.removesuffix("_total") for name in named}
    assert named <= SERIES.keys() | families
    settings = {f"ATTENTIVE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"ATTENTIVE_\w+", page)) <= settings
