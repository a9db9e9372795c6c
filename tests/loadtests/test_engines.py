from pathlib import Path

import pytest
import typer

from export.package import Package
from loadtests import engines
from loadtests.engines import opened, read
from loadtests.sets import Set
from service.text.tokens import Tokenizer


def test_the_shipped_packages_are_opened_unless_others_are_named(
    transformer_package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "SHIPPED", transformer_package.path.parent)
    for paths in (None, [transformer_package.path]):
        assert [package.path for package in opened(paths, "int8")] == [transformer_package.path]
    monkeypatch.setattr(engines, "SHIPPED", tmp_path)
    with pytest.raises(typer.BadParameter, match="no package"):
        opened(None, "int8")


def test_a_package_that_cannot_be_used_is_named(transformer_package: Package, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"manifest\.json"):
        opened([tmp_path], "int8")
    with pytest.raises(typer.BadParameter, match="not int4"):
        opened([transformer_package.path], "int4")


def test_only_what_the_package_can_translate_is_read(transformer_package: Package) -> None:
    manifest = transformer_package.manifest
    texts = ["Banéti ko lu.", "sa " * manifest.max_length, "Ti."]
    sets = [Set("x", source, "fr", texts, texts) for source in ("en", "de")]
    found = read(transformer_package, sets)
    assert [(each.text, each.source, each.target, each.words) for each in found] == [
        (texts[0], "en", "fr", 3),
        (texts[2], "en", "fr", 1),
    ]
    ids = Tokenizer(transformer_package.tokenizer_path).encode(texts[:1])[0]
    assert found[0].source_ids == [manifest.tags["fr"], *ids, manifest.special.eos]
    with pytest.raises(ValueError, match="no sentence"):
        read(transformer_package, sets[1:])
