from pathlib import Path

import numpy as np
import onnx
import pytest

from export.graph import MASKED, Graph
from export.runtime import onnxruntime
from export.weights import Weights


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return Graph("test", Weights(tmp_path / "weights.bin"))


def run(graph: Graph, path: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    graph.save(path / "graph.onnx")
    session = onnxruntime.InferenceSession(str(path / "graph.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_an_output_keeps_its_readers_of_before_and_after(graph: Graph, tmp_path: Path) -> None:
    """It takes its name in the middle of the graph, where some operators have read it already and others will."""
    x = graph.input("x", "float32", ["n"])
    value = graph.op("Mul", x, graph.number(2.0))
    before = graph.op("Add", value, graph.number(1.0))
    graph.output(value, "doubled", "float32", ["n"])
    after = graph.op("Add", value, graph.number(10.0))
    graph.output(before, "before", "float32", ["n"])
    graph.output(after, "after", "float32", ["n"])
    found = run(graph, tmp_path, x=np.array([1.0, 4.0], np.float32))
    assert found["doubled"].tolist() == [2, 8]
    assert found["before"].tolist() == [3, 9]
    assert found["after"].tolist() == [12, 18]
    assert not any(value in (*node.input, *node.output) for node in graph.nodes)


def test_one_of_several_outputs_of_an_operator_can_be_named(graph: Graph, tmp_path: Path) -> None:
    first, second = graph.many("Split", [graph.input("x", "int64", [4])], 2, axis=0, num_outputs=2)
    graph.output(second, "second", "int64", [2])
    graph.output(graph.op("Add", first, second), "sum", "int64", [2])
    found = run(graph, tmp_path, x=np.array([1, 2, 30, 40]))
    assert found["second"].tolist() == [30, 40]
    assert found["sum"].tolist() == [31, 42]


def test_a_weight_and_a_constant_are_there_once(graph: Graph) -> None:
    table = np.zeros((4, 4), np.float32)
    assert graph.weight("table", table) == graph.weight("table", table) == "table"
    assert graph.constant(1) == graph.constant(1)
    kinds = {graph.constant(1), graph.constant([1]), graph.constant(1, np.int32), graph.constant(2), graph.number(1)}
    assert len(kinds) == 5
    assert len(graph.initializers) == 6


def test_visible_masks_what_is_beyond_a_row(graph: Graph, tmp_path: Path) -> None:
    x, count = graph.input("x", "int64", ["batch", "size"]), graph.input("count", "int64", ["batch"])
    graph.output(graph.visible(graph.size(x, 1), count), "bias", "float32", ["batch", "size"])
    found = run(graph, tmp_path, x=np.zeros((2, 3), np.int64), count=np.array([1, 3]))
    assert found["bias"].tolist() == [[0, np.float32(MASKED), np.float32(MASKED)], [0, 0, 0]]


def test_a_size_is_a_scalar(graph: Graph, tmp_path: Path) -> None:
    graph.output(graph.size(graph.input("x", "int64", ["a", "b"]), 1), "size", "int64", [])
    found = run(graph, tmp_path, x=np.zeros((2, 5), np.int64))
    assert found["size"].shape == ()
    assert found["size"] == 5


def test_a_malformed_graph_is_not_written_silently(graph: Graph, tmp_path: Path) -> None:
    graph.output(graph.op("Relu", "nothing"), "y", "float32", ["n"])
    with pytest.raises(onnx.checker.ValidationError, match="nothing"):
        graph.save(tmp_path / "graph.onnx")
