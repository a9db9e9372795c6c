import json
import shutil
from pathlib import Path

import pytest

from export.package import Package, PackageError


@pytest.fixture
def copy(transformer_package: Package, tmp_path: Path) -> Path:
    return Path(shutil.copytree(transformer_package.path, tmp_path / "package"))


def test_open_gives_back_what_was_saved(transformer_package: Package) -> None:
    assert Package.open(transformer_package.path).manifest == transformer_package.manifest


@pytest.mark.parametrize("name", ["encoder.int8.onnx", "decoder.fp32.onnx", "tokenizer.model", "manifest.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(PackageError, match=f"{name}: No such file"):
        Package.open(copy)


@pytest.mark.parametrize("name", ["encoder.int8.onnx", "decoder.fp32.onnx", "tokenizer.model"])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_a_truncated_or_altered_file_is_named(copy: Path, name: str, change) -> None:
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    with pytest.raises(PackageError, match=f"{name}: differs"):
        Package.open(copy)


def test_a_later_format_is_refused_as_such(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format": 2, "flying": True}))
    with pytest.raises(PackageError, match=r"manifest\.json: format 2 is newer than 1"):
        Package.open(copy)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", ".hidden", "a/b"])
def test_a_file_outside_the_package_is_refused(copy: Path, name: str) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["tokenizer"]["name"] = name
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match=r"tokenizer\.name"):
        Package.open(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\x00"])
def test_a_broken_manifest_is_named(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(PackageError, match=r"manifest\.json: "):
        Package.open(copy)


def test_an_unknown_precision_is_a_key_error(transformer_package: Package) -> None:
    with pytest.raises(KeyError):
        transformer_package.graph("fp64", "encoder")
