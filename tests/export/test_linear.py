import numpy as np
import onnxruntime
import pytest

from export.graph import Graph
from export.linear import Float32Layers, Int8Layers, Layers, Range, best, quantize
from export.package import Precision


def run(graph: Graph, path, **inputs: np.ndarray) -> list[np.ndarray]:
    graph.save(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def layers(precision: Precision, graph: Graph, low: float = -4.0, high: float = 4.0) -> Layers:
    return Float32Layers(graph) if precision == "fp32" else Int8Layers(graph, {"layer": Range(low, high)})


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def test_quantize_is_exact_to_half_a_level_of_each_channel(random: np.random.Generator) -> None:
    weight = random.normal(size=(16, 8)).astype(np.float32) * np.logspace(-3, 3, 8, dtype=np.float32)
    values, scales = quantize(weight, axis=1)
    assert values.dtype == np.int8
    assert np.all(np.abs(values * scales - weight) <= scales / 2 * 1.001)


def test_quantize_survives_a_channel_of_zeros() -> None:
    values, scales = quantize(np.zeros((4, 2), np.float32), axis=1)
    assert not values.any()
    assert np.isfinite(1 / scales).all()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("int8", 0.02)])
def test_project_multiplies(precision: Precision, tolerance: float, random: np.random.Generator, tmp_path) -> None:
    weight, bias = random.normal(size=(64, 24)).astype(np.float32), random.normal(size=24).astype(np.float32)
    x = random.normal(size=(5, 64)).astype(np.float32)
    graph = Graph("test")
    value = layers(precision, graph).project(graph.input("x", "float32", ["n", 64]), "layer", weight, bias)
    graph.output(value, "y", "float32", ["n", 24])
    (y,) = run(graph, tmp_path / "graph.onnx", x=x)
    expected = x @ weight + bias
    assert np.abs(y - expected).max() <= tolerance * np.abs(expected).max()


def test_an_int8_row_does_not_depend_on_its_companions(random: np.random.Generator, tmp_path) -> None:
    graph = Graph("test")
    weight = random.normal(size=(64, 24)).astype(np.float32)
    value = layers("int8", graph).project(graph.input("x", "float32", ["n", 64]), "layer", weight, None)
    graph.output(value, "y", "float32", ["n", 24])
    x = random.normal(size=(9, 64)).astype(np.float32)
    loud = x.copy()
    loud[1:] *= 1000
    assert np.array_equal(run(graph, tmp_path / "g.onnx", x=x)[0][0], run(graph, tmp_path / "g.onnx", x=loud)[0][0])
    assert np.array_equal(run(graph, tmp_path / "g.onnx", x=x)[0][0], run(graph, tmp_path / "g.onnx", x=x[:1])[0][0])


@pytest.mark.parametrize(("low", "high"), [(-4.0, 4.0), (0.0, 4.0), (1.0, 3.0), (-3.0, -1.0), (-0.1, 4.0), (0.0, 0.0)])
def test_a_range_has_zero_among_its_levels_and_its_ends_within_half_a_step(low: float, high: float) -> None:
    values = Range(low, high)
    assert 0 <= values.zero_point <= 255
    for end in (min(low, 0), max(high, 0)):
        level = round(end / values.scale) + values.zero_point
        assert -1 <= level <= 256
        assert abs((level - values.zero_point) * values.scale - end) <= values.scale / 2 * 1.001


def test_what_is_out_of_range_is_clipped_and_does_not_wrap(tmp_path) -> None:
    graph = Graph("test")
    value = layers("int8", graph).project(
        graph.input("x", "float32", ["n", 1]), "layer", np.ones((1, 1), np.float32), None
    )
    graph.output(value, "y", "float32", ["n", 1])
    (y,) = run(graph, tmp_path / "g.onnx", x=np.array([[1000.0], [-1000.0]], np.float32))
    assert np.allclose(y[:, 0], [4, -4], atol=0.05)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0), ("int8", 0.005)])
def test_embed_looks_up(precision: Precision, tolerance: float, random: np.random.Generator, tmp_path) -> None:
    table = random.normal(size=(11, 8)).astype(np.float32)
    graph = Graph("test")
    value = layers(precision, graph).embed(graph.input("ids", "int64", ["a", "b"]), "table", table)
    graph.output(value, "y", "float32", ["a", "b", 8])
    ids = np.array([[3, 10], [0, 3]])
    (y,) = run(graph, tmp_path / "graph.onnx", ids=ids)
    assert np.abs(y - table[ids]).max() <= tolerance * np.abs(table).max()


@pytest.mark.parametrize("count", [1, 4])
def test_best_gives_ranked_log_probabilities(count: int, random: np.random.Generator, tmp_path) -> None:
    logits = random.normal(size=(3, 50)).astype(np.float32) * 5
    graph = Graph("test")
    best(graph, graph.input("logits", "float32", ["n", 50]))
    ids, scores = run(graph, tmp_path / "graph.onnx", logits=logits, top_k=np.array([count]))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = np.argsort(-logits, axis=1)[:, :count]
    assert np.array_equal(ids, expected)
    assert np.allclose(scores, np.take_along_axis(log_probs, expected, axis=1), atol=1e-5)
