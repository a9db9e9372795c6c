from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from export.__main__ import main, read_texts
from export.build import NEVER, forbid_specials
from export.decoder import GraphDecoder
from export.package import Package, PackageError, Precision
from models import checkpoint
from models.checkpoint import Run
from models.tokenizer import BOS, PAD, UNK, Tokenizer
from tests.packages import VOCABULARY, sentences, write_run

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
    assert manifest.learnt_length == run.config.data.max_tokens
    assert {file.name for file in output.iterdir()} == {
        "manifest.json",
        "README.md",
        "tokenizer.model",
        "encoder.int8.onnx",
        "decoder.int8.onnx",
        "weights.int8.bin",
    }
    assert "| invented | 400 | CC0 |" in (output / "README.md").read_text()


def test_sentences_go_the_ways_that_are_trained(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text("a\tb\nc\td\n")
    data = run.config.data
    assert read_texts(path, data) == [("a", "fr"), ("b", "en"), ("c", "fr"), ("d", "en")]
    assert read_texts(path, data.model_copy(update={"one_way": ["fr-en"]})) == [("b", "en"), ("d", "en")]


def test_too_few_sentences_export_nothing(run: Run, pairs: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.tsv"
    few.write_text("".join(pairs.read_text().splitlines(keepends=True)[:99]))
    result = CliRunner().invoke(app, [str(run.path), "--output", str(tmp_path / "out"), "--sentences", str(few)])
    assert result.exit_code != 0
    assert "at least 200 are needed" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_is_not_exported(pairs: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path), "--output", str(tmp_path / "out"), "--sentences", str(pairs)])
    assert result.exit_code == 2
    assert "is no finished run" in " ".join(result.output.replace("│", "").split())


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


def test_no_target_has_a_number_without_a_sub_word(run: Run) -> None:
    config = run.config.model_copy(update={"model": run.config.model.model_copy(update={"vocab_size": VOCABULARY + 8})})
    model, tokenizer = checkpoint.build(config), Tokenizer(run.tokenizer)
    forbid_specials(model, tokenizer, ["en"])
    never = (model.output_bias == NEVER).nonzero().flatten().tolist()
    assert never == [PAD, UNK, BOS, tokenizer.tag("en"), *range(len(tokenizer), VOCABULARY + 8)]


@pytest.mark.parametrize("precision", get_args(Precision))
def test_no_target_has_special_tokens(package: Package, precision: Precision) -> None:
    """They are the last of all: not even a beam that is wider than all other tokens would take them."""
    manifest, size = package.manifest, 8
    source = np.random.default_rng(0).integers(6, 300, size=(20, size))
    decoder = GraphDecoder(package, precision)
    tensors = decoder.start(source, np.full(20, size))
    step = {"token": np.full(20, manifest.special.bos), "position": np.zeros(20, np.int32)}
    result = decoder.run(decoder.decoder, {**tensors, **step, "top_k": np.array([VOCABULARY])})
    forbidden = {manifest.special.pad, manifest.special.unk, manifest.special.bos, *manifest.tags.values()}
    assert result["next_ids"].shape == (20, VOCABULARY)
    assert all(set(ids[-len(forbidden) :].tolist()) == forbidden for ids in result["next_ids"])
    assert result["next_scores"][:, -len(forbidden) :].max() < -1000
