"""``attentive import``: directories of others become packages that are served."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from export import importer
from export.build import write_graphs
from export.foreign import open_foreign
from export.importer import draw, tags_of
from export.marian.binary import Quantized, read_binary
from export.marian.graphs import known
from export.marian.layers import MarianLayers
from export.marian.reader import FileError
from export.marian.vocabulary import Vocabulary
from export.package import Package
from service.engine import Engine, Job
from service.registry import Model
from service.text.tokens import Tokenizer
from tests.export.others import firefox, huggingface, train_vocabulary, write_shortlist
from tests.packages import sentences

app = typer.Typer()
app.command()(importer.main)


def imported(directory: Path, output: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [str(directory), "--output", str(output), *arguments])


def translate(path: Path, texts: Sequence[str], target: str) -> list[str]:
    package = Package.open(path)
    engine = Engine(package, precision="int8", threads=1)
    engine.start()
    tokenizer = Tokenizer(package.tokenizer_path, package.target_tokenizer_path)
    model = Model(package.manifest, engine, tokenizer)
    jobs = [Job(model.source_ids(ids, target), attention=True) for ids in tokenizer.encode(list(texts))]
    results = [future.result()[0] for future in engine.submit_all(jobs)]
    engine.close()
    shapes = [each.attention.shape for each in results if each.attention is not None]
    assert shapes == [(len(each.token_ids), len(job.source_ids)) for each, job in zip(results, jobs, strict=True)]
    assert not any({package.manifest.special.unk, package.manifest.special.pad} & set(r.token_ids[1:]) for r in results)
    return [tokenizer.decode(result.token_ids).text for result in results]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """A Firefox student's directory, its package, and what the command said."""
    root = tmp_path_factory.mktemp("student")
    directory = firefox(root / "enpt")
    (directory / "modelMeta.json").write_text(json.dumps({"name": "Invented English to Portuguese", "version": 2}))
    lines = "\n".join(sentences(200, seed=3))
    (root / "lines.txt").write_text(lines)
    result = imported(directory, root / "package", "--name", "en-pt", "--sentences", str(root / "lines.txt"))
    return directory, root / "package", result


def test_a_student_becomes_a_package(student: tuple[Path, Path, Result]) -> None:
    directory, path, result = student
    assert result.exit_code == 0, result.output
    assert "fp32" in result.output
    assert "licence: none was found" in result.output
    manifest = Package.open(path).manifest
    assert manifest.directions == [("en", "pt")]
    assert manifest.precisions == ["int8"]
    assert manifest.tags == {}
    assert manifest.alignment.model_dump() == {"shift": 0, "layer": 1, "heads": "0"}
    assert manifest.origin == f"{directory.name}, Invented English to Portuguese, 2"
    card = (path / "README.md").read_text()
    assert "none was found beside the model" in card
    assert "Invented English to Portuguese" in card
    assert len(set(translate(path, sentences(20, seed=4), "pt"))) > 3


def test_levels_of_quantised_weights_are_kept(student: tuple[Path, Path, Result]) -> None:
    directory, path, _ = student
    stored = (path / "weights.int8.bin").read_bytes()
    found = read_binary(next(directory.glob("*.bin")))
    up, table = found["encoder_l2_ffn_W1"], found["Wemb"]
    assert isinstance(up, Quantized)
    assert isinstance(table, Quantized)
    assert up.levels.tobytes() in stored
    assert table.levels.tobytes() in stored


def test_a_shortlist_beside_the_model_is_used_unless_it_is_not_wanted(tmp_path: Path) -> None:
    """fp32 is checked against PyTorch with the same shortlist: else nothing would be written."""
    directory = firefox(tmp_path / "enpt")
    lists = write_shortlist(directory)
    texts = sentences(20, seed=4)
    found = imported(directory, tmp_path / "found", "--name", "en-pt")
    assert found.exit_code == 0, found.output
    assert "its shortlist" in found.output
    manifest = Package.open(tmp_path / "found").manifest
    assert manifest.graphs["int8"].axes == {"candidates": 256}
    assert manifest.graphs["int8"].memory[-1].pad == -np.inf
    without = imported(directory, tmp_path / "without", "--name", "en-pt", "--full-vocabulary")
    assert without.exit_code == 0, without.output
    assert "its shortlist" not in without.output
    assert Package.open(tmp_path / "without").manifest.graphs["int8"].axes == {}
    elsewhere = lists.rename(tmp_path / "lists.bin")
    named = imported(directory, tmp_path / "named", "--name", "en-pt", "--shortlist", str(elsewhere))
    assert named.exit_code == 0, named.output
    said = [translate(tmp_path / name, texts, "pt") for name in ("found", "without", "named")]
    assert said[0] == said[2] != said[1]


def test_a_shortlist_that_is_none_is_refused(tmp_path: Path) -> None:
    """Every bit of the head matters, and so does the length."""
    directory = firefox(tmp_path / "enpt")
    lists = write_shortlist(directory)
    content = lists.read_bytes()
    for offset in (0, 16, 32, 40, 48):
        lists.write_bytes(bytes([*content[:offset], content[offset] ^ 0xFF, *content[offset + 1 :]]))
        with pytest.raises(FileError, match=r"lex\.50\.50"):
            open_foreign(directory)
    lists.write_bytes(content[:-1])
    result = imported(directory, tmp_path / "package", "--name", "en-pt")
    assert result.exit_code == 2
    assert not (tmp_path / "package").exists()
    lists.write_bytes(content)
    (directory / "lex.other.bin").write_bytes(content)
    with pytest.raises(FileError, match="it has 2 files"):
        open_foreign(directory)
    huggingface(tmp_path / "opus")
    with pytest.raises(FileError, match="no part of a model of the transformers library"):
        open_foreign(tmp_path / "opus", lists)


