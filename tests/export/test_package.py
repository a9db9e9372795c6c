import json
import shutil
from pathlib import Path

import pytest

from export.package import Package, PackageError

FILES = ["encoder.int8.onnx", "decoder.fp32.onnx", "weights.fp32.bin", "weights.int8.bin", "tokenizer.model"]


@pytest.fixture
def copy(transformer_package: Package, tmp_path: Path) -> Path:
    return Path(shutil.copytree(transformer_package.path, tmp_path / "package"))


def test_open_gives_back_what_was_saved(transformer_package: Package) -> None:
    assert Package.open(transformer_package.path).manifest == transformer_package.manifest


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(PackageError, match=f"{name}: No such file"):
        Package.open(copy)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_a_truncated_or_altered_file_is_named(copy: Path, name: str, change) -> None:
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    with pytest.raises(PackageError, match=f"{name}: differs"):
        Package.open(copy)


def test_a_later_format_is_refused_as_such(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format": 3, "flying": True}))
    with pytest.raises(PackageError, match=r"manifest\.json: format 3 is newer than 2"):
        Package.open(copy)


def test_an_earlier_format_is_refused_as_such(copy: Path) -> None:
    """Its other fields are other ones, too: that is not what is wrong with it."""
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["graphs"]
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format": 1, "memory": []}))
    with pytest.raises(PackageError, match=r"manifest\.json: format 1 is older than 2: export the model again"):
        Package.open(copy)


def test_a_missing_field_is_named(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["graphs"]["int8"]["weights"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match=r"manifest\.json: graphs\.int8\.weights: Field required"):
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
