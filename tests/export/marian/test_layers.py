"""Products, sums and norms of imported 8-bit models, as the engine that they were made for computes them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.build import int8_layers, write_graphs
from export.graph import Graph
from export.int8 import LEVELS, Int8Layers
from export.marian.graphs import known as known_of
from export.marian.layers import IN_ORDER, Known, MarianLayers, OrderedLayers
from export.marian.load import load, positions
from export.package import Part
from export.runtime import onnxruntime
from export.weights import Weights
from tests.export.marian import tiny

INPUT, WEIGHT = 8.0, 50.0
CPU = Path("/proc/cpuinfo")
FLAGS = set(CPU.read_text(encoding="utf-8").split()) if CPU.exists() else set()
in_order = pytest.mark.skipif(
    "fma" not in FLAGS or "avx512f" in FLAGS, reason="in which order floats are added up was seen with AVX2 only"
)
Build = Callable[[MarianLayers, str], str]


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def run(path: Path, build: Build, x: np.ndarray, *, exact: bool = False, part: Part = "encoder") -> np.ndarray:
    """What the operators that ``build`` makes do with ``x``; in ``exact``, no sums of products are cut."""
    graph = Graph(part, Weights(path / "weights.bin"))
    known = {
        name: Known(INPUT, np.full(size, WEIGHT)) for name, size in (("layer", 24), ("up", 32), ("layer.down", 24))
    }
    axes = [*(f"axis {i}" for i in range(x.ndim - 1)), x.shape[-1]]
    value = build(OrderedLayers(graph, {}, {}, known | {"layer.up": known["up"]}), graph.input("x", "float32", axes))
    graph.output(value, "y", "float32", [f"axis of y {i}" for i in range(x.ndim)])
    graph.save(path / "graph.onnx")
    options = onnxruntime.SessionOptions()
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(str(path / "graph.onnx"), options).run(None, {"x": x})[0]


def linear(levels: np.ndarray, bias: np.ndarray) -> nn.Linear:
    layer = nn.Linear(levels.shape[1], levels.shape[0])
    layer.weight.data = torch.from_numpy((levels / WEIGHT).astype(np.float32))
    layer.bias.data = torch.from_numpy(bias)
    return layer


def sums(x: np.ndarray, levels: np.ndarray, *, cut: bool = False) -> np.ndarray:
    """Of products of bytes with the weights' levels ``[O, I]``; ``cut``: of each two neighbours, to 16 bits."""
    bytes_ = np.clip(np.rint(x * INPUT), -LEVELS, LEVELS).astype(np.int32) + LEVELS
    products = bytes_[:, None] * levels.astype(np.int32)
    pairs = products[..., 0::2] + products[..., 1::2]
    return (np.clip(pairs, -(2**15), 2**15 - 1) if cut else pairs).sum(axis=-1)


