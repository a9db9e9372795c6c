"""The two formats of models, and what is done with files that are broken."""

import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from export.marian.binary import CONFIG, Quantized, read_binary
from export.marian.load import load, read_tensors
from export.marian.npz import read_npz
from export.marian.reader import FileError
from tests.export.marian import tiny

KINDS = ("bin", "int8", "npz")
COUNT = 2000
"""Mutated files, of all kinds together."""
OWN = {"bin": 1 << 17, "int8": 1 << 17, "npz": 1 << 20}
"""Bytes that Python's objects take besides: an archive may name its entries with 64 KiB each, which errors quote."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("files")
    return {kind: tiny.write(root / f"model.{kind}", tiny.STUDENT, kind).read_bytes() for kind in KINDS}


@pytest.mark.parametrize("kind", ["bin", "npz"])
def test_tensors_come_back(kind: str, tmp_path: Path) -> None:
    found = read_tensors(tiny.write(tmp_path / f"model.{kind}", tiny.STUDENT, kind))
    expected = tiny.tensors(tiny.STUDENT)
    assert set(found) == {*expected, CONFIG}
    assert all(np.array_equal(found[name], value) for name, value in expected.items())  # type: ignore[arg-type]


def test_levels_come_back(tmp_path: Path) -> None:
    found = read_binary(tiny.write(tmp_path / "model.bin", tiny.STUDENT, "int8"))
    for name, value in tiny.tensors(tiny.STUDENT).items():
        tensor = found[name]
        assert isinstance(tensor, Quantized) == (min(value.shape) > 1)
        values = tensor.values if isinstance(tensor, Quantized) else tensor
        assert np.abs(values - value).max() <= np.abs(value).max() / 127 / 2 + 1e-6


@pytest.mark.parametrize(("kind", "width"), [(0x18001, 16), (0x11001, 32), (0x12001, 64), (0x13001, 64)])
def test_layouts_of_processors_come_back(kind: int, width: int, tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(-127, 128, (2 * width, 24)).astype(np.int8)
    # Eight outputs, of each as many inputs as a register holds, then the next inputs of the same outputs.
    blocks = [
        levels[row : row + width, output] for column in range(0, 24, 8) for row in range(0, 2 * width, width)
        for output in range(column, column + 8)
    ]  # fmt: skip
    data = np.concatenate(blocks).tobytes() + struct.pack("<f", 2.0)
    (tmp_path / "model.bin").write_bytes(tiny.pack([("encoder_l1_self_Wq", kind, levels.shape, data)]))
    found = read_binary(tmp_path / "model.bin")["encoder_l1_self_Wq"]
    assert isinstance(found, Quantized)
    assert np.array_equal(found.levels, levels)
    assert found.multiplier == 2.0


def test_half_precision_is_read(tmp_path: Path) -> None:
    values = np.arange(6, dtype="<f2").reshape(2, 3)
    (tmp_path / "model.bin").write_bytes(tiny.pack([("x", 0x402, (2, 3), values.tobytes())]))
    assert np.array_equal(read_binary(tmp_path / "model.bin")["x"], values.astype(np.float32))  # type: ignore[arg-type]


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Cut off, bits flipped, or numbers replaced by huge ones; mostly near the beginning, where the sizes are."""
    data = bytearray(content)
    choice = random.integers(4)
    if choice == 0:
        return bytes(data[: random.integers(len(data))])
    for _ in range(random.choice([1, 1, 3, 20])):
        where = int(random.integers(len(data) if random.random() < 0.3 else min(3000, len(data) - 8)))
        if choice == 1:
            data[where] ^= 1 << int(random.integers(8))
        elif choice == 2:
            data[where] = int(random.integers(256))
        else:
            huge = int(random.choice([0, 1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF]))
            place = where // 8 * 8
            data[place : place + 8] = struct.pack("<Q", huge)
    return bytes(data)


def outcome(path: Path) -> str:
    """What reading a file says; nothing where it loads."""
    try:
        read_tensors(path)
    except FileError as error:
        return str(error)
    return ""


def test_mutated_files_are_refused_or_load(files: dict[str, bytes], tmp_path: Path) -> None:
    """Reading never takes more than twice the file's size, nor fails in another way; some mutations do no harm."""
    random, outcomes = np.random.default_rng(0), []
    paths = {kind: tmp_path / ("model.npz" if kind == "npz" else "model.bin") for kind in KINDS}
    tracemalloc.start()
    try:
        for number in range(COUNT):
            kind = KINDS[number % len(KINDS)]
            content = mutated(files[kind], random)
            paths[kind].write_bytes(content)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            outcomes.append(found := outcome(paths[kind]))
            assert not found or str(paths[kind]) in found
            assert tracemalloc.get_traced_memory()[1] - before < 2 * len(content) + OWN[kind], (number, found)
    finally:
        tracemalloc.stop()
    assert COUNT / 20 < outcomes.count("") < COUNT * 3 / 4


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_models_are_refused_or_load(kind: str, files: dict[str, bytes], tmp_path: Path) -> None:
    """The configuration and the shapes included."""
    random, path, refused = np.random.default_rng(1), tmp_path / f"model.{'npz' if kind == 'npz' else 'bin'}", 0
    for _ in range(100):
        path.write_bytes(mutated(files[kind], random))
        try:
            load(path, 30, start=1)
        except FileError:
            refused += 1
    assert refused > 0


def test_a_table_that_promises_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(struct.pack("<QQ", 1, 1 << 60))
    with pytest.raises(FileError, match=r"model\.bin: at byte 16: the table of \d+ tensors has \d+ bytes, but only 0"):
        read_binary(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(struct.pack("<QQ", 2, 0))
    with pytest.raises(FileError, match="version 2"):
        read_binary(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(value: float, tmp_path: Path) -> None:
    for path, content in (
        (tmp_path / "model.bin", tiny.binary({"x": np.array([[1, value]], np.float32)})),
        (tmp_path / "model.npz", tiny.npz({"x": np.array([[1, value]], np.float32)})),
    ):
        path.write_bytes(content)
        with pytest.raises(FileError, match="no finite numbers"):
            read_tensors(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "model.npz"
    np.savez(path, x=np.array([Trap()], object))
    with pytest.raises(FileError, match="x is of no known type"):
        read_npz(path)
    assert not (tmp_path / "sprung").exists()


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(1 << 20))
    with pytest.raises(FileError, match="is compressed"):
        read_npz(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"model\.bin: No such file"):
        read_binary(tmp_path / "model.bin")
