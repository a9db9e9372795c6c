import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from export.package import Package
from loadtests import companions
from loadtests.companions import BEAM_SIZE, ONE_BEAM_IN, main
from service.engine import Job
from tests.packages import sentences

app = typer.Typer()
app.command()(main)

COUNT = 40


class Fake:
    """Repeats the source; in company one sentence that has a beam gets another token, or another score."""

    def __init__(self, odd: list[int], tokens: int, score: float) -> None:
        self.odd, self.tokens, self.score = odd, tokens, score
        self.alone: list[Job] = []
        self.load: list[Job] = []

    def submit(self, job: Job) -> Any:
        self.alone.append(job)
        return self._answer(job, 0, 0.0)

    def submit_all(self, jobs: Sequence[Job]) -> list[Any]:
        self.load += jobs
        return [self._answer(job, self.tokens, self.score) for job in jobs]

    def _answer(self, job: Job, token: int, score: float) -> Any:
        odd = list(job.source_ids) == self.odd
        ids = [*job.source_ids[:-1], *([token] if odd and token else [])]
        future: Future[Any] = Future()
        future.set_result([SimpleNamespace(token_ids=ids, score=-1.0 + (score if odd else 0.0))])
        return future


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "invented.en-fr.tsv"
    texts = zip(sentences(COUNT, seed=3), sentences(COUNT, seed=4), strict=True)
    path.write_text("".join(f"{first}\t{second}\n" for first, second in texts), encoding="utf-8")
    return path


def invoke(package: Package, pairs: Path, output: Path, *options: object) -> tuple[Result, dict[str, Any]]:
    arguments = ["--package", package.path, "--output", output, "--sentences", COUNT, *options, pairs]
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    return result, json.loads((output / "companions.json").read_text())


@pytest.mark.parametrize(
    ("token", "score", "differences", "other_tokens"),
    [(0, 0.0, 0, 0), (9, 0.0, 1, 1), (0, 2e-4, 1, 0), (0, 5e-5, 0, 0), (0, float("nan"), 1, 0)],
)
def test_differences_are_counted_and_shown(
    transformer_package: Package,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: int,
    score: float,
    differences: int,
    other_tokens: int,
) -> None:
    fakes: list[Fake] = []

    def compare(engine: Fake, chosen: Any, seed: int) -> Any:
        engine.odd = chosen[0].source_ids
        return original(engine, chosen, seed)  # type: ignore[arg-type]

    @contextmanager
    def running(*_: Any, **__: Any) -> Iterator[Fake]:
        fakes.append(Fake([], token, score))
        yield fakes[-1]

    original = companions.compare
    monkeypatch.setattr(companions, "compare", compare)
    monkeypatch.setattr(companions, "running", running)
    result, report = invoke(transformer_package, pairs, tmp_path)
    (row,) = report["rows"]
    assert result.exit_code == (1 if differences else 0), result.output
    assert (row["sentences"], row["with_beam"]) == (COUNT, COUNT // ONE_BEAM_IN)
    assert (row["differences"], row["other_tokens"]) == (differences, other_tokens)
    assert [each["beam_size"] for each in row["differing"]] == [BEAM_SIZE] * differences
    (fake,) = fakes
    assert all(each["text"] in result.output.replace("\n", "") for each in row["differing"])
    assert len(fake.alone) == COUNT
    assert len(fake.load) == COUNT + COUNT // 2
    assert fake.load[:COUNT] != fake.alone
    assert all(job in fake.load for job in fake.alone)
    assert {(job.beam_size, job.attention) for job in fake.load} >= {(1, True), (4, False), (4, True), (1, False)}


def test_a_real_engine_gives_the_same_in_any_company(package: Package, pairs: Path, tmp_path: Path) -> None:
    result, report = invoke(package, pairs, tmp_path)
    assert result.exit_code == 0, result.output
    (row,) = report["rows"]
    assert (row["model"], row["precision"]) == (package.manifest.name, "int8")
    assert (row["sentences"], row["differences"], row["differing"]) == (COUNT, 0, [])
    assert row["largest_score_difference"] <= 1e-4


def test_sentences_of_both_directions_and_of_all_sets_are_used(
    transformer_package: Package, pairs: Path, tmp_path: Path
) -> None:
    second = tmp_path / "more.en-fr.tsv"
    second.write_text("Ba.\tTi.\n", encoding="utf-8")
    result, report = invoke(transformer_package, pairs, tmp_path, second, "--sentences", 10 * COUNT)
    assert result.exit_code == 0, result.output
    assert report["rows"][0]["sentences"] == 2 * (COUNT + 1)


def test_what_is_not_there_is_named(transformer_package: Package, pairs: Path, tmp_path: Path) -> None:
    options = ["--output", str(tmp_path / "out")]
    wrong = [["--package", str(tmp_path), str(pairs)], [str(tmp_path / "unnamed.tsv")]]
    for each in (wrong[0], ["--package", str(transformer_package.path), *wrong[1]]):
        assert CliRunner().invoke(app, [*options, *each]).exit_code == 2
    assert not (tmp_path / "out").exists()
