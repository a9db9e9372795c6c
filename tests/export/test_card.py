"""The card says what the manifest has, and its commands are commands of this repository."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from export.card import card, hours, main
from export.commands import CONFIGS, commands, configuration
from export.package import FirstWeights, Package, Trained
from models.checkpoint import Training
from models.config import Config

app = typer.Typer()
app.command()(main)

SHIPPED = Config.load(CONFIGS / "transformer-en-fr-de.toml")
OLDER = {"name": "transformer-en-fr", "minutes": 30.0, "tokens": 5}
TRAINING = Training(steps=9, tokens=70, minutes=90.2, device="cpu", corpora={}, history=[], initial=OLDER)


@pytest.fixture
def package(transformer_package: Package, tmp_path: Path) -> Package:
    """A copy that knows what its training cost."""
    copy = Package.open(Path(shutil.copytree(transformer_package.path, tmp_path / "package")))
    first = FirstWeights(name="older", minutes=30, tokens=5)
    trained = Trained(device="cpu", minutes=90, steps=1234, tokens=5_600_000, initial=first, commands=["make it so"])
    copy.manifest = copy.manifest.model_copy(update={"training": trained})
    copy.save_manifest()
    return copy


def score(metric="BLEU", name="news", value=20.04, way=("en", "fr"), precision="int8"):
    common = {"set": name, "direction": list(way), "precision": precision, "signature": f"of {metric}"}
    return common | {"metric": metric, "value": value}


def test_the_card_has_costs_data_and_commands(package: Package) -> None:
    text = card(package)
    assert "| trained for | 2.0 hours of one cpu core, 0.5 of them for older |" in text
    assert "| learnt from | 5,600,000 target sub-words in 1,234 steps |" in text
    assert "| invented | 400 | CC0 |" in text
    assert "```sh\nmake it so\n```" in text
    assert "Not measured yet." in text
    size = sum(path.stat().st_size for path in package.path.iterdir() if path.suffix not in {".json", ".md"})
    assert f"| size | {size / 1e6:.1f} MB |" in text


@pytest.mark.parametrize(
    ("own", "first", "text"),
    [
        ((74, 2), None, "2.5 hours of one cpu core"),
        ((60, 1), (30, 2), "2.0 hours of one cpu core, 1.0 of them for older"),
    ],
)
def test_hours_are_those_of_all_processes(own, first, text) -> None:
    before = first and FirstWeights(name="older", minutes=first[0], processes=first[1], tokens=5)
    minutes, processes = own
    costs = {"device": "cpu", "minutes": minutes, "processes": processes, "steps": 1, "tokens": 1}
    assert hours(Trained.model_validate(costs | {"initial": before, "commands": []})) == text


def test_a_package_that_does_not_know_has_a_card_too(transformer_package: Package) -> None:
    package = Package(transformer_package.path, transformer_package.manifest.model_copy(update={"training": None}))
    assert "Made by" not in card(package)
    assert "trained for" not in card(package)


def test_an_exported_package_knows_how_it_was_made(transformer_package: Package) -> None:
    training = transformer_package.manifest.training
    assert training is not None
    assert any(line.startswith("make export RUN=runs/tiny-transformer ") for line in training.commands)


def test_scores_of_several_reports_come_into_the_card(package: Package, tmp_path: Path) -> None:
    name = package.manifest.name
    quality = [score(), score(value=12.5, way=("fr", "en")), score("chrF", value=45.0)]
    reports = {
        "quality": {
            "rows": [{"model": name, "scores": quality}, {"model": "another", "scores": [score(value=1.0)]}],
            "alignment": [{"model": name, "scores": [score("AER", "hansards-dev", 25.0)]}],
        },
        "robustness": {"rows": [{"model": name, "scores": [score("passed, %", "robustness", 96.7)]}]},
    }
    arguments = [str(package.path)]
    for report, content in reports.items():
        (tmp_path / f"{report}.json").write_text(json.dumps(content))
        arguments += ["--scores", str(tmp_path / f"{report}.json")]
    (tmp_path / "made.txt").write_text("first this\nthen that\n")
    result = CliRunner().invoke(app, [*arguments, "--commands", str(tmp_path / "made.txt")])
    assert result.exit_code == 0, result.output
    package = Package.open(package.path)
    assert len(package.manifest.scores) == 5
    text = (package.path / "README.md").read_text()
    assert text == card(package)
    assert "| hansards-dev | en-fr | int8 | AER | 25.0 |" in text
    assert "weakest on news fr-en: BLEU 12.5" in text
    assert "96.7 % come out unharmed in en-fr" in text
    assert "```sh\nfirst this\nthen that\n```" in text
    assert "`of AER`, `of BLEU`" in text


def test_the_commands_begin_with_those_of_the_first_weights() -> None:
    training = SHIPPED.training.model_copy(update={"alignment_weight": 0.0})
    lines = commands(SHIPPED.model_copy(update={"training": training}), TRAINING, "1.0")
    assert [line.split()[:3] for line in lines[:4]] == [
        ["make", "data", "CONFIG=models/configs/transformer.toml"],
        ["make", "train", "CONFIG=models/configs/transformer.toml"],
        ["make", "data", "CONFIG=models/configs/transformer-en-fr-de.toml"],
        ["make", "train", "CONFIG=models/configs/transformer-en-fr-de.toml"],
    ]
    assert 'FILES="corpora/en-fr.*.tsv.xz corpora/en-de.*.tsv.xz"' in lines[2]
    assert lines[3].endswith('ARGS="--max-minutes 90 --initial runs/transformer-en-fr"')
    assert lines[-1].startswith("python -m export.card models/trained/transformer-en-fr-de ")


def test_the_commands_have_the_number_of_processes() -> None:
    """Of a CPU: on GPUs the command takes all there are."""
    both = TRAINING.model_copy(update={"processes": 2, "initial": OLDER | {"processes": 3}})
    first, second = (line for line in commands(SHIPPED, both, "1") if line.startswith("make train "))
    assert " RUN=runs/transformer-en-fr PROCESSES=3 ARGS=" in first
    assert " RUN=runs/transformer-en-fr-de PROCESSES=2 ARGS=" in second
    on_gpus = both.model_copy(update={"device": "cuda"})
    for training in (TRAINING, on_gpus):
        assert not any("PROCESSES" in line for line in commands(SHIPPED, training, "1"))


def test_a_guided_model_is_labelled_first() -> None:
    assert SHIPPED.training.alignment_weight > 0
    lines = commands(SHIPPED, TRAINING.model_copy(update={"initial": None}), "1")
    assert [line.split()[1:4] for line in lines[:3]] == [
        ["data", "CONFIG=models/configs/transformer-en-fr-de.toml", "DATA=data/transformer-en-fr-de"],
        ["-m", "models.align", "label"],
        ["train", "CONFIG=models/configs/transformer-en-fr-de.toml", "DATA=data/transformer-en-fr-de"],
    ]
    assert "--initial" not in lines[2]


def test_weights_of_a_run_that_the_repository_does_not_know() -> None:
    unknown = TRAINING.model_copy(update={"initial": {"name": "elsewhere", "minutes": 1.0, "tokens": 1}})
    assert commands(SHIPPED, unknown, "1")[0] == "# elsewhere: its configuration is not in the repository"


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.toml")), ids=lambda path: path.stem)
def test_every_configuration_is_found_by_its_name(path: Path) -> None:
    assert CONFIGS.parent.parent / configuration(tomllib.loads(path.read_text())["name"]) == path
