import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from export.package import Package
from loadtests.operators import CASES, LAYER, LEAST, OUTPUT_LAYER, REST, lines, main, markdown, shares
from tests.packages import sentences

app = typer.Typer()
app.command()(main)


def node(operator: str, microseconds: int, columns: int = 4) -> dict[str, Any]:
    """What ONNX Runtime notes of an operator, as far as it is read."""
    arguments = {"op_name": operator, "output_type_shape": [{"float": [32, columns]}]}
    return {"cat": "Node", "name": f"{operator}.7_kernel_time", "dur": microseconds, "args": arguments}


NOTES = [
    {"cat": "Session", "name": "model_run", "dur": 1000, "args": {}},
    {"cat": "Node", "name": "Gemm.7_fence_before", "dur": 1000, "args": {"op_name": "Gemm"}},
    node("Gemm", 20, columns=768),
    node("MatMulIntegerToFloat", 10, columns=256),
    node("MatMulIntegerToFloat", 40, columns=12_000),
    node("Softmax", 10),
    node("Softmax", 20),
    node("If", 40, columns=12_000),  # the operators in it are there, too
]


def test_shares_are_of_the_time_of_all_operators() -> None:
    assert shares(NOTES, last=False) == {LAYER: 0.7, "Softmax": 0.3}
    assert shares(NOTES, last=True) == {OUTPUT_LAYER: 0.4, LAYER: 0.3, "Softmax": 0.3}


def test_operators_that_are_small_in_every_case_are_put_together() -> None:
    first = {LAYER: 0.9, "Add": 0.08, "Mul": LEAST / 2, "Tanh": LEAST / 2}
    second = {LAYER: 0.9, "Add": LEAST / 2, "Mul": LEAST / 2, "Tanh": 0.08}
    row = {"cases": {"a": {"encoder": first, "decoder": first}, "b": {"encoder": first, "decoder": second}}}
    expected = [
        ("encoder", LAYER, "90%", "90%"),
        ("encoder", "Add", "8%", "8%"),
        ("encoder", REST, "2%", "2%"),
        ("decoder", LAYER, "90%", "90%"),
        ("decoder", "Add", "8%", "1%"),
        ("decoder", "Tanh", "1%", "8%"),
        ("decoder", REST, "1%", "1%"),
    ]
    assert lines(row) == expected


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "invented.en-fr.tsv"
    path.write_text("".join(f"{text}\t{text}\n" for text in sentences(12, seed=3)), encoding="utf-8")
    return path


def test_all_of_a_real_engine_s_time_is_told(package: Package, pairs: Path, tmp_path: Path) -> None:
    arguments = ["--package", package.path, "--output", tmp_path, "--sentences", 8, pairs]
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "operators.json").read_text(encoding="utf-8"))
    (row,) = report["rows"]
    assert (row["model"], row["sentences"], list(row["cases"])) == (
        package.manifest.name,
        8,
        [each.name for each in CASES],
    )
    for case in row["cases"].values():
        for part in ("encoder", "decoder"):
            assert sum(case[part].values()) == pytest.approx(1)
        assert OUTPUT_LAYER in case["decoder"]
        assert OUTPUT_LAYER not in case["encoder"]
    shown = markdown(report)
    assert f"**{package.manifest.name} int8**" in shown
    assert not list(Path().glob("graph_*.json"))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--output", str(tmp_path), str(tmp_path / "unnamed.tsv")])
    assert result.exit_code == 2
    assert not (tmp_path / "operators.json").exists()