def floats(found: np.ndarray, levels: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Marian's way from sums to numbers: rounded after each operation."""
    step = np.float32(1) / (np.float32(INPUT) * np.float32(WEIGHT))
    correction = np.float32(LEVELS) * step * levels.sum(axis=1, dtype=np.int32).astype(np.float32)
    return found.astype(np.float32) * step + (bias - correction)


def test_a_product_is_marians_to_the_bit(random: np.random.Generator, tmp_path: Path) -> None:
    """Halves are rounded to even levels, and what is larger than the largest level becomes that."""
    levels, bias = random.integers(-60, 61, (24, 64)).astype(np.int8), random.normal(size=24).astype(np.float32)
    x = random.integers(-2100, 2101, (9, 64)).astype(np.float32) / (16 * INPUT)
    assert np.abs(x * INPUT).max() > LEVELS + 1
    y = run(tmp_path, lambda layers, value: layers.linear(value, "layer", linear(levels, bias)), x)
    assert np.array_equal(y, floats(sums(x, levels), levels, bias))


@pytest.mark.parametrize("exact", [False, True])
def test_sums_are_cut_in_neighbouring_pairs_or_not_at_all(
    exact: bool, random: np.random.Generator, tmp_path: Path
) -> None:
    """It is the processor that decides; nothing is cut where the session is asked not to."""
    levels, bias = random.integers(-127, 128, (24, 64)).astype(np.int8), np.zeros(24, np.float32)
    x = random.uniform(-16, 16, (9, 64)).astype(np.float32)
    y = run(tmp_path, lambda layers, value: layers.linear(value, "layer", linear(levels, bias)), x, exact=exact)
    whole, cut = (floats(sums(x, levels, cut=how), levels, bias) for how in (False, True))
    assert (whole != cut).mean() > 0.5
    assert np.array_equal(y, whole) or (np.array_equal(y, cut) and not exact)


def test_what_is_below_zero_is_cut_between_the_products(random: np.random.Generator, tmp_path: Path) -> None:
    """There is no operator for it."""
    levels = random.integers(-60, 61, (32, 64)).astype(np.int8), random.integers(-60, 61, (24, 32)).astype(np.int8)
    bias = random.normal(size=32).astype(np.float32), random.normal(size=24).astype(np.float32)
    x = random.normal(size=(9, 64)).astype(np.float32)
    up, down = (linear(*each) for each in zip(levels, bias, strict=True))

    def build(layers: MarianLayers, value: str) -> str:
        made = layers.feed_forward(value, "layer", up, down)
        assert "Relu" not in {node.op_type for node in layers.graph.nodes}
        return made

    hidden = np.maximum(floats(sums(x, levels[0]), levels[0], bias[0]), 0)
    assert (hidden > 0).any()
    assert (hidden == 0).any()
    assert np.array_equal(run(tmp_path, build, x), floats(sums(hidden, levels[1]), levels[1], bias[1]))


@pytest.mark.parametrize("bits", [False, pytest.param(True, marks=in_order)])
def test_scores_are_added_up_in_order(bits: bool, random: np.random.Generator, tmp_path: Path) -> None:
    x = 3 * random.normal(size=(2, 7, 4, 16)).astype(np.float32)
    y = run(tmp_path, lambda layers, value: layers.scores(value, value, 4, 16), x)
    products = x.transpose(0, 2, 1, 3)[:, :, :, None] * x.transpose(0, 2, 1, 3)[:, :, None]
    expected = np.cumsum(products, axis=-1, dtype=np.float32)[..., -1] * np.float32(0.25)
    assert np.array_equal(y, expected) if bits else np.allclose(y, expected, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize(
    ("part", "size", "bits"),
    [
        ("encoder", 256, False),
        pytest.param("encoder", 256, True, marks=in_order),
        ("encoder", 2 * IN_ORDER, False),
        ("decoder", 256, False),
    ],
)
def test_a_norm_is_added_up_in_order(
    part: Part, size: int, bits: bool, rows: int, random: np.random.Generator, tmp_path: Path
) -> None:
    """Of larger rows, and in the decoder, it is the runtime's own."""
    layer = nn.LayerNorm(size, 1e-6)
    for parameter in layer.parameters():
        parameter.data = torch.from_numpy(random.normal(size=size).astype(np.float32))
    x = 2 * random.normal(size=(rows, size)).astype(np.float32) + 1

    own = size > IN_ORDER or part == "decoder"

    def mean(values: np.ndarray) -> np.ndarray:
        return np.cumsum(values, axis=-1, dtype=np.float32)[:, -1:] / np.float32(size)

    def build(layers: MarianLayers, value: str) -> str:
        made = layers.norm(value, "norm", layer)
        assert ("LayerNormalization" in {node.op_type for node in layers.graph.nodes}) == own
        return made

    apart = x - mean(x)
    scale, bias = (parameter.detach().numpy() for parameter in layer.parameters())
    expected = apart / np.sqrt(mean(apart * apart) + np.float32(1e-6)) * scale + bias
    y = run(tmp_path, build, x, part=part)
    assert np.array_equal(y, expected) if bits else np.allclose(y, expected, atol=1e-5)


def test_positions_are_sines_of_32_bit_angles() -> None:
    """The cosine is the sine of an angle to which a quarter was added, and the sum was rounded."""
    found, half = positions(200, 8).numpy(), np.float32(np.pi / 2)
    assert found[150, 4] == np.float32(np.sin(np.float64(np.float32(150) + half)))
    assert np.abs(found[:, 4] - np.cos(np.arange(200))).max() < 1e-5


@pytest.mark.parametrize(("weights", "kind"), [("int8", MarianLayers), ("bin", Int8Layers)])
def test_models_with_8_bit_weights_have_these_layers(weights: str, kind: type[Int8Layers], tmp_path: Path) -> None:
    assert int8_layers(load(tiny.write(tmp_path / "model.bin", tiny.STUDENT, weights), 30, start=1)) is kind


@pytest.mark.parametrize("kind", [MarianLayers, OrderedLayers])
def test_levels_of_queries_keys_and_values_are_those_of_the_file(kind: type[MarianLayers], tmp_path: Path) -> None:
    model = load(tiny.write(tmp_path / "model.bin", tiny.STUDENT, "int8"), 30, start=1)
    write_graphs(model, tmp_path, "int8", kind, partial(kind, ranges={}, magnitudes={}, known=known_of(model)))
    stored = (tmp_path / "weights.int8.bin").read_bytes()
    for layer in model.encoder:
        attention = layer.self_attention
        levels = [
            np.rint(part.weight.detach().numpy() * model.multipliers[part].weight)
            for part in (attention.query, attention.key, attention.value)
        ]
        assert np.concatenate(levels).astype(np.int8).T.tobytes() in stored


def test_a_product_whose_input_has_no_multiplier_is_not_known(tmp_path: Path) -> None:
    values = tiny.quantized(tiny.tensors(tiny.STUDENT))
    content = {name: value for name, value in values.items() if name not in ("none_QuantMultA", "Wemb_QuantMultA")}
    path = tmp_path / "model.bin"
    path.write_bytes(tiny.binary({**content, "special:model.yml": tiny.config(tiny.STUDENT)}))
    found = known_of(load(path, 30, start=1))
    assert "encoder.0.self.qkv" in found
    assert "embedding" not in found


def test_an_order_is_kept_where_there_is_one(tmp_path: Path) -> None:
    known, other = (
        load(tiny.write(tmp_path / f"{weights}.bin", tiny.STUDENT, weights), 30, start=1) for weights in ("int8", "bin")
    )
    assert int8_layers(known, in_order=True) is OrderedLayers
    with pytest.raises(ValueError, match="8-bit weights"):
        int8_layers(other, in_order=True)


def test_without_order_scores_are_the_runtimes_own(tmp_path: Path) -> None:
    graph = Graph("encoder", Weights(tmp_path / "weights.bin"))
    layers = MarianLayers(graph, {}, {}, {})
    x = graph.input("x", "float32", ["batch", "source", 4, 16])
    layers.scores(x, x, 4, 16)
    assert "MatMul" in {node.op_type for node in graph.nodes}
    assert "Unsqueeze" not in {node.op_type for node in graph.nodes}  # no product of each pair of positions
