"""Keys and values as they are kept, and the attention that reads them and adds to them."""

from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pytest
import torch
from torch import nn

from export.graph import Graph
from export.int8 import LEVELS, Int8Layers, Range
from export.linear import Float32Layers, Layers
from export.package import READ, Precision
from export.weights import Weights
from tests.export.exact import session

B, H, T, D = 3, 2, 12, 16
SIZE = H * D
REACH = 3.0
"""Of what the cache of an int8 graph can hold."""


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def make(precision: Precision, path: Path) -> Layers:
    graph = Graph("test", Weights(path / "weights.bin"))
    if precision == "fp32":
        return Float32Layers(graph)
    ranges = dict.fromkeys(("a.key_value", "a.qkv"), Range(-4.0, 4.0))
    return Int8Layers(graph, ranges, {"a": np.linspace(REACH / 2, REACH, 2 * SIZE, dtype=np.float32)})


def steps(layers: Layers) -> np.ndarray:
    """What one level of each feature of keys and values stands for: ``[2, H, D]``."""
    ones = np.ones((2, H, D), np.float32)
    return layers.steps("a").reshape(2, H, D) if isinstance(layers, Int8Layers) else ones


def stored(values: np.ndarray, step: np.ndarray, kind: str) -> np.ndarray:
    """As a cache has them: ``[B, H, T, D], [H, D]``."""
    return values if kind == "float32" else np.round(values / step[:, None]).clip(-128, LEVELS).astype(np.int8)


class Attended(NamedTuple):
    context: np.ndarray
    """[B, H, D]"""
    before: list[np.ndarray]
    """Keys and values as they were kept, [B, H, T, D]"""
    after: list[np.ndarray]
    step: np.ndarray
    weights: np.ndarray | None
    """[B, H, T]"""


def attend(precision: Precision, path: Path, x: np.ndarray, cache: list[np.ndarray], last: np.ndarray) -> Attended:
    """``x [B, D]`` only looks, ``x [B, 3 D]`` adds to the cache first, in the steps that it is kept in."""
    layers, grow = make(precision, path), x.shape[1] == 3 * SIZE
    if grow:
        x = x / np.concatenate([np.ones(SIZE, np.float32), steps(layers).ravel()])
    g = layers.graph
    names = [g.input(name, layers.cache, ["batch", H, "time", D]) for name in ("key", "value")]
    inputs = g.input("x", "float32", ["batch", x.shape[1]]), g.input("last", "int32", ["batch"])
    size = g.op("Cast", g.size("key", 2), to=6)
    found = layers.attend(inputs[0], "a", names, inputs[1], size, H, grow=grow, aligned=not grow)
    kinds = ["float32", layers.cache, layers.cache, "float32"][: 3 if grow else 4]
    for i, kind in enumerate(kinds):
        g.output(found[i], f"output.{i}", kind, ["batch", SIZE] if i == 0 else ["batch", H, "a", "b"])
    g.save(path / "graph.onnx")
    reads = [output.name for output in g.outputs if output.name.startswith(READ)]
    assert reads == ([f"{READ}{name}" for name in names] if grow and precision == "int8" else [])
    past = [stored(values, step, layers.cache) for values, step in zip(cache, steps(layers), strict=True)]
    feeds = {"x": x, "last": last, "key": past[0].copy(), "value": past[1].copy()}
    outputs = [f"output.{i}" for i in range(len(kinds))]
    context, *rest = session(path / "graph.onnx").run(outputs, feeds)
    weights = None if grow else rest[2][:, :, 0]
    return Attended(context.reshape(B, H, D), past, rest[:2], steps(layers), weights)


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)


@pytest.fixture
def cache(random: np.random.Generator) -> list[np.ndarray]:
    return [random.normal(size=(B, H, T, D)).astype(np.float32) / 2 for _ in range(2)]


TOLERANCES = [("fp32", 1e-5), ("int8", 0.05)]


@pytest.mark.parametrize(("precision", "tolerance"), TOLERANCES)
def test_a_growing_row_sees_its_own_past_and_itself(
    precision: Precision, tolerance: float, random: np.random.Generator, cache: list[np.ndarray], tmp_path: Path
) -> None:
    qkv = random.normal(size=(B, 3 * SIZE)).astype(np.float32) / 2
    last = np.array([0, 4, T - 1], np.int32)
    found = attend(precision, tmp_path, qkv, cache, last)
    query, *new = qkv.reshape(B, 3, H, D).transpose(1, 0, 2, 3)
    for row, position in enumerate(last):
        key, value = (np.concatenate([cache[i][row, :, :position], new[i][row][:, None]], 1) for i in range(2))
        weights = softmax(np.einsum("hd,htd->ht", query[row], key) / np.sqrt(D))
        assert np.allclose(found.context[row], np.einsum("ht,htd->hd", weights, value), atol=tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), TOLERANCES)
