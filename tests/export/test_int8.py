"""8-bit weights and activations: scales, ranges, and what a row's neighbours do not change."""

from pathlib import Path

import numpy as np
import pytest

from export.graph import Graph
from export.int8 import FEW, Int8Layers, Range, quantize
from export.weights import Weights
from tests.export.exact import session

LOW, HIGH = -4.0, 4.0


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def multiplied(
    path: Path, x: np.ndarray, weight: np.ndarray, *, tied: bool = False, scale: float | None = None
) -> tuple[np.ndarray, Graph]:
    """``x [N, I]``, seen between -4 and 4, times ``weight [O, I]``, whose scale may be known; and the graph."""
    graph = Graph("test", Weights(path / "weights.bin"))
    known = {} if scale is None else {"layer": np.full(len(weight), scale)}
    layers = Int8Layers(graph, {"layer": Range(LOW, HIGH)}, {}, known)
    project = layers.project_tied if tied else layers.project
    value = project(
        graph.input("x", "float32", ["rows", x.shape[1]]), "layer", weight, np.zeros(len(weight), np.float32)
    )
    graph.output(value, "y", "float32", ["rows", "columns"])
    graph.save(path / "graph.onnx")
    return session(path / "graph.onnx").run(None, {"x": x})[0], graph


def test_quantize_is_exact_to_half_a_level_of_each_output(random: np.random.Generator) -> None:
    weight = random.normal(size=(8, 16)).astype(np.float32) * np.logspace(-3, 3, 8, dtype=np.float32)[:, None]
    values, scales = quantize(weight)
    assert values.dtype == np.int8
    assert np.abs(values).max(axis=1).tolist() == [127] * 8
    assert np.all(np.abs(values * scales[:, None] - weight) <= scales[:, None] / 2 * 1.001)


def test_quantize_survives_an_output_of_zeros() -> None:
    values, scales = quantize(np.zeros((2, 4), np.float32))
    assert not values.any()
    assert np.isfinite(1 / scales).all()


@pytest.mark.parametrize("tied", [False, True])
def test_an_int8_row_does_not_depend_on_its_companions(tied: bool, random: np.random.Generator, tmp_path: Path) -> None:
    weight, x = (random.normal(size=(rows, 64)).astype(np.float32) for rows in (24, 9))
    loud = x.copy()
    loud[1:] *= 1000
    alone, among, beside = (multiplied(tmp_path, rows, weight, tied=tied)[0][0] for rows in (x[:1], x, loud))
    assert alone.tolist() == among.tolist() == beside.tolist()


def test_few_rows_of_a_wide_product_get_their_scales_from_an_operator(
    random: np.random.Generator, tmp_path: Path
) -> None:
    """The same numbers to the bit, whichever way they come about."""
    weight, x = (random.normal(size=(rows, 64)).astype(np.float32) for rows in (24, FEW + 1))
    many, graph = multiplied(tmp_path, x, weight, tied=True)
    (branch,) = [node for node in graph.nodes if node.op_type == "If"]
    operators = {each.name: {node.op_type for node in each.g.node} for each in branch.attribute}
    assert "MatMulInteger" in operators["then_branch"]
    assert "MatMulIntegerToFloat" in operators["else_branch"]
    for rows in range(1, FEW + 1):
        assert multiplied(tmp_path, x[:rows], weight, tied=True)[0].tolist() == many[:rows].tolist()


@pytest.mark.parametrize(("low", "high"), [(-4.0, 4.0), (0.0, 4.0), (1.0, 3.0), (-3.0, -1.0), (-0.1, 4.0), (0.0, 0.0)])
def test_a_range_has_zero_among_its_levels_and_its_ends_within_half_a_step(low: float, high: float) -> None:
    values = Range(low, high)
    assert 0 <= values.zero_point <= 255
    for end in (min(low, 0), max(high, 0)):
        level = round(end / values.scale) + values.zero_point
        assert -1 <= level <= 256
        assert abs((level - values.zero_point) * values.scale - end) <= values.scale / 2 * 1.001


def test_what_is_out_of_range_is_clipped_and_does_not_wrap(tmp_path: Path) -> None:
    y, _ = multiplied(tmp_path, np.array([[1000.0], [-1000.0]], np.float32), np.ones((1, 1), np.float32))
    assert np.allclose(y[:, 0], [HIGH, LOW], atol=0.05)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("scale", [0.02, None])
def test_scales_that_are_alike_are_one_number(
    scale: float | None, tied: bool, random: np.random.Generator, tmp_path: Path
) -> None:
    weight = random.uniform(-127, 127, size=(40, 32)).round().astype(np.float32) * np.float32(0.02)
    high = 0 if tied else HIGH  # in branches sums may be cut, but not up to the middle level
    x = random.uniform(LOW, high, size=(5, 32)).astype(np.float32)
    y, graph = multiplied(tmp_path, x, weight, tied=tied, scale=scale)
    assert ("layer.scale" in graph.initializers) == (scale is None)
    assert np.abs(y - x @ weight.T).max() <= 0.02 * np.abs(x @ weight.T).max()
