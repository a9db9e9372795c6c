import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from export.build import build
from loadtests import limit, offline, peers
from loadtests.engine_report import Case
from loadtests.limit import Rows
from loadtests.offline import CASES, PILOT, Plan, batches, bench, limits_of, main, measure, spread
from loadtests.peers import BATCH, Search, System, Translation
from models.checkpoint import Run
from tests.packages import sentences

app = typer.Typer()
app.command()(main)

Logged = list[tuple[str, list[int], Search]]


class Fake(System):
    """Repeats the source and writes down what it was asked: its name, the lengths of the sources, how."""

    def __init__(self, name: str, log: Logged, setup: str = "") -> None:
        super().__init__("fp32", 1, setup)
        self.name, self.log = name, log

    def translate(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        self.log.append((self.name, [len(source) for source in sources], search))
        return [Translation(list(source), None) for source in sources]


PLAN = Plan(
    rounds=2,
    cases=[Case("offline_unsorted"), Case("single_stream")],
    cores=[1],
    precisions=["fp32"],
    pytorch=BATCH,
    single=4,
    max_length=5,
)


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
    assert report.keys() == {"machine", "commit", "versions", "limit", "rows"}
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
        for row in rows:
            assert (row["share_of_limit"] is not None) == (row["system"] == "attentive")
    assert report["limit"].keys() == {run.config.name}
    floors = report["limit"][run.config.name]["int8"]
    assert floors.keys() == {"offline_sorted", "offline_sorted beam 4", "offline_unsorted", "single_stream"}
    assert min(floor["seconds_per_sentence"] for floor in floors.values()) > 0
    assert f"{run.config.name}: throughput" in result.output


def test_a_shape_is_measured_like_a_run(pairs: Path, invoke: Callable[..., Result], tmp_path: Path) -> None:
    shape = tmp_path / "tiny.toml"
    sizes = {"vocab_size": 320, "size": 32, "heads": 4, "feed_forward_size": 64, "encoder_layers": 1}
    shape.write_text("".join(f"{key} = {value}\n" for key, value in {**sizes, "decoder_layers": 1}.items()))
    scenario = "--scenario", "single_stream", "--precision", "fp32"
    result = invoke("--shape", shape, *scenario, "--pytorch", 0, pairs)
    assert result.exit_code == 0, result.output
    assert "pytorch 100.00%" in " ".join(result.output.split()), "it is checked all the same"
    rows = json.loads((tmp_path / "out" / "shapes.json").read_text())["rows"]
    assert {(row["model"], row["system"]) for row in rows} == {
        ("random-tiny", "attentive"),
        ("random-tiny", "ctranslate2"),
    }
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["shapes.json"]


def test_a_report_may_have_any_name(run: Run, pairs: Path, invoke: Callable[..., Result], tmp_path: Path) -> None:
    result = invoke("--run", run.path, "--scenario", "single_stream", "--name", "mine", pairs)
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.json"]


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
    assert invoke("--shape", "no_such", pairs).exit_code == 2
    assert invoke(pairs).exit_code == 2


@pytest.mark.parametrize(
    ("case", "asked"),
    [
        (Case("offline_sorted"), [[4, 3, 2, 1]]),
        (Case("offline_sorted", beam_size=4), [[4, 3, 2, 1]]),
        (Case("offline_unsorted"), [[2, 4, 1, 3]]),
        (Case("single_stream"), [[2], [4], [1], [3]]),
    ],
)
def test_a_scenario_is_an_order_and_a_grouping(case: Case, asked: list[list[int]]) -> None:
    log: Logged = []
    system, sources = Fake("one", log), [[0] * length for length in (2, 4, 1, 3)]
    sample = measure(system, case, PLAN.part(sources, case, system, len(sources)), 7)
    assert [lengths for _, lengths, _ in log] == asked
    assert {search for _, _, search in log} == {Search(case.beam_size, case.attention, 7)}
    assert (sample.sentences, sample.source_tokens, sample.tokens) == (4, 10, 10)
    assert len(sample.latencies) == (4 if case.scenario == "single_stream" else 0)


def test_systems_take_turns_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    log: Logged = []

    @contextmanager
    def fakes(*_: Any) -> Iterator[list[System]]:
        yield [Fake("ours", log), Fake("pytorch", log)]

    monkeypatch.setattr(offline, "systems", fakes)
    samples = bench(None, [[0]] * 3 * BATCH, PLAN, Console(quiet=True))  # type: ignore[arg-type]
    one_round = [("ours", 3 * BATCH), ("pytorch", BATCH), *[("ours", 1)] * 4, *[("pytorch", 1)] * 4]
    assert [(name, len(lengths)) for name, lengths, _ in log][-2 * len(one_round) :] == one_round + one_round[::-1]
    assert [len(measured.rounds) for measured in samples.values()] == [2] * 4


def test_the_rounds_measure_the_setup_that_was_fastest_in_the_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is the faster for many sentences, the other for one."""
    log: Logged = []

    class Timed(Fake):
        def timed(self, batches: Sequence[Sequence[Sequence[int]]], search: Search) -> peers.Timed:
            faster = (len(batches) > 1) == (self.setup == "one")
            return peers.Timed([1.0 if faster else 2.0] * len(batches), super().timed(batches, search).tokens)

    @contextmanager
    def fakes(*_: Any) -> Iterator[list[System]]:
        yield [Timed("peer", log, "one"), Timed("peer", log, "many"), Timed("ours", log)]

    monkeypatch.setattr(offline, "systems", fakes)
    samples = bench(None, [[0]] * 6 * BATCH, PLAN, Console(quiet=True))  # type: ignore[arg-type]
    found = {(key.case.scenario, key.system): (each.setup, each.tried) for key, each in samples.items()}
    assert found["offline_unsorted", "peer"] == ("many", {"one": PILOT / 2, "many": PILOT})
    assert found["single_stream", "peer"] == ("one", {"one": 1, "many": 0.5})
    assert found["offline_unsorted", "ours"] == ("", {}), "there is nothing to choose"
    assert {sample.seconds for measured in samples.values() for sample in measured.rounds} >= {1.0, 4.0}


def test_the_limit_is_of_as_many_rows_as_the_engine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[Rows]]] = []
    monkeypatch.setattr(limit, "measure", lambda package, precision, rows: asked.append((precision, rows)))
    monkeypatch.setattr(limit, "limit", lambda rates, rows: rows)
    cases = [Case("offline_sorted", attention=True), Case("offline_sorted", beam_size=4), Case("single_stream")]
    found: Mapping[Any, Any] = limits_of(
        None,  # type: ignore[arg-type]
        [[0]] * 3 + [[0] * 9] * 4,
        replace(PLAN, cases=cases),
    )
    expected = {
        ("fp32", Case("offline_sorted")): Rows(1024, BATCH, BATCH),
        ("fp32", Case("offline_sorted", beam_size=4)): Rows(1024, BATCH, 4 * BATCH),
        ("fp32", Case("single_stream")): Rows(9, 1, 1),
    }
    assert found == expected
    assert asked == [("fp32", list(expected.values()))]


def test_who_gets_fewer_sentences_gets_batches_like_the_others() -> None:
    sources = [[0] * (1 + i) for i in range(8 * BATCH)]
    every = [sources[::-1][start : start + BATCH] for start in range(0, len(sources), BATCH)]
    pytorch, ours, beam = Fake("pytorch", []), Fake("ours", []), Case("offline_sorted", beam_size=4)
    plan = replace(PLAN, pytorch=2 * BATCH)
    whole = len(sources)
    assert plan.part(sources, Case("offline_sorted"), pytorch, whole) == every[2] + every[6]
    assert plan.part(sources, Case("offline_sorted"), ours, whole) == every[1] + every[3] + every[5] + every[7]
    assert plan.part(sources, beam, ours, whole) == every[2] + every[6]
    assert plan.part(sources, beam, pytorch, whole) == every[4]
    assert plan.part(sources, Case("offline_unsorted"), ours, whole) == sources
    assert plan.part(sources, Case("offline_unsorted"), ours, BATCH) == sources[4 * BATCH : 5 * BATCH]


def test_a_set_smaller_than_a_batch_is_used_whole() -> None:
    assert batches([[1], [2]], 1) == [[1], [2]]


def test_a_part_of_the_set_is_spread_over_it() -> None:
    sources = [[i] for i in range(10)]
    assert spread(sources, 4) == [[0], [2], [5], [7]]
    assert spread(sources, 10) == spread(sources, 99) == sources
