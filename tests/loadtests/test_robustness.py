import json
from collections import Counter

import pytest
import typer
from typer.testing import CliRunner

from loadtests.robustness import ALL, INPUTS, main, rates, read_cases
from loadtests.sets import TEXTS

app = typer.Typer()
app.command()(main)
MODELS = [
    {"name": "m", "architecture": "transformer", "directions": [["en", "fr"], ["en", "de"]], "precision": "int8"}
    | {"version": "1"}
]


def upper(body):
    """Leaves everything as it is, but for capitals, of which one check takes notice."""
    assert len(body["text"]) <= TEXTS
    assert body["source"] == "en"
    return 200, {"translations": [{"text": text.upper(), "truncated": False} for text in body["text"]]}


def test_the_inputs_are_many_and_of_all_kinds_and_languages():
    cases = read_cases(INPUTS)
    assert len(cases) >= 200
    assert len({(case.kind, case.language) for case in cases}) == 3 * len({case.kind for case in cases})
    assert {case.language for case in cases} == {"en", "fr", "de"}
    assert max(Counter((case.language, case.text) for case in cases).values()) == 1
    for kind in ("placeholders", "addresses", "emoji", "names"):
        assert all(case.kept for case in cases if case.kind == kind)


def test_what_must_stay_must_be_there(tmp_path):
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps({"names": {"en": [["Hello Anna", "Bob"]]}}))
    with pytest.raises(ValueError, match="'Hello Anna' does not contain 'Bob'"):
        read_cases(path)


def test_the_report_has_rates_and_failures(stub_server, tmp_path):
    inputs = tmp_path / "inputs.json"
    content = {"symbols": {"en": ["...", "1 + 1"]}, "words": {"en": ["house", "OK"], "fr": ["maison"]}}
    inputs.write_text(json.dumps(content))
    with stub_server(upper, models=MODELS) as url:
        arguments = ["--inputs", str(inputs), "--url", url, "--output", str(tmp_path / "out")]
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert report["rates"] == {"m int8": {"symbols": 100.0, "words": 50.0, ALL: 75.0}}
    assert [(row["target"], row["inputs"], row["passed"]) for row in report["rows"]] == [("fr", 4, 3), ("de", 4, 3)]
    [failure] = report["rows"][0]["failures"]
    assert failure == {"kind": "words", "text": "house", "translation": "HOUSE", "failed": ["translated"]}
    assert {"commit", "machine", "versions"} <= report.keys()
    assert "75.0" in result.output


def test_rates_are_over_all_directions():
    row = {"model": "m", "precision": "int8", "inputs": 4, "passed": 1, "kinds": {"x": {"inputs": 4, "passed": 1}}}
    assert rates([row, row | {"inputs": 1, "passed": 1, "kinds": {"x": {"inputs": 1, "passed": 1}}}]) == {
        "m int8": {"x": 40.0, ALL: 40.0}
    }


def test_without_a_server_it_says_so(tmp_path):
    result = CliRunner().invoke(app, ["--url", "http://127.0.0.1:9", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "does not answer" in result.output
