"""The best tokens, looked for in blocks, are those of a whole row."""

from pathlib import Path

import numpy as np
import pytest

from export.best import BLOCKS, best, best_of
from export.graph import Graph
from export.runtime import onnxruntime
from export.weights import Weights


def build(path: Path, vocabulary: int) -> tuple[onnxruntime.InferenceSession, set[str]]:
    """A graph of nothing else, and the operators in it."""
    graph = Graph("test", Weights(path / "weights.bin"))
    best(graph, graph.input("logits", "float32", ["rows", vocabulary]), vocabulary)
    graph.save(path / "graph.onnx")
    session = onnxruntime.InferenceSession(str(path / "graph.onnx"), providers=["CPUExecutionProvider"])
    return session, {node.op_type for node in graph.nodes}


@pytest.mark.parametrize("vocabulary", [31, 32, 96, 340, 347, 1024, 4099, 16000])
@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_best_gives_ranked_log_probabilities(vocabulary: int, count: int, tmp_path: Path) -> None:
    """Also where more tokens than there are blocks are wanted, and of primes, which have no blocks."""
    logits = np.random.default_rng(vocabulary).normal(size=(7, vocabulary)).astype(np.float32) * 5
    session, operators = build(tmp_path, vocabulary)
    assert ("GatherND" in operators) == any(vocabulary % size == 0 for size in BLOCKS)
    ids, scores = session.run(["next_ids", "next_scores"], {"logits": logits, "top_k": np.array([count])})
    exact = logits.astype(np.float64)
    log_probs = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    expected = np.argsort(-exact, axis=1)[:, :count]
    assert ids.dtype == np.int64
    assert np.array_equal(ids, expected)
    assert np.allclose(scores, np.take_along_axis(log_probs, expected, axis=1), atol=1e-4)


@pytest.mark.parametrize("vocabulary", [96, 97])
def test_the_whole_vocabulary_can_be_ranked(vocabulary: int, tmp_path: Path) -> None:
    logits = np.random.default_rng(0).permuted(np.arange(vocabulary, dtype=np.float32)[None].repeat(3, 0), axis=1)
    session, _ = build(tmp_path, vocabulary)
    ids, _ = session.run(["next_ids", "next_scores"], {"logits": logits, "top_k": np.array([vocabulary])})
    assert np.array_equal(ids, np.argsort(-logits, axis=1))


@pytest.mark.parametrize("place", ["one block", "first of blocks", "last of blocks"])
def test_the_best_may_stand_anywhere(place: str, tmp_path: Path) -> None:
    size, vocabulary, count = 128, 1024, 5
    first = {"one block": 300, "first of blocks": 0, "last of blocks": size - 1}[place]
    chosen = [first + i * (1 if place == "one block" else size) for i in range(count)]
    logits = np.zeros((1, vocabulary), np.float32)
    logits[0, chosen] = np.arange(count, 0, -1)
    session, _ = build(tmp_path, vocabulary)
    ids, _ = session.run(["next_ids", "next_scores"], {"logits": logits, "top_k": np.array([count])})
    assert ids[0].tolist() == chosen


@pytest.mark.parametrize("count", [1, 4, 6, 9])
def test_the_best_of_candidates_are_tokens_of_the_vocabulary(count: int, tmp_path: Path) -> None:
    """More than there are come last, without a chance."""
    graph, nothing = Graph("test", Weights(tmp_path / "weights.bin")), 1
    logits, found = graph.input("logits", "float32", ["b", "c"]), graph.input("found", "int32", ["b", "c"])
    best_of(graph, logits, found, nothing)
    graph.save(tmp_path / "graph.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "graph.onnx"), providers=["CPUExecutionProvider"])
    feeds = {
        "found": np.array([[3, 30, 31, 50, 80, 81], [2, 4, 6, nothing, nothing, nothing]], np.int32),
        "logits": np.array([[0, 3, 1, 5, 4, 2], [1, 3, 2, -np.inf, -np.inf, -np.inf]], np.float32),
        "top_k": np.array([count]),
    }
    ids, scores = session.run(["next_ids", "next_scores"], feeds)
    assert ids.tolist() == [
        [50, 80, 30, 81, 31, 3, nothing, nothing, nothing][:count],
        [4, 6, 2, *[nothing] * 6][:count],
    ]
    assert np.allclose(np.exp(scores[0, :6]), (np.exp([5, 4, 3, 2, 1, 0]) / np.exp(range(6)).sum())[:count])
    assert np.allclose(np.exp(scores[1, :3]), (np.exp([3, 2, 1]) / np.exp([1, 2, 3]).sum())[:count])
    assert (scores[0, 6:] == -np.inf).all()
    assert (scores[1, 3:] == -np.inf).all()
