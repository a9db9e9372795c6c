"""The candidates that a graph finds are those of the shortlist, whoever else is in the batch."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.graph import Graph
from export.int8 import Int8Layers, Range
from export.linear import FEW, Float32Layers, Layers
from export.marian.candidates import GRAIN, biases, candidates, longest
from export.marian.shortlist import Shortlist
from export.weights import Weights

SOURCES, TARGETS, NOTHING = 50, 333, 7


@pytest.fixture
def shortlist() -> Shortlist:
    """Lists of none to sixty words; with some sources every word that there is."""
    random = np.random.default_rng(2)
    lists = [random.choice(TARGETS, random.integers(0, 60), replace=False) for _ in range(SOURCES)]
    lists[9], lists[10] = np.arange(TARGETS)[::-1], np.array([], np.int64)
    return Shortlist(3, np.cumsum([0, *map(len, lists)]), np.concatenate(lists))


def opened(graph: Graph, path: Path) -> onnxruntime.InferenceSession:
    graph.save(path / f"{graph.name}.onnx")
    return onnxruntime.InferenceSession(str(path / f"{graph.name}.onnx"), providers=["CPUExecutionProvider"])


@pytest.fixture
def session(shortlist: Shortlist, tmp_path: Path) -> onnxruntime.InferenceSession:
    graph = Graph("candidates", Weights(tmp_path / "weights.bin"))
    source, lengths = graph.input("source", "int64", ["b", "s"]), graph.input("lengths", "int64", ["b"])
    found = candidates(graph, shortlist, source, lengths, TARGETS, NOTHING)
    bias = np.where(np.arange(TARGETS) == NOTHING, -1e9, np.arange(TARGETS) / 10)
    graph.output(biases(graph, found, bias), "biases", "float32", ["b", "c"])
    graph.output(found, "found", "int32", ["b", "c"])
    return opened(graph, tmp_path)


def batch(sources: list[list[int]], padding: int) -> dict[str, np.ndarray]:
    ids = np.full((len(sources), max(map(len, sources))), padding)
    for row, source in zip(ids, sources, strict=True):
        row[: len(source)] = source
    return {"source": ids, "lengths": np.array([len(source) for source in sources])}


@pytest.mark.parametrize("padding", [0, 9])
def test_each_sentence_has_its_own_once_and_in_order(
    session: onnxruntime.InferenceSession, shortlist: Shortlist, padding: int
) -> None:
    """What stands behind a sentence does not count, and neither does what stands beside it."""
    sources = [[4], [1, 2, 2, 3, 1], [10], [10, 10], [5, 9, 6], [11, 12, 13, 14, 15, 16, 17]]
    found, bias = session.run(["found", "biases"], batch(sources, padding))
    most = max(len(shortlist.of(np.array(source))) for source in sources)
    assert found.shape == bias.shape == (6, -(-most // GRAIN) * GRAIN)
    for row, values, source in zip(found, bias, sources, strict=True):
        expected = shortlist.of(np.array(source))
        assert row[: len(expected)].tolist() == expected.tolist()
        assert set(row[len(expected) :].tolist()) <= {NOTHING}
        assert np.allclose(values, np.where(row == NOTHING, -np.inf, row / 10))
        alone = session.run(["found"], batch([source], padding))[0][0]
        assert alone[: len(expected)].tolist() == expected.tolist()


def test_no_sentence_has_more_than_there_is_room_for(session: onnxruntime.InferenceSession) -> None:
    assert session.run(["found"], batch([list(range(SOURCES))], 0))[0].shape == (1, longest(TARGETS))


def parts(precision: str, graph: Graph) -> Layers:
    if precision == "fp32":
        return Float32Layers(graph)
    return Int8Layers(graph, {"table": Range(-3.0, 3.2)}, {})


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("alike", [False, True])
def test_some_products_are_those_of_all(precision: str, alike: bool, tmp_path: Path) -> None:
    """To the bit in int8, for few rows and for many, with one scale or with one for each output."""
    random = np.random.default_rng(1)
    weight = random.normal(size=(TARGETS, 32)).astype(np.float32)
    weight[:, 0] = 5 if alike else weight[:, 0]  # the largest of each row
    graph = Graph("products", Weights(tmp_path / "weights.bin"))
    x, ids = graph.input("x", "float32", ["b", 32]), graph.input("ids", "int32", ["b", "k"])
    layers = parts(precision, graph)
    graph.output(layers.project_some(x, "table", weight, ids), "some", "float32", ["b", "k"])
    graph.output(layers.project_tied(x, "table", weight, np.zeros(TARGETS, np.float32)), "all", "float32", ["b", "v"])
    session = opened(graph, tmp_path)
    values = random.normal(size=(2 * FEW, 32)).astype(np.float32)
    chosen = random.integers(0, TARGETS, (2 * FEW, 40)).astype(np.int32)
    for rows in range(1, 2 * FEW + 1):
        some, every = session.run(["some", "all"], {"x": values[:rows], "ids": chosen[:rows]})
        expected = np.take_along_axis(every, chosen[:rows], axis=1)
        assert np.array_equal(some, expected) if precision == "int8" else np.allclose(some, expected, atol=1e-4)