def test_a_model_of_several_targets_has_tags(tmp_path: Path) -> None:
    huggingface(tmp_path / "opus", tags=(">>fra<<", ">>por<<"))
    (tmp_path / "opus" / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# A model\n")
    arguments = ["--name", "en-many", "--direction", "en-fr", "--direction", "en-pt"]
    refused = imported(tmp_path / "opus", tmp_path / "package", *arguments)
    assert refused.exit_code == 2
    assert "has no >>fr<<" in refused.output
    result = imported(
        tmp_path / "opus", tmp_path / "package", *arguments, "--tag", "fr=fra", "--tag", "pt=por", "--precision", "all"
    )
    assert result.exit_code == 0, result.output
    manifest = Package.open(tmp_path / "package").manifest
    assert manifest.tags == {"fr": 2, "pt": 3}
    assert manifest.licence == "cc-by-4.0"
    assert manifest.target_tokenizer is not None
    assert manifest.precisions == ["fp32", "int8"]
    texts = sentences(20, seed=4)
    assert translate(tmp_path / "package", texts, "fr") != translate(tmp_path / "package", texts, "pt")


def test_a_tag_that_says_nothing_of_a_target_is_refused(tmp_path: Path) -> None:
    huggingface(tmp_path / "opus", tags=(">>fr<<", ">>fra<<"))
    found = open_foreign(tmp_path / "opus")
    assert tags_of(found, [("en", "fr")], []) == {"fr": 2}
    assert tags_of(found, [("en", "fr")], ["fr=fra"]) == {"fr": 3}
    for wrong in ("fr:fra", "fr=", "fr", "de=fra"):
        with pytest.raises(typer.BadParameter, match=f"--tag {wrong}: a tag is written as fr=fra, for one of fr"):
            tags_of(found, [("en", "fr")], [wrong])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--name", "student"], "a direction is written as en-pt"),
        (["--name", "en-pt", "--direction", "English"], "a direction is written as en-pt"),
        (["--name", "../en-pt"], "a name has letters"),
        (["--name", "x", "--direction", "en-pt", "--direction", "en-fr"], "writes one only"),
        (["--name", "en-pt", "--tag", "pt=por"], "no tags"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], reason: str, tmp_path: Path) -> None:
    result = imported(firefox(tmp_path / "enpt"), tmp_path / "package", *arguments)
    assert result.exit_code == 2
    assert reason in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "package").exists()


def test_a_directory_that_is_no_package_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    result = imported(firefox(tmp_path / "enpt"), tmp_path / "mine", "--name", "en-pt")
    assert result.exit_code == 2
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_too_few_sentences_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\n\ntwo\n")
    result = imported(
        firefox(tmp_path / "enpt"), tmp_path / "package", "--name", "en-pt", "--sentences", str(tmp_path / "lines.txt")
    )
    assert "has 2 sentences" in " ".join(result.output.replace("│", " ").split())


def test_two_vocabularies_are_told_apart(tmp_path: Path) -> None:
    found = open_foreign(firefox(tmp_path / "enja", "float", sides=2))
    assert found.source.content != found.target.content
    assert not found.model.source_embedding.weight.equal(found.model.target_embedding.weight)


def test_levels_of_a_table_of_each_side_are_kept(tmp_path: Path) -> None:
    directory = firefox(tmp_path / "enja", sides=2)
    model = open_foreign(directory).model
    layers = partial(MarianLayers, ranges={}, magnitudes={}, known=known(model))
    write_graphs(model, tmp_path, "int8", MarianLayers, layers)
    stored = (tmp_path / "weights.int8.bin").read_bytes()
    found = read_binary(next(directory.glob("*.bin")))
    for name in ("encoder_Wemb", "decoder_Wemb"):
        table = found[name]
        assert isinstance(table, Quantized)
        assert table.levels.tobytes() in stored


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_texts_without_sentences_are_made_of_what_is_frequent_in_text(kind: str, tmp_path: Path) -> None:
    path = train_vocabulary(tmp_path / "it.spm", 500, model_type=kind, byte_fallback=True, user_defined_symbols=["##"])
    vocabulary = Vocabulary.open(path)
    usual, frequencies = vocabulary.frequencies()
    assert frequencies.sum() == pytest.approx(1)
    assert frequencies.max() < 0.2
    assert not any(vocabulary.model.is_byte(number) for number in usual)
    texts = draw(vocabulary, 50)
    assert not any("##" in text or "\ufffd" in text for text in texts)
    assert len(set(vocabulary.encode(" ".join(texts)))) > 50


def test_what_judges_translations_is_no_second_model(tmp_path: Path) -> None:
    directory = firefox(tmp_path / "enes")
    (directory / "qualityModel.enes.bin").write_bytes(b"")
    assert open_foreign(directory).special.eos == 0


def test_an_archive_is_read_as_well(tmp_path: Path) -> None:
    archive, binary = (open_foreign(firefox(tmp_path / kind, kind)).model for kind in ("npz", "float"))
    for name, value in binary.state_dict().items():
        assert np.array_equal(archive.state_dict()[name].numpy(), value.numpy())


def test_a_directory_that_lacks_files_is_refused(tmp_path: Path) -> None:
    directory = firefox(tmp_path / "enpt")
    train_vocabulary(directory / "other.spm")
    with pytest.raises(FileError, match="2 files"):
        open_foreign(directory)
    with pytest.raises(FileError, match="is no directory"):
        open_foreign(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="0 files"):
        open_foreign(tmp_path / "empty")


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    directory = firefox(tmp_path / "enpt")
    train_vocabulary(directory / "vocab.enpt.spm", size=300, seed=5, byte_fallback=True)
    with pytest.raises(FileError, match="the source vocabulary has"):
        open_foreign(directory)
