import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from export.build import build
from loadtests import offline
from loadtests.engine_report import Case
from loadtests.offline import CASES, Plan, bench, main, measure, spread
from loadtests.peers import Search, System, Translation
from models.checkpoint import Run
from tests.packages import sentences

app = typer.Typer()
app.command()(main)

Logged = list[tuple[str, list[int], Search]]


class Fake(System):
    """Repeats the source and writes down what it was asked: its name, the lengths of the sources, how."""

    def __init__(self, name: str, log: Logged) -> None:
        super().__init__("fp32", 1)
        self.name, self.log = name, log  # type: ignore[misc]

    def translate(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        self.log.append((self.name, [len(source) for source in sources], search))
        return [Translation(list(source), None) for source in sources]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "invented.en-fr.tsv"
    path.write_text("".join(f"{text}\t{text}\n" for text in sentences(40, seed=3)), encoding="utf-8")
    return path


@pytest.fixture
def invoke(tmp_path: Path) -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        small = ["--rounds", 2, "--sentences", 12, "--pytorch", 4, "--single", 2, "--cores", 1]
        return CliRunner().invoke(app, [str(a) for a in (*small, "--output", tmp_path / "out", *arguments)])

    return run


def test_the_report_has_every_system_in_every_case(
    run: Run, pairs: Path, invoke: Callable[..., Result], tmp_path: Path
) -> None:
    result = invoke("--run", run.path, pairs)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "engine.json").read_text())
    assert report.keys() == {"machine", "commit", "versions", "rows"}
    assert report["versions"]["ctranslate2"]
    peers = (
        {("ctranslate2", "fp32"), ("ctranslate2", "int8")} if run.config.model.architecture == "transformer" else set()
    )
    expected = {("attentive", "fp32"), ("attentive", "int8"), ("pytorch", "fp32")} | peers
    for case in CASES:
        rows = [
            row
            for row in report["rows"]
            if (row["scenario"], row["beam"], row["attention"]) == (case.scenario, case.beam_size, case.attention)
        ]
        assert {(row["system"], row["precision"]) for row in rows} == expected
        assert all(row["tokens_per_s"] > 0 and row["rounds"] == 2 for row in rows)
        assert {row["latency_p50_ms"] is None for row in rows} == {case.scenario != "single_stream"}
        assert {row["ratio_to_ctranslate2"] is None for row in rows if row["system"] == "attentive"} == {not peers}
    assert f"{run.config.name}: throughput" in result.output


def test_only_what_is_asked_for_is_measured(
    run: Run, pairs: Path, invoke: Callable[..., Result], tmp_path: Path
) -> None:
    result = invoke("--run", run.path, "--precision", "int8", "--scenario", "offline_unsorted", pairs)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out" / "engine.json").read_text())["rows"]
    assert {row["scenario"] for row in rows} == {"offline_unsorted"}
    assert {row["precision"] for row in rows if row["system"] != "pytorch"} == {"int8"}
    assert all(row["ratio_to_pytorch"] for row in rows)


def test_peers_that_translate_otherwise_are_not_timed(
    run: Run, pairs: Path, invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch gets other weights than were exported."""

    def altered(*arguments: Any) -> Any:
        model, package = build(*arguments)
        with torch.no_grad():
            model.output_bias.add_(torch.linspace(0, 3, len(model.output_bias)))
        return model, package

    monkeypatch.setattr(offline, "build", altered)
    result = invoke("--run", run.path, pairs)
    assert result.exit_code == 1
    assert "nothing is timed" in result.output
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_named(tmp_path: Path, run: Run, pairs: Path, invoke: Callable[..., Result]) -> None:
    assert invoke("--run", tmp_path / "nowhere", pairs).exit_code == 2
    assert invoke("--run", run.path, tmp_path / "unnamed.tsv").exit_code == 2
    assert invoke("--run", run.path, "--scenario", "offline_sorted", "--cores", 100_000, pairs).exit_code == 2
    assert invoke("--run", run.path, "--scenario", "no_such", pairs).exit_code == 2


@pytest.mark.parametrize(
    ("case", "asked"),
    [
        (Case("offline_sorted"), [[4, 3, 2, 1]]),
        (Case("offline_sorted", beam_size=4), [[4, 3, 2, 1]]),
        (Case("offline_unsorted", attention=True), [[2, 4, 1, 3]]),
        (Case("single_stream"), [[2], [4], [1], [3]]),
    ],
)
def test_a_scenario_is_an_order_and_a_grouping(case: Case, asked: list[list[int]]) -> None:
    log: Logged = []
    sample = measure(Fake("one", log), case, [[0] * length for length in (2, 4, 1, 3)], 7)
    assert [lengths for _, lengths, _ in log] == asked
    assert {search for _, _, search in log} == {Search(case.beam_size, case.attention, 7)}
    assert (sample.sentences, sample.tokens) == (4, 10)
    assert len(sample.latencies) == (4 if case.scenario == "single_stream" else 0)


def test_systems_take_turns_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    log: Logged = []

    @contextmanager
    def fakes(*_: Any) -> Iterator[list[System]]:
        yield [Fake("ours", log), Fake("pytorch", log)]

    monkeypatch.setattr(offline, "systems", fakes)
    cases = [Case("offline_unsorted"), Case("single_stream")]
    plan = Plan(rounds=2, cases=cases, cores=[1], precisions=["fp32"], pytorch=3, single=1, max_length=5)
    samples = bench(None, [[0]] * 6, plan, Console(quiet=True))  # type: ignore[arg-type]
    measured = [(name, len(lengths)) for name, lengths, _ in log if len(lengths) in (3, 6) or name == "ours"]
    one_round = [("ours", 6), ("pytorch", 3), ("ours", 1)]
    assert measured[-6:] == one_round + one_round[::-1]
    assert {key.system: [len(rounds) for rounds in setups.values()] for key, setups in samples.items()} == {
        "ours": [2],
        "pytorch": [2],
    }


def test_a_part_of_the_set_is_spread_over_it() -> None:
    sources = [[i] for i in range(10)]
    assert spread(sources, 4) == [[0], [2], [5], [7]]
    assert spread(sources, 10) == spread(sources, 99) == sources