def test_weights_are_those_of_the_positions_that_a_row_has(
    precision: Precision, tolerance: float, random: np.random.Generator, cache: list[np.ndarray], tmp_path: Path
) -> None:
    query = random.normal(size=(B, SIZE)).astype(np.float32)
    last = np.array([0, 4, T - 1], np.int32)
    found = attend(precision, tmp_path, query, cache, last)
    assert found.weights is not None
    assert np.allclose(found.weights.sum(axis=2), 1, atol=1e-5)
    for row, count in enumerate(last + 1):
        key, value = (kept[row, :, :count] for kept in cache)
        weights = softmax(np.einsum("hd,htd->ht", query[row].reshape(H, D), key) / np.sqrt(D))
        assert np.allclose(found.weights[row, :, :count], weights, atol=tolerance)
        assert not found.weights[row, :, count:].any()
        assert np.allclose(found.context[row], np.einsum("ht,htd->hd", weights, value), atol=tolerance)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_to_look_changes_nothing(
    precision: Precision, random: np.random.Generator, cache: list[np.ndarray], tmp_path: Path
) -> None:
    query = random.normal(size=(B, SIZE)).astype(np.float32)
    last = np.array([0, 4, T - 1], np.int32)
    found = attend(precision, tmp_path, query, cache, last)
    for before, after in zip(found.before, found.after, strict=True):
        for row, position in enumerate(last):
            assert np.array_equal(after[row, :, : position + 1], before[row, :, : position + 1])


@pytest.mark.parametrize("precision", get_args(Precision))
def test_the_past_of_a_row_stays_and_what_is_new_comes_behind(
    precision: Precision, random: np.random.Generator, cache: list[np.ndarray], tmp_path: Path
) -> None:
    qkv = random.normal(size=(B, 3 * SIZE)).astype(np.float32) / 2
    last = np.array([2, 7, T - 1], np.int32)
    found = attend(precision, tmp_path, qkv, cache, last)
    for kind, (before, after) in enumerate(zip(found.before, found.after, strict=True)):
        new = qkv.reshape(B, 3, H, D)[:, kind + 1]
        expected = stored(new[:, :, None], found.step[kind], str(before.dtype))[:, :, 0]
        for row, position in enumerate(last):
            assert np.array_equal(after[row, :, position], expected[row])
            assert np.array_equal(after[row, :, :position], before[row, :, :position])


def test_what_int8_cannot_hold_is_clipped_and_does_not_wrap(tmp_path: Path) -> None:
    qkv = np.zeros((B, 3 * SIZE), np.float32)
    qkv[:, SIZE : 2 * SIZE], qkv[:, 2 * SIZE :] = 10 * REACH, -10 * REACH
    empty = [np.zeros((B, H, T, D), np.float32)] * 2
    key, value = attend("int8", tmp_path, qkv, empty, np.zeros(B, np.int32)).after
    assert np.all(key[:, :, 0] == LEVELS)
    assert np.all(value[:, :, 0] <= -LEVELS)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_keep_gives_keys_and_values_as_they_are_kept(
    precision: Precision, random: np.random.Generator, tmp_path: Path
) -> None:
    """int8: the steps of the features are in the weights, so that what comes out of the product only needs rounding."""
    torch.manual_seed(0)
    key, value = nn.Linear(8, SIZE), nn.Linear(8, SIZE)
    layers = make(precision, tmp_path)
    g = layers.graph
    g.output(layers.keep(g.input("x", "float32", ["n", 8]), "a", key, value), "kept", layers.cache, ["n", 2 * SIZE])
    g.save(tmp_path / "graph.onnx")
    x = random.uniform(-2, 2, size=(6, 8)).astype(np.float32)
    (kept,) = session(tmp_path / "graph.onnx").run(["kept"], {"x": x})
    weights = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in (key, value)]
    expected = np.concatenate([x @ weight.T + bias for weight, bias in weights], axis=1)
    step = steps(layers).reshape(1, -1)
    expected = expected.clip(-128 * step, LEVELS * step) if precision == "int8" else expected
    product, rounding = (1e-5, np.zeros(1)) if precision == "fp32" else (0.08, step / 2)
    assert kept.dtype == layers.cache
    assert np.all(np.abs(kept * step - expected) <= product + rounding)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_a_query_stands_before_the_keys_and_values_that_are_kept(
    precision: Precision, random: np.random.Generator, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    parts = [nn.Linear(8, SIZE) for _ in range(3)]
    layers = make(precision, tmp_path)
    g = layers.graph
    both = layers.query_and_keep(g.input("x", "float32", ["n", 8]), "a", *parts)
    g.output(both, "both", "float32", ["n", 3 * SIZE])
    g.save(tmp_path / "graph.onnx")
    x = random.uniform(-2, 2, size=(6, 8)).astype(np.float32)
    (found,) = session(tmp_path / "graph.onnx").run(["both"], {"x": x})
    expected = np.concatenate([part(torch.from_numpy(x)).detach().numpy() for part in parts], axis=1)
    in_steps = np.concatenate([np.ones(SIZE, np.float32), steps(layers).ravel()])
    assert np.abs(found * in_steps - expected).max() <= (1e-5 if precision == "fp32" else 0.08)
