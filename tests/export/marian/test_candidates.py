"""The candidates that a graph finds are those of the shortlist, whoever else is in the batch."""

from pathlib import Path

import numpy as np
import pytest

from export.graph import Graph
from export.int8 import Int8Layers, Range
from export.linear import BLOCK, Float32Layers, Layers
from export.marian.candidates import GRAIN, Candidates
from export.marian.shortlist import Shortlist
from export.runtime import onnxruntime
from export.weights import Weights

SOURCES, TARGETS, NOTHING = 50, 333, 7
ROWS = 8


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
def known(shortlist: Shortlist) -> Candidates:
    bias = np.where(np.arange(TARGETS) == NOTHING, -1e9, np.arange(TARGETS) / 10)
    return Candidates(shortlist, bias, NOTHING)


@pytest.fixture
def session(known: Candidates, tmp_path: Path) -> onnxruntime.InferenceSession:
    graph = Graph("candidates", Weights(tmp_path / "weights.bin"))
    known.find(graph, graph.input("source", "int64", ["b", "s"]), graph.input("lengths", "int64", ["b"]))
    return opened(graph, tmp_path)


def batch(sources: list[list[int]], padding: int) -> dict[str, np.ndarray]:
    ids = np.full((len(sources), max(map(len, sources))), padding)
    for row, source in zip(ids, sources, strict=True):
        row[: len(source)] = source
    return {"source": ids, "lengths": np.array([len(source) for source in sources])}


@pytest.mark.parametrize("padding", [0, 9])
def test_each_sentence_has_its_own_once_and_in_order(
    session: onnxruntime.InferenceSession, known: Candidates, padding: int
) -> None:
    """What stands behind a sentence does not count, and neither does what stands beside it."""
    sources = [[4], [1, 2, 2, 3, 1], [10], [10, 10], [5, 9, 6], [11, 12, 13, 14, 15, 16, 17]]
    names = [spec.name for spec in known.specs]
    expected = [known.shortlist.of(np.array(source)).tolist() for source in sources]
    ranked = [sorted(sentence, key=known.order.tolist().index) for sentence in expected]
    counts = [len(set(sentence) & set(known.common.tolist())) for sentence in ranked]
    found, places, biases = session.run(names, batch(sources, padding))
    most = max(len(each) + -common % BLOCK for each, common in zip(ranked, counts, strict=True))
    assert found.shape == places.shape == biases.shape == (6, -(-most // GRAIN) * GRAIN)
    for row, sentence, common in zip(found, ranked, counts, strict=True):
        rare = -(-common // BLOCK) * BLOCK
        end = rare + len(sentence) - common
        assert [*row[:common].tolist(), *row[rare:end].tolist()] == sentence
        assert {*row[common:rare].tolist(), *row[end:].tolist()} <= {NOTHING}
    is_common = np.isin(found, known.common)
    assert np.array_equal(known.common[places][is_common], found[is_common])
    assert np.allclose(biases, np.where(found == NOTHING, -np.inf, found / 10))
    for source, row in zip(sources, found, strict=True):
        alone = session.run(names[:1], batch([source], padding))[0][0]
        assert alone.tolist() == row[: len(alone)].tolist()
        assert set(row[len(alone) :].tolist()) <= {NOTHING}


def test_what_frequent_sub_words_become_is_common(known: Candidates) -> None:
    """After what stands for nothing come those that every sentence has; the first source has the most weight."""
    assert known.order.tolist()[:4] == [NOTHING, 0, 1, 2]
    assert sorted(known.order.tolist()) == list(range(TARGETS))
    assert set(known.shortlist.of(np.array([0])).tolist()) <= set(known.common.tolist())


def test_no_sentence_has_more_than_there_is_room_for(session: onnxruntime.InferenceSession, known: Candidates) -> None:
    every = session.run(["memory.candidates"], batch([list(range(SOURCES))], 0))[0]
    assert every.shape == (1, known.axes["candidates"])


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
    x = graph.input("x", "float32", ["b", 32])
    places, ids = (graph.input(name, "int32", ["b", "k"]) for name in ("places", "ids"))
    layers, common = parts(precision, graph), random.permutation(TARGETS)[:100].astype(np.int32)
    graph.output(layers.project_some(x, "table", weight, common, places, ids), "some", "float32", ["b", "k"])
    graph.output(layers.project_tied(x, "table", weight, np.zeros(TARGETS, np.float32)), "all", "float32", ["b", "v"])
    session = opened(graph, tmp_path)
    values = random.normal(size=(ROWS, 32)).astype(np.float32)
    at = random.integers(0, len(common), (ROWS, 5 * BLOCK)).astype(np.int32)
    chosen = common[at]
    for row, begin in zip(chosen, [5, 0, 1, 2, 3, 4, 5, 0], strict=True):  # the first block of rare ones
        rare = np.setdiff1d(np.arange(TARGETS), common)
        row[BLOCK * begin :] = random.choice(rare, 5 * BLOCK - BLOCK * begin)
        row[BLOCK * begin + 1 :: BLOCK // 2] = common[0]
    for rows in range(1, ROWS + 1):
        feeds = {"x": values[:rows], "places": at[:rows], "ids": chosen[:rows]}
        found, every = session.run(["some", "all"], feeds)
        expected = np.take_along_axis(every, chosen[:rows], axis=1)
        assert np.array_equal(found, expected) if precision == "int8" else np.allclose(found, expected, atol=1e-4)
