"""A thin builder for ONNX graphs: values are names, operators are calls, weights are stored once."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.package import TensorSpec
from export.weights import Weights

OPSET = 24
IR_VERSION = 11
MICROSOFT = "com.microsoft"
ELEMENT = {
    "float32": TensorProto.FLOAT,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}
Shape = Sequence[int | str]


class Graph:
    """One graph under construction. Method names are those of the ONNX operators where they stand for one."""

    def __init__(self, name: str, weights: Weights) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._weights = weights
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._renamed: dict[str, str] = {}
        self._made = 0

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, ELEMENT[dtype], shape))
        return name

    def output(self, value: str, name: str, dtype: str, shape: Shape) -> None:
        """Give a value the name of an output; it may still be read under its old name by later operators."""
        producer = next(node for node in self.nodes if value in node.output)
        producer.output[list(producer.output).index(value)] = name
        for node in self.nodes:
            node.input[:] = [name if read == value else read for read in node.input]
        self._renamed[value] = name
        self.outputs.append(helper.make_tensor_value_info(name, ELEMENT[dtype], shape))

    def input_of(self, spec: TensorSpec) -> str:
        return self.input(spec.name, spec.dtype, spec.shape)

    def output_of(self, value: str, spec: TensorSpec) -> None:
        self.output(value, spec.name, spec.dtype, spec.shape)

    def weight(self, name: str, array: np.ndarray) -> str:
        """An initializer, added at its first use."""
        if name not in self.initializers:
            self.initializers[name] = self._weights.tensor(name, array)
        return name

    def constant(self, value: object, dtype: type | np.dtype = np.int64) -> str:
        """An initializer named by its content."""
        array = np.array(value, dtype)
        return self.weight(f"const.{array.dtype}.{array.shape}.{array.tobytes().hex()}", array)

    def number(self, value: float) -> str:
        return self.constant(value, np.float32)

    def many(self, operator: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """An operator with ``count`` outputs."""
        index, self._made = self._made, self._made + 1
        outputs = [f"{operator}.{index}.{i}" for i in range(count)]
        domain = str(attributes.pop("domain", ""))
        read = [self._renamed.get(name, name) for name in inputs]
        node = helper.make_node(operator, read, outputs, name=f"{operator}.{index}", domain=domain, **attributes)
        self.nodes.append(node)
        return outputs

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """An operator with one output."""
        return self.many(operator, inputs, 1, **attributes)[0]

    def either(self, condition: str, then: Callable[[], str], otherwise: Callable[[], str]) -> str:
        """A float32 that one of two calls makes, of operators that run only if the condition is theirs."""
        nodes, branches = self.nodes, {}
        for name, make in (("then_branch", then), ("else_branch", otherwise)):
            self.nodes = []
            value = helper.make_tensor_value_info(make(), TensorProto.FLOAT, None)
            branches[name] = helper.make_graph(self.nodes, name, [], [value])
        self.nodes = nodes
        return self.op("If", condition, **branches)

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """``0`` keeps a dimension, ``-1`` infers one."""
        return self.op("Reshape", value, self.constant(list(shape)))

    def unsqueeze(self, value: str, *axes: int) -> str:
        return self.op("Unsqueeze", value, self.constant(list(axes)))

    def squeeze(self, value: str, *axes: int) -> str:
        return self.op("Squeeze", value, self.constant(list(axes)))

    def transpose(self, value: str, *axes: int) -> str:
        return self.op("Transpose", value, perm=list(axes))

    def size(self, value: str, axis: int) -> str:
        """Length of one axis, as a scalar."""
        return self.squeeze(self.op("Shape", value, start=axis, end=axis + 1), 0)

    def visible(self, size: str, count: str) -> str:
        """Zero for positions below ``count [B]`` and a large negative number from there on: ``[B, size]``."""
        position = self.unsqueeze(self.op("Range", self.constant(0), size, self.constant(1)), 0)
        seen = self.op("Less", position, self.unsqueeze(count, 1))
        return self.op("Where", seen, self.number(0.0), self.number(MASKED))

    def save(self, path: Path) -> None:
        """Write beside the weights, then check. Raises ``onnx.checker.ValidationError`` for a malformed graph."""
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="attentive")
        onnx.save(model, str(path))
        onnx.checker.check_model(str(path))


MASKED = -1e9
"""Added to the score of a position that must not be seen: its softmax weight is exactly zero."""


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of its branches, each after those whose outputs it takes."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)
        yield node
