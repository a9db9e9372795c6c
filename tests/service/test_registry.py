import shutil
from pathlib import Path

import pytest

from export.package import Package
from service import errors
from service.registry import Registry, open_models
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


def test_what_is_not_there(registry: Registry) -> None:
    with pytest.raises(errors.UnknownModel):
        registry.select("gpt", "en", "fr")
    with pytest.raises(errors.UnknownDirection):
        registry.select("transformer", "fr", "en")
    with pytest.raises(errors.UnknownDirection):
        registry.sources(None, "xx")


def test_languages(registry: Registry) -> None:
    assert registry.languages() == {"en": ["de", "fr"], "fr": ["en"]}
    assert registry.sources("transformer", "fr") == ["en"]


def test_a_damaged_package_is_named_and_the_others_serve(
    transformer_package: Package, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bad", "good", "later"):
        shutil.copytree(transformer_package.path, tmp_path / name)
    with (tmp_path / "bad" / "tokenizer.model").open("ab") as damaged:
        damaged.write(b"x")
    (tmp_path / "later" / "manifest.json").write_text('{"format": 99}')
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").write_text("")
    [model] = open_models(Settings(models_dir=tmp_path, threads=1))
    model.engine.close()
    refused = "\n".join(record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    for file in ("bad/tokenizer.model", "later/manifest.json", "empty/manifest.json"):
        assert str(tmp_path / file) in refused


def test_no_directory_is_no_model(tmp_path: Path) -> None:
    assert open_models(Settings(models_dir=tmp_path / "nowhere")) == []
