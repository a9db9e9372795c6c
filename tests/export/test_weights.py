from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor

from export.package import Package, Part, Precision
from export.weights import PAGE, SMALL, Weights


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return Weights(tmp_path / "weights.bin")


def is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL


def place(tensor: onnx.TensorProto, key: str) -> int:
    return int(next(entry.value for entry in tensor.external_data if entry.key == key))


def offset(tensor: onnx.TensorProto) -> int:
    return place(tensor, "offset")


def read(tensor: onnx.TensorProto, weights: Weights) -> np.ndarray:
    """The array as whoever loads the model gets it."""
    if is_external(tensor):
        load_external_data_for_tensor(tensor, str(weights.path.parent))
    return numpy_helper.to_array(tensor)


def external(package: Package, precision: Precision, part: Part) -> dict[str, onnx.TensorProto]:
    graph = onnx.load(str(package.graph(precision, part)), load_external_data=False).graph
    return {tensor.name: tensor for tensor in graph.initializer if is_external(tensor)}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(300, dtype=np.float32).reshape(20, 15),
        np.arange(300, dtype=np.float32).reshape(20, 15).T,
        np.arange(-128, 128, dtype=np.int8).reshape(2, 128).repeat(2, axis=0),
        np.arange(3, dtype=np.int64),
        np.array(5, np.int64),
        np.zeros((0, 4), np.float32),
    ],
    ids=["matrix", "transposed", "int8", "small", "scalar", "empty"],
)
def test_an_array_comes_back_as_it_was(weights: Weights, array: np.ndarray) -> None:
    weights.tensor("before", np.full(100, 7.0, np.float32))
    found = read(weights.tensor("x", array), weights)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert np.array_equal(found, array)


def test_only_what_is_not_small_leaves_the_graph(weights: Weights) -> None:
    assert not is_external(weights.tensor("small", np.zeros(SMALL, np.int8)))
    assert weights.path.stat().st_size == 0
    assert is_external(weights.tensor("large", np.zeros(SMALL + 1, np.int8)))
    assert weights.path.stat().st_size == SMALL + 1


def test_every_array_begins_at_a_page(weights: Weights) -> None:
    sizes = (SMALL + 1, PAGE, PAGE + 1, 1000)
    tensors = [weights.tensor(str(size), np.full(size, size % 100, np.int8)) for size in sizes]
    offsets = [offset(tensor) for tensor in tensors]
    assert offsets == [0, PAGE, 2 * PAGE, 4 * PAGE]
    assert [np.unique(read(tensor, weights)).tolist() for tensor in tensors] == [[size % 100] for size in sizes]


def test_equal_arrays_share_their_bytes_and_keep_their_shapes(weights: Weights) -> None:
    array = np.arange(600, dtype=np.float32)
    first, turned = weights.tensor("first", array), weights.tensor("second", array.reshape(30, 20))
    size = weights.path.stat().st_size
    other = weights.tensor("other", array + 1)
    assert size == array.nbytes
    assert offset(first) == offset(turned) != offset(other)
    assert read(turned, weights).shape == (30, 20)
    assert np.array_equal(read(first, weights), array)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_the_embedding_is_stored_once_for_encoder_decoder_and_projection(
    package: Package, precision: Precision
) -> None:
    """Both graphs look tokens up in the array that the decoder also projects with."""
    places = set()
    for part in get_args(Part):
        tensors = external(package, precision, part)
        tables = [tensor for name, tensor in tensors.items() if name.startswith("embedding.") and len(tensor.dims) == 2]
        assert len(tables) == 1
        places.add((offset(tables[0]), tuple(tables[0].dims)))
        readers = graph_readers(package, precision, part, tables[0].name)
        projects = {"Gemm"} if precision == "fp32" else {"Transpose"}  # done once, when a session is made
        assert readers == {"Gather"} | (projects if part == "decoder" else set())
    assert len(places) == 1


def graph_readers(package: Package, precision: Precision, part: Part, name: str) -> set[str]:
    graph = onnx.load(str(package.graph(precision, part)), load_external_data=False).graph
    return {node.op_type for node in graph.node if name in node.input}


@pytest.mark.parametrize("precision", get_args(Precision))
def test_no_bytes_of_a_package_are_there_twice_or_for_nothing(package: Package, precision: Precision) -> None:
    tensors = [tensor for part in get_args(Part) for tensor in external(package, precision, part).values()]
    lengths = {offset(tensor): place(tensor, "length") for tensor in tensors}
    file = package.path / package.manifest.graphs[precision].weights.name
    content = file.read_bytes()
    assert len({content[start : start + length] for start, length in lengths.items()}) == len(lengths)
    end = 0
    for start, length in sorted(lengths.items()):
        assert start == -(-end // PAGE) * PAGE
        end = start + length
    assert end == len(content)


def test_int8_weights_take_a_quarter_of_the_room(package: Package) -> None:
    def matrices(precision: Precision) -> int:
        tensors: dict[int, onnx.TensorProto] = {}
        for part in get_args(Part):
            tensors |= {offset(tensor): tensor for tensor in external(package, precision, part).values()}
        kind = TensorProto.FLOAT if precision == "fp32" else TensorProto.INT8
        products = [tensor for tensor in tensors.values() if len(tensor.dims) == 2 and tensor.data_type == kind]
        return sum(int(np.prod(tensor.dims)) for tensor in products if tensor.name != "positions")

    assert matrices("int8") >= 0.9 * matrices("fp32") > 0
