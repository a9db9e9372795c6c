import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from loadtests.consistency import LIST, main
from loadtests.server import environments

app = typer.Typer()
app.command()(main)


def moody(body: dict[str, Any]) -> tuple[int, Any]:
    """Repeats the text, but one sentence comes out otherwise in company."""
    texts = body["text"]
    spoilt = [text + "!" if "odd" in text and len(texts) > 1 else text for text in texts]
    return 200, {"translations": [{"text": text} for text in spoilt]}


MODELS = [{"name": "m", "version": "1", "precision": "int8", "directions": [["en", "fr"]]}]


@pytest.mark.parametrize(("sentence", "identical"), [("even", 100), ("odd", 99)])
def test_what_depends_on_its_company_is_counted_and_named(
    stub_server: Callable[..., AbstractContextManager[str]], tmp_path: Path, sentence: str, identical: int
) -> None:
    path = tmp_path / "x.en-fr.tsv"
    path.write_text("".join(f"{sentence if i == LIST + 1 else 'a'} {i}\tb\n" for i in range(120)))
    with stub_server(moody, models=MODELS) as url:
        options = ["--url", url, "--sentences", "100", "--output", str(tmp_path)]
        result = CliRunner().invoke(app, [str(path), *options])
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "consistency.json").read_text())["rows"]
    assert (row["sentences"], row["identical"]) == (100, identical)
    assert row["differing"] == [f"odd {LIST + 1}"][: 100 - identical]


def test_a_server_that_remembers_proves_nothing(
    stub_server: Callable[..., AbstractContextManager[str]], tmp_path: Path
) -> None:
    path, asked = tmp_path / "x.en-fr.tsv", []
    path.write_text("a\tb\n")

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        return moody(body)

    def hits() -> str:
        return f'attentive_cache_total{{result="miss"}} 9.0\nattentive_cache_total{{result="hit"}} {len(asked)}\n'

    with stub_server(answer, models=MODELS, metrics=hits) as url:
        result = CliRunner().invoke(app, [str(path), "--url", url, "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "ATTENTIVE_CACHE_BYTES=0" in result.output
    assert not (tmp_path / "consistency.json").exists()


def test_a_server_for_each_precision() -> None:
    assert environments(None, None) == [{"ATTENTIVE_LATENCY_OBJECTIVE_MS": "0"}]
    found = environments(["fp32", "int8"], Path("/x"))
    assert [one["ATTENTIVE_PRECISION"] for one in found] == ["fp32", "int8"]
    assert {one["ATTENTIVE_MODELS_DIR"] for one in found} == {"/x"}
