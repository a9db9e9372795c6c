from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from export.build import build
from export.package import Package
from loadtests.peers import Search
from loadtests.peers.attentive import Attentive
from loadtests.peers.convert import pieces
from loadtests.shapes import SHAPES, learnt, read, write_run
from models.checkpoint import Run
from models.tokenizer import Tokenizer
from tests.packages import VOCABULARY, sentences

TINY = """
vocab_size = 1360
max_length = 64
size = 128
heads = 4
feed_forward_size = 256
encoder_layers = 2
decoder_layers = 2
"""


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapes") / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("set") / "invented.de-en.tsv"
    path.write_text("".join(f"{text}\t{text}\n" for text in sentences(200, seed=3)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(shape: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_run(tmp_path_factory.mktemp("runs") / "tiny", str(shape), pairs)


@pytest.fixture(scope="module")
def package(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return build(run, tmp_path_factory.mktemp("package"), "0", [(text, "en") for text in sentences(50)])[1]


@pytest.mark.parametrize("path", sorted(SHAPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shape_has_the_name_of_its_file(path: Path) -> None:
    name, config = read(path.stem)
    assert (name, config) == read(str(path))
    assert name == path.stem
    assert config.size % config.heads == 0


def test_what_is_no_shape_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.toml"):
        read("nowhere")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(TINY.replace("heads", "hats"), encoding="utf-8")
    with pytest.raises(ValidationError, match="hats"):
        read(str(wrong))


def test_a_run_of_a_shape_is_for_the_direction_that_is_measured(run: Run, shape: Path) -> None:
    assert run.config.name == "random-tiny"
    assert run.config.model == read(str(shape))[1]
    assert run.config.data.directions == [("de", "en")]


def test_a_tokenizer_may_be_smaller_than_its_model(run: Run) -> None:
    """The text is enough for a quarter of the vocabulary."""
    tokenizer, size = Tokenizer(run.tokenizer), run.config.model.vocab_size
    assert len(tokenizer) == size // 4 == VOCABULARY
    vocabulary = pieces(tokenizer, size)
    assert len(set(vocabulary)) == size


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 sentences are too little text"):
        learnt(["a", "b"], tmp_path / "tokenizer.model", 2**16, ["de"])


def test_the_same_shape_has_the_same_weights(run: Run, shape: Path, pairs: Path, tmp_path: Path) -> None:
    again = write_run(tmp_path / "again", str(shape), pairs).model().state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in run.model().state_dict().items())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("beam_size", [1, 4])
def test_targets_are_about_as_long_as_their_sources(package: Package, precision: str, beam_size: int) -> None:
    tokenizer = Tokenizer(package.tokenizer_path)
    sources = [tokenizer.source(text, "en") for text in sentences(60, seed=8)]
    system = Attentive(package, precision, 1)
    found = [each.token_ids for each in system.translate(sources, Search(beam_size, max_length=63))]
    system.close()
    read_, written = (np.array([len(ids) for ids in each]) for each in (sources, found))
    assert 0.7 < written.mean() / read_.mean() < 1.4
    assert np.corrcoef(read_, written)[0, 1] > 0.3
    assert len({tuple(ids) for ids in found}) > len(sources) / 2, "a model that always says the same proves nothing"
