"""Every variant of the architecture against the same in numpy, in PyTorch and as graphs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.build import write_graphs
from export.decoder import GraphDecoder
from export.linear import Float32Layers
from export.marian.load import load
from export.marian.model import Marian
from export.package import Alignment, File, Graphs, Manifest, Package, Special
from models.translator import greedy
from tests.export.marian import tiny
from tests.export.marian.reference import Reference

LONGEST, EOS, UNK = 30, 0, 1


@pytest.fixture(params=list(tiny.VARIANTS))
def options(request: pytest.FixtureRequest) -> dict:
    return tiny.VARIANTS[request.param]


@pytest.fixture
def model(options: dict, tmp_path: Path) -> Marian:
    return load(tiny.write(tmp_path / "model.bin", options), LONGEST, start=UNK)


def sentences(options: dict, count: int = 6) -> list[tuple[list[int], list[int]]]:
    random = np.random.default_rng(1)
    sizes = options["dim-vocabs"]
    return [
        tuple([*random.integers(2, size, random.integers(1, 12)).tolist()] for size in sizes)  # type: ignore[misc]
        for _ in range(count)
    ]


def steps(model: Marian, source: list[int], target: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits and alignment after none, one, ... all of a target."""
    with torch.inference_mode():
        memory, state = model.encode(torch.tensor([source]), torch.tensor([len(source)]))
        found = []
        for position, token in enumerate([UNK, *target]):
            logits, state, attention = model.step(torch.tensor([token]), position, memory, state)
            found.append((logits[0].numpy(), attention[0].numpy()))
    return np.stack([logits for logits, _ in found]), np.stack([attention for _, attention in found])


def test_pytorch_computes_what_marian_does(options: dict, model: Marian) -> None:
    reference = Reference(options, tiny.tensors(options))
    for source, target in sentences(options):
        expected, aligned = reference.run([*source, EOS], target)
        logits, attention = steps(model, [*source, EOS], target)
        assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
        assert np.abs(attention - aligned).max() < 1e-4


def test_all_options_matter() -> None:
    """The variants differ from each other with the same seed, so that a test of one is a test of its options."""
    source = [5, 9, 20, 3, EOS]
    found = [Reference(options, tiny.tensors(options)).run(source, [4, 8])[0] for options in tiny.VARIANTS.values()]
    assert len({logits.tobytes() for logits in found}) == len(tiny.VARIANTS)


def package(model: Marian, path: Path) -> Package:
    graphs: Graphs = write_graphs(model, path, "fp32", Float32Layers, Float32Layers)
    manifest = Manifest(
        name="tiny",
        version="0",
        architecture="marian",
        directions=[("en", "pt")],
        special=Special(pad=EOS, unk=UNK, bos=UNK, eos=EOS),
        tags={},
        max_length=LONGEST,
        tokenizer=File(name="none", sha256=""),
        graphs={"fp32": graphs},
        alignment=Alignment(shift=0, layer=0, heads="0"),
        licence="CC0",
        training_data=[],
        parameters=0,
    )
    return Package(path, manifest)


def test_graphs_compute_what_pytorch_does(options: dict, model: Marian, tmp_path: Path) -> None:
    model.output_bias.data[[UNK]] = -1e9
    sources = [[*source, EOS] for source, _ in sentences(options)]
    lengths = np.array([len(source) for source in sources])
    ids = np.zeros((len(sources), lengths.max()), np.int64)
    for row, source in zip(ids, sources, strict=True):
        row[: len(source)] = source
    expected = greedy(model, torch.from_numpy(ids), torch.from_numpy(lengths), bos=UNK, eos=EOS, max_length=20)
    found = GraphDecoder(package(model, tmp_path), "fp32").greedy(ids, lengths, 20)
    assert found[0].tolist() == expected[0].tolist()
    ended = expected[0].numpy() == EOS
    alive = np.cumsum(ended, axis=1) - ended == 0
    assert np.abs(found[1] - expected[1].numpy())[alive].max() < 1e-3
    assert len({tuple(row) for row in found[0].tolist()}) > 1


def test_attention_of_the_graphs_is_that_of_the_chosen_layer_and_head(
    options: dict, model: Marian, tmp_path: Path
) -> None:
    decoder = GraphDecoder(package(model, tmp_path), "fp32")
    source, target = sentences(options)[0]
    source = [*source, EOS]
    tensors, found = decoder.start(np.array([source]), np.array([len(source)])), []
    for position, token in enumerate([UNK, *target]):
        step = {"token": np.array([token]), "position": np.array([position], np.int32), "top_k": np.array([1])}
        result = decoder.run(decoder.decoder, {**tensors, **step})
        tensors.update({spec.name: result[f"next_{spec.name}"] for spec in decoder.specs.state})
        found.append(result["attention"][0])
    assert np.abs(np.stack(found) - Reference(options, tiny.tensors(options)).run(source, target)[1]).max() < 1e-4
    assert np.allclose(np.sum(found, axis=1), 1, atol=1e-5)
