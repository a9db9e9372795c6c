from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.build import NEVER
from export.graph import Graph
from export.int8 import Int8Layers, Range
from export.linear import Float32Layers, Layers
from export.package import Precision
from export.weights import Weights
from tests.export.exact import session

LOW, HIGH = -4.0, 4.0
Make = Callable[[Precision], Layers]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Layers of a graph of their own; in int8 the input of each has been seen between -4 and 4."""

    torch.manual_seed(0)

    def layers(precision: Precision) -> Layers:
        graph = Graph("test", Weights(tmp_path / "weights.bin"))
        if precision == "fp32":
            return Float32Layers(graph)
        return Int8Layers(graph, dict.fromkeys(("layer", "layer.up", "layer.down"), Range(LOW, HIGH)), {})

    return layers


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def run(layers: Layers, value: str, path: Path, **inputs: np.ndarray) -> np.ndarray:
    layers.graph.output(value, "y", "float32", ["rows", "columns"])
    layers.graph.save(path / "graph.onnx")
    return session(path / "graph.onnx").run(None, inputs)[0]


def matrix(layers: Layers, size: int) -> str:
    return layers.graph.input("x", "float32", ["rows", size])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("int8", 0.02)])
def test_project_multiplies(
    make: Make, precision: Precision, tolerance: float, tied: bool, random: np.random.Generator, tmp_path: Path
) -> None:
    weight, bias = random.normal(size=(24, 64)).astype(np.float32), random.normal(size=24).astype(np.float32)
    x = random.normal(size=(5, 64)).astype(np.float32)
    if tied:  # in branches sums may be cut, but not up to the middle level
        x = -np.abs(x)
    layers = make(precision)
    project = layers.project_tied if tied else layers.project
    y = run(layers, project(matrix(layers, 64), "layer", weight, bias), tmp_path, x=x)
    expected = x @ weight.T + bias
    assert np.abs(y - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_layers_that_read_the_same_input_are_one_product(make: Make, precision: Precision, tmp_path: Path) -> None:
    first, second = nn.Linear(16, 4), nn.Linear(16, 3, bias=False)
    layers, x = make(precision), np.random.default_rng(0).uniform(LOW, HIGH, (6, 16)).astype(np.float32)
    y = run(layers, layers.linear(matrix(layers, 16), "layer", first, second), tmp_path, x=x)
    weights = [layer.weight.detach().numpy() for layer in (first, second)]
    expected = np.concatenate([x @ weights[0].T + first.bias.detach().numpy(), x @ weights[1].T], axis=1)
    assert np.abs(y - expected).max() <= 0.05


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("int8", 0.1)])
def test_feed_forward_cuts_what_is_below_zero(
    make: Make, precision: Precision, tolerance: float, tmp_path: Path
) -> None:
    """In int8 the hidden layer has no operator of its own: its zero point does the ReLU."""
    up, down = nn.Linear(8, 32), nn.Linear(32, 4)
    layers, x = make(precision), np.random.default_rng(0).uniform(LOW, HIGH, (50, 8)).astype(np.float32)
    value = layers.feed_forward(matrix(layers, 8), "layer", up, down)
    assert any(node.op_type == "Relu" for node in layers.graph.nodes) == (precision == "fp32")
    parameters = [parameter.detach().numpy() for layer in (up, down) for parameter in layer.parameters()]
    hidden = np.clip(x @ parameters[0].T + parameters[1], 0, HIGH if precision == "int8" else None)
    assert (hidden == 0).mean() > 0.3
    expected = hidden @ parameters[2].T + parameters[3]
    assert np.abs(run(layers, value, tmp_path, x=x) - expected).max() <= tolerance


@pytest.mark.parametrize("factor", [1.0, 8.0])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0), ("int8", 0.005)])
def test_embed_looks_up(
    make: Make, precision: Precision, tolerance: float, factor: float, random: np.random.Generator, tmp_path: Path
) -> None:
    table = random.normal(size=(11, 8)).astype(np.float32)
    layers = make(precision)
    value = layers.embed(layers.graph.input("ids", "int64", ["rows"]), "table", table, factor)
    ids = np.array([3, 10, 0, 3])
    y = run(layers, value, tmp_path, ids=ids)
    assert np.abs(y - factor * table[ids]).max() <= tolerance * factor * np.abs(table).max()


@pytest.mark.parametrize("row", ["usual", "tiny", "zero"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_forbidden_token_is_impossible(
    make: Make, precision: Precision, row: str, random: np.random.Generator, tmp_path: Path
) -> None:
    """Its bias is cut to what an int32 of the row's scale can hold, which must still be out of reach."""
    weight, bias = random.normal(size=(24, 64)).astype(np.float32), random.normal(size=24).astype(np.float32)
    weight[5] *= {"usual": 1.0, "tiny": 1e-3, "zero": 0.0}[row]
    bias[5] = NEVER
    x = 100 * random.normal(size=(200, 64)).astype(np.float32)
    layers = make(precision)
    y = run(layers, layers.project_tied(matrix(layers, 64), "layer", weight, bias), tmp_path, x=x)
    others = np.delete(y, 5, axis=1)
    assert np.isfinite(y).all()
    assert np.all(y[:, 5] < others.min(axis=1) - 500)
