from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from export.__main__ import main
from export.package import Package, PackageError
from models import checkpoint
from models.checkpoint import Run
from tests.packages import sentences, write_run

app = typer.Typer()
app.command()(main)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "dev.tsv"
    first, second = sentences(100, seed=1), sentences(100, seed=2)
    path.write_text("".join(f"{a}\t{b}\n" for a, b in zip(first, second, strict=True)))
    return path


def test_export_writes_a_checked_package(run: Run, pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "package"
    result = CliRunner().invoke(
        app, [str(run.path), "--output", str(output), "--sentences", str(pairs), "--precision", "int8"]
    )
    assert result.exit_code == 0, result.output
    manifest = Package.open(output).manifest
    assert manifest.precisions == ["int8"]
    assert manifest.architecture == run.config.model.architecture
    assert {file.name for file in output.iterdir()} == {
        "manifest.json",
        "README.md",
        "tokenizer.model",
        "encoder.int8.onnx",
        "decoder.int8.onnx",
    }
    assert "| invented | 400 | CC0 |" in (output / "README.md").read_text()


def test_too_few_sentences_export_nothing(run: Run, pairs: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.tsv"
    few.write_text("".join(pairs.read_text().splitlines(keepends=True)[:99]))
    result = CliRunner().invoke(app, [str(run.path), "--output", str(tmp_path / "out"), "--sentences", str(few)])
    assert result.exit_code != 0
    assert "at least 200 are needed" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_a_directory_that_is_no_package_is_kept(run: Run, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    result = CliRunner().invoke(app, [str(run.path), "--output", str(tmp_path), "--sentences", str(pairs)])
    assert result.exit_code != 0
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_broken_model_is_not_exported(pairs: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "transformer")
    weights = checkpoint.load(run.path / "final.pt")["model"]
    weights["decoder_norm.weight"] = torch.full_like(weights["decoder_norm.weight"], float("nan"))
    checkpoint.save(run.path / "final.pt", {"model": weights})
    result = CliRunner().invoke(app, [str(run.path), "--output", str(tmp_path / "out"), "--sentences", str(pairs)])
    assert result.exit_code != 0
    with pytest.raises(PackageError):
        Package.open(tmp_path / "out")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_no_target_has_special_tokens(package: Package, precision) -> None:
    import numpy as np

    from export.decoder import GraphDecoder

    manifest = package.manifest
    random = np.random.default_rng(0)
    source = random.integers(6, 300, size=(20, 10))
    tokens, _ = GraphDecoder(package, precision).greedy(source, np.full(20, 10), 30)
    forbidden = {manifest.special.pad, manifest.special.unk, manifest.special.bos, *manifest.tags.values()}
    assert forbidden.isdisjoint(tokens.ravel().tolist())
