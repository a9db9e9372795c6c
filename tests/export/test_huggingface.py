"""Marian models of the transformers library: our engine says what its ``generate`` says."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.build import write_graphs
from export.foreign import Foreign, open_foreign
from export.linear import Float32Layers
from export.marian.reader import FileError
from export.package import Alignment, File, Manifest, Package
from service.engine import Engine, Job
from tests.export.others import huggingface

INPUTS, LONGEST = 200, 30
CONFIGURATIONS: dict[str, dict] = {
    "plain": {"ending": 3.0},
    "relu, embeddings as they are": {"activation_function": "relu", "scale_embedding": False, "ending": 1.0},
    "gelu, deep encoder": {"activation_function": "gelu", "encoder_layers": 4, "decoder_layers": 1, "ending": 7.0},
    "many heads": {"d_model": 64, "encoder_attention_heads": 8, "decoder_attention_heads": 8, "ending": 5.0},
    "several targets": {"tags": (">>fra<<", ">>por<<"), "ending": 5.0},
}  # fmt: skip


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Foreign]:
    directory = tmp_path_factory.mktemp("model") / "opus"
    model = huggingface(directory, **CONFIGURATIONS[request.param])
    return model, open_foreign(directory)


@pytest.fixture(scope="module")
def engine(pair: tuple[Any, Foreign], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    found, path = pair[1], tmp_path_factory.mktemp("package")
    graphs = write_graphs(found.model, path, "fp32", Float32Layers, Float32Layers)
    manifest = Manifest(
        name="tiny",
        version="0",
        architecture="marian",
        directions=[],
        special=found.special,
        tags={},
        max_length=found.longest,
        tokenizer=File(name="none", sha256=""),
        graphs={"fp32": graphs},
        alignment=Alignment(shift=1, layer=0, heads="mean"),
        licence="CC0",
        training_data=[],
        parameters=0,
    )
    engine = Engine(Package(path, manifest), precision="fp32", threads=1)
    engine.start()
    yield engine
    engine.close()


def sources(found: Foreign, count: int) -> list[list[int]]:
    random, size = np.random.default_rng(0), found.model.shape.source_vocabulary
    return [[*random.integers(2, size - 1, random.integers(1, 12)).tolist(), 0] for _ in range(count)]


def generated(model: Any, found: Foreign, given: list[list[int]], beams: int) -> list[list[list[int]]]:
    """Token ids of the hypotheses of each input, best first, without the start, up to the end."""
    longest = max(map(len, given))
    ids = torch.tensor([[*source, *[model.config.pad_token_id] * (longest - len(source))] for source in given])
    outputs = model.generate(
        input_ids=ids,
        attention_mask=(ids != model.config.pad_token_id).long(),
        num_beams=beams,
        num_return_sequences=beams,
        do_sample=False,
        early_stopping=beams > 1,
        length_penalty=1.0,
        renormalize_logits=True,  # what is never written has no share
        max_new_tokens=LONGEST + 1,
        suppress_tokens=sorted({found.special.unk, found.special.pad, *found.tags.values()}),
    )
    rows = [row[1:] for row in outputs.tolist()]
    tokens = [row[: row.index(0)] if 0 in row else row[:LONGEST] for row in rows]
    return [tokens[first : first + beams] for first in range(0, len(tokens), beams)]


def written(engine: Engine, given: list[list[int]], beams: int) -> list[list[int]]:
    jobs = [Job(each, beam_size=beams, max_length=LONGEST, repetition_guard=False, attention=True) for each in given]
    results = [future.result()[0] for future in engine.submit_all(jobs)]
    attentions = [result.attention for result in results if result.token_ids]
    assert all(each is not None and np.allclose(each.sum(axis=1), 1, atol=1e-4) for each in attentions)
    return [result.token_ids for result in results]


def test_greedy_search_writes_the_same(pair: tuple[Any, Foreign], engine: Engine) -> None:
    given = sources(pair[1], INPUTS)
    expected = [hypotheses[0] for hypotheses in generated(*pair, given, beams=1)]
    assert written(engine, given, beams=1) == expected
    assert len({tuple(tokens) for tokens in expected}) > INPUTS / 8


def test_beam_search_finds_the_same(pair: tuple[Any, Foreign], engine: Engine) -> None:
    """Of inputs whose hypotheses all end: ours ranks one that was cut last, whatever its score."""
    given = sources(pair[1], 6 * INPUTS)
    found = zip(given, generated(*pair, given, beams=4), strict=True)
    chosen = [(source, ranked[0]) for source, ranked in found if max(map(len, ranked)) < LONGEST][:INPUTS]
    assert len(chosen) == INPUTS
    ours = written(engine, [source for source, _ in chosen], beams=4)
    differ = [each for each, tokens in zip(chosen, ours, strict=True) if each[1] != tokens]
    # What generate finds may depend on the other rows of its batch: then it is no reference.
    assert [source for source, tokens in differ if generated(*pair, [source], beams=4)[0][0] == tokens] == []
    assert len(differ) <= 1
    assert sum(len(tokens) for _, tokens in chosen) > INPUTS


def test_tags_are_those_of_the_vocabulary(tmp_path: Path) -> None:
    huggingface(tmp_path / "opus", tags=(">>fra<<", ">>por<<"))
    found = open_foreign(tmp_path / "opus")
    assert found.tags == {">>fra<<": 2, ">>por<<": 3}
    assert (found.model.output_bias.data[[1, 2, 3, found.special.pad]] < -1e8).all()


def test_texts_have_the_ids_of_the_model(tmp_path: Path) -> None:
    huggingface(tmp_path / "opus")
    numbers = json.loads((tmp_path / "opus" / "vocab.json").read_text())
    found = open_foreign(tmp_path / "opus")
    ids = found.source.encode("Bané tiko.")
    assert [found.source.model.id_to_piece(number) for number in ids] == found.source.model.encode(
        "Bané tiko.", out_type=str
    )
    assert ids == [numbers[found.source.model.id_to_piece(number)] for number in ids]
    assert found.target.decode(found.target.encode("Bané tiko.")) == "Bané tiko."


def test_pytorch_files_are_read_without_unpickling(tmp_path: Path) -> None:
    model, directory = huggingface(tmp_path / "opus"), tmp_path / "opus"
    same = open_foreign(directory).model.state_dict()
    (directory / "model.safetensors").unlink()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save(state, directory / "pytorch_model.bin")
    found = open_foreign(directory).model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in same.items())
    torch.save({"x": Path("anything")}, directory / "pytorch_model.bin")
    with pytest.raises(FileError, match="cannot be read"):
        open_foreign(directory)
    torch.save(state, directory / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(FileError, match=r"is not what torch 1\.6 and later write"):
        open_foreign(directory)
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps([1]))
    with pytest.raises(FileError, match=r"pytorch_model\.bin"):
        open_foreign(directory)


@pytest.mark.parametrize(
    ("entry", "value", "reason"),
    [
        ("model_type", "bart", "the entry model_type: 'bart' is not supported"),
        ("activation_function", "tanh", "activation_function"),
        ("normalize_before", True, "normalize_before"),
        ("d_model", None, "the entry d_model: 'None'"),
        ("d_model", 10**9, "fewer numbers|does not divide"),
        ("decoder_attention_heads", 1, "another number than encoder_attention_heads"),
        ("eos_token_id", 10**6, "a special token"),
        ("decoder_start_token_id", -1, "decoder_start_token_id"),
    ],
)
def test_an_entry_that_is_not_supported_is_named(entry: str, value: object, reason: str, tmp_path: Path) -> None:
    directory = tmp_path / "opus"
    huggingface(directory)
    config = json.loads((directory / "config.json").read_text()) | {entry: value}
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileError, match=reason):
        open_foreign(directory)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.json", "source.spm", "config.json"])
def test_broken_files_are_refused(name: str, tmp_path: Path) -> None:
    directory, random = tmp_path / "opus", np.random.default_rng(0)
    huggingface(directory)
    content = (directory / name).read_bytes()
    for size in random.integers(0, len(content) - 1, 20).tolist():
        (directory / name).write_bytes(content[:size])
        with pytest.raises(FileError):
            open_foreign(directory)
    (directory / name).unlink()
    with pytest.raises(FileError, match=r"No such file|it has 0 files"):
        open_foreign(directory)
