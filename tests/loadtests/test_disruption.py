import asyncio
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from loadtests import disruption, server
from loadtests.disruption import main, stop, variant
from loadtests.disruption_report import judge, stop_line, table
from loadtests.server import started

SUPERVISED = Path(__file__).with_name("supervised.py")

app = typer.Typer()
app.command()(main)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its ``make serve`` is a supervisor with one worker, and a request takes as long as the file ``held`` says."""
    (tmp_path / "Makefile").write_text(f"serve:\n\t{sys.executable} {SUPERVISED} $(PORT) $$(cat held)\n")
    (tmp_path / "held").write_text("0.02")
    monkeypatch.setattr(server, "ROOT", tmp_path)
    monkeypatch.setattr(disruption, "REGULAR_S", 0.1)
    return tmp_path


@contextmanager
def running(checkout: Path, held: str):
    (checkout / "held").write_text(held)
    with started(checkout / "log") as server:
        yield server


def test_a_server_that_stops_well(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disruption, "REQUEST_SENTENCES", 2)
    with running(checkout, held="0.3") as server:
        found = asyncio.run(stop(server, 6))
    assert found["outcomes"] == {"right": 6}
    assert found["under_way"] == 6
    assert found["later"] == {"status": 503, "retry_after": "5"}
    assert found["exit_code"] == 0
    assert 0 < found["answered_s"] <= found["stopped_s"]


def test_a_worker_that_is_killed(checkout: Path) -> None:
    with running(checkout, held="0.2") as server:
        found = asyncio.run(variant(server, kills=2, count=4, seconds=0.4))
    assert found["workers"] == 1
    assert found["replies_per_s"] > 0
    assert found["memory_mb"] > 5
    assert len(found["kills"]) == 2
    for each in [*found["kills"], found["killed_again"]]:
        assert each["lost"] <= 8
        assert each["under_way"] <= 4
        assert each["lost_later"] == each["refused"] == 0
        assert 0 < each["spawned_s"] <= each["served_s"]
        assert each["longest_s"] > 0
    assert sum(each["lost"] for each in found["kills"]) > 0
    assert found["served_s"]["median"] <= found["served_s"]["worst"]


KILL = {"under_way": 4, "lost": 3, "lost_later": 0, "refused": 1, "spawned_s": 0.1, "served_s": 2.0, "longest_s": 2.1}


def report(**changes) -> dict:
    kill = KILL | {name: value for name, value in changes.items() if name in KILL}
    stopped = {
        "requests": 100,
        "sentences_each": 20,
        "under_way": 100,
        "outcomes": {"right": 100},
        "later": {"status": 503, "retry_after": "5"},
        "answered_s": 1.5,
        "stopped_s": 3.25,
        "exit_code": 0,
    }
    stopped |= {name: value for name, value in changes.items() if name in stopped}
    row = {
        "workers": 1,
        "replies_per_s": 123.4,
        "memory_mb": 345,
        "served_s": {"median": kill["served_s"], "worst": kill["served_s"]},
        "kills": [kill, kill],
        "killed_again": KILL | {"served_s": 9.0},
    }
    return {"stop": stopped, "variants": [row, row | {"workers": 2}], "clients": 16}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, None),
        ({"served_s": 3.0}, None),
        ({"served_s": 3.01}, "3.01 s"),
        ({"lost_later": 1}, "4 requests were lost"),
        ({"outcomes": {"right": 99, "wrong": 1}}, "'wrong': 1"),
        ({"under_way": 99}, "99 requests were under way"),
        ({"exit_code": 1}, "ended with 1"),
        ({"later": {"status": 503, "retry_after": None}}, "None"),
    ],
)
def test_what_must_hold(changes: dict, wrong: str | None) -> None:
    found = judge(report(**changes))
    assert found == [] if wrong is None else wrong in found[0]


def test_the_table_has_a_line_for_each_way() -> None:
    cells = [list(column.cells) for column in table(report()).columns]
    assert list(zip(*cells, strict=True)) == [
        (workers, "123", "345", "6 of 8", "2", "0.1 s", "2.0 s", "2.0 s", "9.0 s") for workers in ("1", "2")
    ]
    line = stop_line(report()["stop"])
    assert "100 requests of 20 sentences" in line
    assert "100 right answers" in line


def test_the_command_writes_a_report(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disruption, "REQUEST_SENTENCES", 2)
    options = ["--requests", "3", "--kills", "1", "--clients", "2", "--seconds", "1", "--output", str(checkout / "out")]
    (checkout / "held").write_text("0.2")
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    written = json.loads((checkout / "out" / "disruption.json").read_text())
    assert written["stop"]["outcomes"] == {"right": 3}
    assert [row["workers"] for row in written["variants"]] == [1, 1]
    assert written["machine"]["cores"]
