import re
import time
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import onnx
import pytest
import typer
from typer.testing import CliRunner

from export.package import Package, Part, Precision
from loadtests import limit
from loadtests.limit import FULL, PARTS, Product, Rate, Rows, Shape, main, measure, products, standalone, timed
from models.checkpoint import Run

app = typer.Typer()
app.command()(main)

ALONE = Rows(encoder=5, sentences=1, decoder=1)
MATRICES = {
    "transformer": {
        "encoder": r"encoder\.|decoder\.\d+\.cross_attention\.(key|value)\.",
        "decoder": r"embedding\.|decoder\.(?!\d+\.cross_attention\.(key|value)\.)",
    },
    "bahdanau": {
        "encoder": r"encoder\.|attention\.key\.",
        "decoder": r"embedding\.|attention\.query\.|cell\.|output\.",
    },
}
"""Names of the parameters that a token, or a step, is multiplied with; the vector of the attention scores is none."""


def grouped(package: Package, precision: Precision, part: Part) -> Iterator[list[Product]]:
    ordered = sorted(products(package, precision, part), key=lambda product: str(product[0]))
    return (list(group) for _, group in groupby(ordered, lambda product: product[0]))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("part", PARTS)
def test_every_matrix_is_multiplied_with_once(run: Run, package: Package, precision: Precision, part: Part):
    """Counted in the PyTorch model."""
    pattern = MATRICES[run.config.model.architecture][part]
    parameters = run.model().named_parameters()
    expected = sum(tensor.numel() for name, tensor in parameters if tensor.dim() == 2 and re.match(pattern, name))
    shapes = [shape for shape, *_ in products(package, precision, part)]
    for rows in (ALONE, FULL):
        assert sum(shape.inputs * shape.outputs for shape in shapes if shape.runs(rows)) == expected


def result(product: Product, x: np.ndarray) -> np.ndarray:
    """``x [rows, inputs] -> [rows, outputs]``, by the definitions of the operators."""
    _, node, tensors = product
    known = {tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float64) for tensor in tensors}
    inputs = [known.get(name, np.zeros(1)) for name in node.input[1:]]
    if node.op_type == "MatMulIntegerToFloat":
        weight, scale, scales, zero_point, _, bias = inputs
        return (x - zero_point) * scale @ (weight * scales) + bias
    if node.op_type == "MatMulInteger":
        weight, zero_point = inputs
        return (x - zero_point) @ weight
    return x @ inputs[0].T + sum(inputs[1:])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("part", PARTS)
def test_each_layer_is_multiplied_with_its_own_weights(package: Package, precision: Precision, part: Part):
    for group in grouped(package, precision, part):
        session = limit.open_session(standalone(group))
        x = np.random.default_rng(1).integers(0, 100, (3, group[0][0].inputs))
        kind = np.float32 if session.get_inputs()[0].type == "tensor(float)" else np.uint8
        for y, product in zip(session.run(None, {"x": x.astype(kind)}), group, strict=True):
            np.testing.assert_allclose(y, result(product, x), rtol=1e-4, atol=1e-3, err_msg=str(product[1]))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_layer_of_a_transformer_is_there(transformer_package: Package, precision: Precision):
    """Two layers on each side, 32 features and 64 hidden ones, counted by hand."""
    linear = "Gemm" if precision == "fp32" else "MatMulIntegerToFloat"
    layer = [(32, 96), (32, 32), (32, 64), (64, 32)]  # query, key and value at once; output; up; down
    expected: dict[Part, list[tuple[str, int, int]]] = {
        "encoder": [(linear, *sizes) for sizes in 2 * [*layer, (32, 64)]],  # keys and values for each decoder layer
        "decoder": [*((linear, *sizes) for sizes in 2 * [*layer, (32, 32), (32, 32)]), (linear, 32, 340)],  # cross
    }
    few = ("MatMulInteger", 32, 340) if precision == "int8" else (linear, 32, 340)
    for part in PARTS:
        shapes = [shape for shape, *_ in products(transformer_package, precision, part)]
        for rows, last in ((FULL, (linear, 32, 340)), (ALONE, few)):
            found = [(each.operator, each.inputs, each.outputs) for each in shapes if each.runs(rows)]
            assert sorted(found) == sorted([last if each == (linear, 32, 340) else each for each in expected[part]])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_shape_has_a_rate_for_every_number_of_rows(package: Package, precision: Precision):
    rates = measure(package, precision, [FULL, FULL._replace(decoder=128), ALONE], repeats=1)
    recurrent = package.manifest.architecture == "bahdanau"
    expected = {("encoder", False): {1024, 5}, ("decoder", False): {32, 128, 1}}
    expected |= {("encoder", True): {32, 1}} if recurrent else {}
    found: dict[tuple[str, bool], set[int]] = {}
    for rate in rates:
        found.setdefault((rate.shape.part, rate.shape.recurrent), set()).add(rate.rows)
    assert found == expected
    assert len({(rate.shape, rate.rows) for rate in rates}) == len(rates)
    assert min(rate.seconds for rate in rates) > 0


def test_the_limit_adds_up_the_layers():
    """Two layers of 6 x 4 at once for 1024 tokens, one recurrent one for 32 of them, one of 5 x 2 in the decoder."""
    rates = [
        Rate(Shape("encoder", "Gemm", False, 6, 4), layers=2, rows=1024, seconds=1.024),
        Rate(Shape("encoder", "Gemm", True, 3, 3), layers=1, rows=32, seconds=0.064),
        Rate(Shape("decoder", "MatMulIntegerToFloat", False, 5, 2), layers=1, rows=32, seconds=0.16),
        Rate(Shape("decoder", "MatMulIntegerToFloat", False, 5, 2), layers=1, rows=1, seconds=7.0),
    ]
    found = limit.limit(rates, FULL)
    assert (found.encoder.macs, found.decoder.macs) == (57, 10)
    assert found.encoder.seconds == pytest.approx(0.001 + 0.002)
    assert found.macs(source=10, steps=3) == 600
    assert found.seconds(source=10, steps=3) == pytest.approx(0.03 + 3 * 0.005)
    assert rates[0].gmacs_per_s == pytest.approx(48e-6)


def test_layers_take_turns_and_the_second_time_counts(monkeypatch: pytest.MonkeyPatch):
    now, log = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def takes(name: str, *seconds: float):
        left = list(seconds)

        def run() -> None:
            log.append(name)
            now[0] += left.pop(0)

        return run

    a, b, c = takes("a", 9, 1, 0, 2, 8, 3), takes("b", 0, 4, 0, 4, 7, 4), takes("c", *[5] * 6)
    assert timed([{"a": a, "b": b}, {"c": c}], 3) == {"a": 2, "b": 4, "c": 5}
    assert log == [*"ababcc"] * 3


def test_it_prints_the_shapes_and_the_floor(package: Package):
    result = CliRunner().invoke(app, [str(package.path), "--repeats", "1"])
    assert result.exit_code == 0, result.output
    operators = ("Gemm", "MatMulIntegerToFloat")
    for word in ("fp32", "int8", *operators, "full batches", "one sentence", "tokens/s on one core"):
        assert word in result.output


def test_a_directory_without_a_package_is_refused(tmp_path_factory: pytest.TempPathFactory):
    assert CliRunner().invoke(app, [str(tmp_path_factory.mktemp("empty"))]).exit_code == 2
