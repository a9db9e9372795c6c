"""A package gives back the run that it was made of, as far as its precision goes."""

import shutil

import pytest
import torch
import typer
from typer.testing import CliRunner

from export.int8 import LEVELS
from export.package import Package, Precision
from export.restore import main, restore
from models.checkpoint import Run
from models.config import TransformerConfig
from models.tokenizer import BOS, PAD, UNK, Tokenizer
from tests.packages import config


def only(package: Package, precision: Precision, path) -> Package:
    """A copy with graphs of one precision."""
    shutil.copytree(package.path, path)
    copy = Package.open(path)
    copy.manifest = copy.manifest.model_copy(update={"graphs": {precision: package.manifest.graphs[precision]}})
    copy.save_manifest()
    return Package.open(path)


def never_said(run: Run) -> list[int]:
    tokenizer = Tokenizer(run.tokenizer)
    return [PAD, UNK, BOS, *(tokenizer.tag(language) for language in run.config.data.languages)]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_weights_come_back(run: Run, package: Package, precision: Precision, tmp_path) -> None:
    found = restore(only(package, precision, tmp_path / "package"), run.config, tmp_path / "run")
    assert found == precision
    model, restored = run.model(), Run.open(tmp_path / "run").model()
    before, after = model.state_dict(), restored.state_dict()
    assert before.keys() == after.keys()
    bias = next(name for name, parameter in model.named_parameters() if parameter is model.output_bias)
    said = [token for token in range(len(before[bias])) if token not in never_said(run)]
    # A row of 8-bit weights has 127 levels on each side of zero; key and value layers were scaled before.
    off = 1e-5 if precision == "fp32" else 0.51 / LEVELS
    for name, weight in before.items():
        rows = slice(None) if name != bias else said
        largest = float(weight.abs().max())
        torch.testing.assert_close(after[name][rows], weight[rows], rtol=0, atol=off * largest + 1e-6, msg=name)
    least = float(after[bias][said].min())
    assert after[bias][never_said(run)].tolist() == pytest.approx([least] * len(never_said(run)))


def test_the_run_knows_what_it_cost(run: Run, package: Package, tmp_path) -> None:
    assert package.manifest.training is not None
    assert package.manifest.training.processes == 1
    known = package.manifest.training.model_copy(update={"processes": 2})
    package = Package(package.path, package.manifest.model_copy(update={"training": known}))
    restore(package, run.config, tmp_path / "run")
    again = Run.open(tmp_path / "run")
    assert again.training.processes == 2
    assert again.config == run.config
    assert again.tokenizer.read_bytes() == run.tokenizer.read_bytes()
    assert (again.training.minutes, again.training.corpora) == (run.training.minutes, run.training.corpora)


def test_another_architecture_is_refused(run: Run, package: Package, tmp_path) -> None:
    other = {"transformer": "bahdanau", "bahdanau": "transformer"}[run.config.model.architecture]
    with pytest.raises(ValueError, match=f"was not trained here as {other}"):
        restore(package, config(other), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_number_of_heads_is_refused(transformer_package: Package, tmp_path) -> None:
    """No weight has another shape with half as many, but all mean something else."""
    known = config("transformer")
    assert isinstance(known.model, TransformerConfig)
    heads = known.model.heads
    half = known.model_copy(update={"model": known.model.model_copy(update={"heads": heads // 2})})
    with pytest.raises(ValueError, match=f"has {heads} heads, not {heads // 2}"):
        restore(transformer_package, half, tmp_path / "run")


@pytest.mark.parametrize("name", ["transformer-en-fr-de", "bahdanau-en-fr-de"])
def test_shipped_packages_can_be_trained_on(name: str, tmp_path) -> None:
    app = typer.Typer()
    app.command()(main)
    arguments = [f"models/trained/{name}", "--config", f"models/configs/{name}.toml", "--output", str(tmp_path / "run")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert Run.open(tmp_path / "run").model().config.vocab_size == 12000
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "exists" in again.output
