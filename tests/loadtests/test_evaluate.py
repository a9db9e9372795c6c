import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from export.package import Score
from loadtests.evaluate import Sets, collect, main, measure, translate
from loadtests.server import ServerError
from loadtests.sets import TEXTS, Set, read_sets

app = typer.Typer()
app.command()(main)

MODELS = [
    {"name": name, "architecture": name, "directions": directions, "precision": "int8", "version": "1"}
    for name, directions in {"both": [["en", "fr"], ["fr", "en"]], "one": [["en", "fr"]]}.items()
]


def upper(body: dict[str, Any]) -> tuple[int, Any]:
    """Translates into capitals, and refuses what says so."""
    assert len(body["text"]) <= TEXTS
    status = 429 if "refuse me" in body["text"] else 200
    return status, {"translations": [{"text": text.upper()} for text in body["text"]]}


@pytest.fixture
def url(stub_server: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    with stub_server(upper, models=MODELS) as address:
        yield address


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "news.test.en-fr.tsv"
    path.write_text("".join(f"the cat number {i} sleeps\tTHE CAT NUMBER {i} SLEEPS\n" for i in range(2 * TEXTS + 3)))
    return path


def test_a_set_is_used_in_both_directions(pairs: Path) -> None:
    forward, backward = read_sets(pairs)
    assert (forward.name, forward.source, forward.target) == ("news.test", "en", "fr")
    assert (backward.source, backward.target) == ("fr", "en")
    assert forward.sentences == backward.references
    assert forward.references == backward.sentences


@pytest.mark.parametrize("name", ["news.tsv", "news.enfr.tsv", ".en-fr.tsv", "news.en-.tsv"])
def test_a_name_without_languages_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a\tb\n")
    with pytest.raises(ValueError, match="expected a name like"):
        read_sets(tmp_path / name)


def test_a_line_without_a_reference_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.en-fr.tsv"
    path.write_text("a\tb\nc\n")
    with pytest.raises(ValueError, match=r"x\.en-fr\.tsv:2:"):
        read_sets(path)


def test_translations_keep_their_order(url: str, pairs: Path) -> None:
    async def run() -> list[str]:
        async with httpx.AsyncClient(base_url=url) as client:
            return await translate(client, "both", read_sets(pairs)[0], 1)

    assert asyncio.run(run()) == read_sets(pairs)[0].references


def test_a_refusal_is_an_error_and_no_score(url: str) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="429"):
        asyncio.run(measure(url, Sets([Set("x", "en", "fr", ["refuse me"], ["no"])], []), [1], Console(quiet=True)))


def test_the_report_has_each_model_set_and_direction(url: str, pairs: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(pairs), "--url", url, "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "quality.json").read_text())
    found = {(row["model"], row["source"], row["target"]): row["bleu"] for row in report["rows"]}
    assert found.keys() == {("both", "en", "fr"), ("both", "fr", "en"), ("one", "en", "fr")}
    assert found["both", "en", "fr"] == 100
    assert found["both", "fr", "en"] < 50
    assert {"commit", "machine", "versions"} <= report.keys()
    scores = [Score.model_validate(score) for row in report["rows"] for score in row["scores"]]
    assert {score.metric for score in scores} == {"BLEU", "chrF"}
    assert all("version:" in score.signature for score in scores)


def test_without_a_server_it_says_so(tmp_path: Path, pairs: Path) -> None:
    result = CliRunner().invoke(app, [str(pairs), "--url", "http://127.0.0.1:9", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "does not answer" in result.output


def test_what_was_measured_is_kept_where_a_later_server_does_not_start(
    monkeypatch: pytest.MonkeyPatch, url: str, pairs: Path, tmp_path: Path
) -> None:
    @contextmanager
    def served(given: str | None, log: Path, environment: Mapping[str, str]) -> Iterator[str]:
        if environment["ATTENTIVE_PRECISION"] == "fp32":
            raise ServerError("no graphs in fp32")
        yield url

    monkeypatch.setattr("loadtests.evaluate.served", served)
    options = ["--precision", "int8", "--precision", "fp32", "--output", str(tmp_path)]
    result = CliRunner().invoke(app, [str(pairs), *options])
    assert result.exit_code == 2
    assert "no graphs in fp32" in result.output
    assert len(json.loads((tmp_path / "quality.json").read_text())["rows"]) == 3


def test_the_machine_is_described_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, url: str, pairs: Path, tmp_path: Path
) -> None:
    load = 0.25

    @contextmanager
    def served(*_: Any, **__: Any) -> Iterator[str]:
        nonlocal load
        load = 9.0
        yield url

    monkeypatch.setattr("loadtests.evaluate.served", served)
    monkeypatch.setattr("loadtests.machine.psutil.getloadavg", lambda: (load, 0.0, 0.0))
    assert CliRunner().invoke(app, [str(pairs), "--output", str(tmp_path)]).exit_code == 0
    assert json.loads((tmp_path / "quality.json").read_text())["load_before"] == 0.25


def test_a_directory_stands_for_what_may_be_reported(tmp_path: Path) -> None:
    for name in ("news-test", "tatoeba-dev", "multi30k-val", "newstest2013", "newstest2014"):
        (tmp_path / f"{name}.en-fr.tsv").write_text("a\tb\nc\td\n")
    (tmp_path / "alignments").mkdir()
    (tmp_path / "alignments" / "gold.en-fr.tsv").write_text("a b\tc d\t1-1 2p2\na\tc\t1-1\n")
    sets = collect([tmp_path, tmp_path / "tatoeba-dev.en-fr.tsv"], limit=1)
    assert [(each.name, each.source) for each in sets.texts] == [
        ("news-test", "en"), ("news-test", "fr"), ("newstest2014", "en"), ("newstest2014", "fr"),
        ("tatoeba-dev", "en"), ("tatoeba-dev", "fr"),
    ]  # fmt: skip
    assert sets.texts[0].sentences == ["a"]
    assert sets.texts[1].references == ["a"]
    [gold] = sets.gold
    assert (gold.name, gold.first, gold.second, len(gold.rows)) == ("gold", "en", "fr", 1)


def test_beams_and_tokens_as_papers_have_them(url: str, pairs: Path, tmp_path: Path) -> None:
    """The reference has capitals, which the tokens do not; and only greedy figures are a package's."""
    pairs.write_text("l'homme dort.\tl'Homme dort.\n" * 5)
    arguments = [str(pairs), "--url", url, "--output", str(tmp_path), "--name", "beams", "--tokenised"]
    result = CliRunner().invoke(app, [*arguments, "--beam-size", "1", "--beam-size", "4"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "beams.json").read_text())
    assert [row["beam_size"] for row in report["rows"]] == [1, 4] * 3
    assert [len(row["scores"]) for row in report["rows"]] == [2, 0] * 3
    for row in report["rows"]:
        assert row["bleu"] < 50
        assert row["tokenised_bleu"] == 100
        assert "case:lc|" in row["tokenised_signature"]
        assert "sacremoses" in row["tokenised_signature"]
    assert "| both | int8 | 4 | news.test | en-fr |" in (tmp_path / "beams.md").read_text()
