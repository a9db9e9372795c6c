import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from export.package import Package
from service import errors
from service.registry import Registry, between, open_packages
from service.settings import Settings
from service.text.tokens import Tokenizer
from tests.service.fakes import EchoEngine, model


@pytest.fixture
def registry(tokenizer: Tokenizer) -> Registry:
    def make(name: str, architecture: str, *directions: tuple[str, str]) -> object:
        return model(tokenizer, EchoEngine(), name=name, architecture=architecture, directions=list(directions))

    models = [
        make("a", "bahdanau", ("en", "fr"), ("fr", "en")),
        make("b", "transformer", ("en", "fr")),
        make("c", "transformer", ("en", "de")),
    ]
    return Registry(models, default="transformer")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "direction", "chosen"),
    [
        (None, ("en", "fr"), "b"),
        (None, ("fr", "en"), "a"),
        ("a", ("en", "fr"), "a"),
        ("bahdanau", ("en", "fr"), "a"),
        ("transformer", ("en", "de"), "c"),
    ],
)
def test_select(registry: Registry, name: str | None, direction: tuple[str, str], chosen: str) -> None:
    assert registry.select(name, *direction).name == chosen


@pytest.mark.parametrize(("learnt_length", "limit"), [(None, 98), (20, 20), (98, 98), (99, 98)])
def test_no_sentence_is_longer_than_a_model_can_read_or_has_learnt_to(
    tokenizer: Tokenizer, learnt_length: int | None, limit: int
) -> None:
    found = model(tokenizer, EchoEngine(), max_length=100, learnt_length=learnt_length)
    assert found.max_subwords == limit


def test_what_is_not_there(registry: Registry) -> None:
    with pytest.raises(errors.UnknownModel):
        registry.select("gpt", "en", "fr")
    with pytest.raises(errors.UnknownDirection):
        registry.select("transformer", "fr", "en")
    with pytest.raises(errors.UnknownDirection):
        registry.sources(None, "xx")


def test_languages(registry: Registry) -> None:
    assert registry.languages() == {"en": ["de", "fr"], "fr": ["de", "en"]}
    assert registry.sources("transformer", "fr") == ["en"]


@pytest.fixture
def packages(transformer_package: Package, tmp_path: Path) -> Path:
    """A directory with one good package."""
    shutil.copytree(transformer_package.path, tmp_path / "good")
    return tmp_path


def settings(packages: Path) -> Settings:
    return Settings(models_dir=packages, threads=1, slots=8)


def remove(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip(file: Path) -> None:
    """One bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def unreadable(file: Path) -> None:
    file.write_text("{")


def later(file: Path) -> None:
    file.write_text('{"format": 99}')


DAMAGE = [
    ("manifest.json", remove),
    ("manifest.json", unreadable),
    ("manifest.json", later),
    ("tokenizer.model", remove),
    ("tokenizer.model", flip),
    ("encoder.int8.onnx", cut),
    ("decoder.int8.onnx", cut),
    ("decoder.int8.onnx", remove),
    ("weights.int8.bin", flip),
    ("weights.int8.bin", cut),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE, ids=lambda value: getattr(value, "__name__", value))
def test_a_damaged_package_is_named_and_the_others_serve(
    packages: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(packages / "good", packages / "bad")
    damage(packages / "bad" / name)
    bad, good = open_packages(settings(packages))
    assert good.model is not None
    good.model.engine.close()
    assert (bad.package, bad.outcome, bad.model) == ("bad", "failed", None)
    assert (good.package, good.outcome, good.error) == ("good", "loaded", "")
    assert str(packages / "bad" / name) in bad.error
    assert bad.error in "\n".join(record.getMessage() for record in caplog.records if record.levelname == "ERROR")


def test_what_is_no_package_is_passed_over_or_named(packages: Path) -> None:
    (packages / "empty").mkdir()
    (packages / ".hidden").mkdir()
    (packages / "a-file").write_text("")
    empty, good = open_packages(settings(packages))
    assert good.model is not None
    good.model.engine.close()
    assert (empty.package, empty.outcome) == ("empty", "failed")
    assert str(packages / "empty" / "manifest.json") in empty.error


def test_an_engine_that_cannot_be_made_is_a_failure_of_its_package(packages: Path) -> None:
    [failed] = open_packages(Settings(models_dir=packages, provider="NoSuchProvider"))
    assert failed.outcome == "failed"
    assert "NoSuchProvider" in failed.error
    assert str(packages / "good") in failed.error


def test_a_package_without_graphs_of_the_precision_says_which_it_has(packages: Path) -> None:
    [failed] = open_packages(Settings(models_dir=packages, precision="fp16"))
    assert failed.outcome == "failed"
    assert failed.error == f"{packages / 'good'}: no graphs in fp16, but in fp32, int8"


def rename(package: Path, name: str) -> None:
    file = package / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"name": name}))


def test_a_name_is_that_of_one_package(packages: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(packages / "good", packages / "zoo")
    good, zoo = open_packages(settings(packages))
    assert good.model is not None
    assert (good.outcome, zoo.outcome, zoo.model) == ("loaded", "failed", None)
    assert (
        zoo.error
        == f"{packages / 'zoo' / 'manifest.json'}: its name, {good.model.name}, is that of the package in good"
    )
    assert zoo.error in caplog.text
    # Who has the name keeps it, though another one would be first now.
    shutil.copytree(packages / "good", packages / "backup")
    backup, good_again, _ = open_packages(settings(packages), [good.model])
    assert (backup.outcome, backup.model, good_again.outcome) == ("failed", None, "unchanged")
    assert good_again.model is good.model
    rename(packages / "zoo", "zoo")
    _, _, zoo = open_packages(settings(packages), [good.model])
    assert zoo.model is not None
    rename(packages / "backup", "backup")
    rename(packages / "good", "zoo")
    backup, good_again, zoo_again = open_packages(settings(packages), [good.model, zoo.model])
    assert backup.model is not None
    assert [each.outcome for each in (backup, good_again, zoo_again)] == ["loaded", "failed", "unchanged"]
    assert good_again.model is good.model
    for each in (good.model, zoo.model, backup.model):
        each.engine.close()


def test_a_directory_that_cannot_be_read_is_no_model_and_is_logged(
    packages: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    assert open_packages(settings(packages)) == []
    assert f"Permission denied: '{packages}'" in caplog.text


def test_no_directory_is_no_model(tmp_path: Path) -> None:
    assert open_packages(Settings(models_dir=tmp_path / "nowhere")) == []


def test_pivots(registry: Registry) -> None:
    assert registry.pivot(None, "en", "fr") is None
    assert registry.pivot(None, "fr", "de") == "en"
    assert registry.sources(None, "de") == ["en", "fr"]
    with pytest.raises(errors.UnknownDirection):
        registry.pivot("transformer", "fr", "de")
    with pytest.raises(errors.UnknownDirection):
        registry.pivot(None, "de", "fr")


def test_english_is_preferred_between() -> None:
    pairs = {("pt", "de"), ("de", "fr"), ("pt", "en"), ("en", "fr"), ("pt", "bg"), ("bg", "fr")}
    assert between(pairs, "pt", "fr") == ["en", "bg", "de"]
    assert between({("pt", "en"), ("en", "pt")}, "pt", "pt") == []
