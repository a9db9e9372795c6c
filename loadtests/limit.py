"""The physical limit: what a sentence would cost if nothing but the products with the weights took time.

``python -m loadtests.limit PACKAGE``

ONNX Runtime multiplies with every linear layer of a package's graphs, one thread, nothing in between, and the
multiply-accumulates of a sentence over that rate are the floor of any engine on this runtime. What a layer's weights
are multiplied with are as many rows as the engine has: all source tokens of a group of sentences in the encoder, one
for each sentence decoding in the decoder. The layers of a graph take turns, so that their weights come from the cache
that they come from when a sentence is translated. Attention is left out: it multiplies no weights.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
import onnx
import typer
from onnx import TensorProto, helper, numpy_helper
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from export.graph import IR_VERSION, MICROSOFT, OPSET, nodes_of
from export.int8 import FEW
from export.package import Package, PackageError, Part, Precision
from export.runtime import onnxruntime
from loadtests.peers import BATCH, pinned

OPERATORS = {
    "MatMulIntegerToFloat": (TensorProto.UINT8, TensorProto.FLOAT),
    "MatMulInteger": (TensorProto.UINT8, TensorProto.INT32),
    "Gemm": (TensorProto.FLOAT, TensorProto.FLOAT),
}
"""Products with a matrix of weights, their second input, and the types of the rows and of the result."""
TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int32)": np.int32}
PARTS: tuple[Part, ...] = ("encoder", "decoder")
GROUP = 1024
"""Source tokens that are encoded at once when there is no lack of sentences."""
REPEATS = 20
"""Runs of each product."""
SHORTEST = 1e-9
"""Seconds: a product cannot come out faster than nothing."""
OPSETS = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]


class Rows(NamedTuple):
    """How many rows are multiplied at once."""

    encoder: int
    """Source tokens."""
    sentences: int
    """Sentences that are encoded side by side: a recurrent layer reads one token of each at a time."""
    decoder: int
    """Hypotheses that are decoded side by side."""


FULL = Rows(GROUP, BATCH, BATCH)


@dataclass(frozen=True)
class Shape:
    """Layers of the same form in the same place: ``[rows, inputs] x [inputs, outputs]``."""

    part: Part
    operator: str
    recurrent: bool
    inputs: int
    outputs: int
    few: bool | None = None
    """Runs for up to ``FEW`` rows only, or for more only; None: for any number."""

    def runs(self, rows: Rows) -> bool:
        return self.few in {None, self.rows(rows) <= FEW}

    def rows(self, rows: Rows) -> int:
        if self.part == "decoder":
            return rows.decoder
        return rows.sentences if self.recurrent else rows.encoder


class Rate(NamedTuple):
    """One product with each of ``layers`` layers, one after the other."""

    shape: Shape
    layers: int
    rows: int
    seconds: float

    @property
    def macs_per_row(self) -> int:
        return self.layers * self.shape.inputs * self.shape.outputs

    @property
    def gmacs_per_s(self) -> float:
        return self.rows * self.macs_per_row / self.seconds / 1e9


class Work(NamedTuple):
    """Of one graph, for one row."""

    macs: int
    seconds: float

    @property
    def gmacs_per_s(self) -> float:
        return self.macs / self.seconds / 1e9


@dataclass(frozen=True)
class Limit:
    """The least that one thread needs."""

    encoder: Work
    """For a source token."""
    decoder: Work
    """For a step of one hypothesis."""

    def macs(self, source: float, steps: float) -> float:
        """Of a sentence of ``source`` tokens that takes ``steps`` steps, those of all its hypotheses added up."""
        return source * self.encoder.macs + steps * self.decoder.macs

    def seconds(self, source: float, steps: float) -> float:
        """Likewise."""
        return source * self.encoder.seconds + steps * self.decoder.seconds


Product = tuple[Shape, onnx.NodeProto, list[TensorProto]]


def needed(graph: onnx.GraphProto, outputs: Iterable[str]) -> Iterator[onnx.NodeProto]:
    """The nodes that ``outputs`` come from, those of branches among them."""
    names = set(outputs)
    for node in reversed(list(nodes_of(graph))):
        if names & set(node.output):
            names |= set(filter(None, node.input))
            names |= {output.name for each in node.attribute for output in each.g.output}
            yield node


def products(package: Package, precision: Precision, part: Part) -> Iterator[Product]:
    """Every product of rows with weights, as a node with its initializers.

    What the encoder does once a sentence and not once a token, the decoder's first state, is left out, and so is a
    product with weights that are chosen anew at each step, as from a shortlist.
    """
    graph = onnx.load(package.graph(precision, part)).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    weights |= {name: tensor for node in graph.node for name, tensor in turned(node, weights)}
    specs = package.manifest.graphs[precision]
    few = branches(graph)
    by_token = [spec.name for spec in (*specs.memory, *specs.state) if "source" in spec.shape]
    for node in needed(graph, by_token if part == "encoder" else [output.name for output in graph.output]):
        if node.op_type in OPERATORS and node.input[1] in weights:
            dims = weights[node.input[1]].dims
            columns, inner = dims if attribute(node, "transB") else reversed(dims)
            own = [weights[name] for name in dict.fromkeys(node.input[1:]) if name]
            yield Shape(part, node.op_type, False, inner, columns, few.get(node.output[0])), node, own
        elif node.op_type == "GRU":
            for name, recurrent in zip(node.input[1:3], (False, True), strict=True):
                for direction in numpy_helper.to_array(weights[name]):
                    tensor = numpy_helper.from_array(np.ascontiguousarray(direction), "weight")
                    gemm = helper.make_node("Gemm", ["x", "weight"], ["y"], transB=1)
                    yield Shape(part, "Gemm", recurrent, direction.shape[1], direction.shape[0]), gemm, [tensor]


def branches(graph: onnx.GraphProto) -> dict[str, bool]:
    """What is made in a branch, and whether in the one for few rows."""
    parts = [part for node in graph.node for part in node.attribute if part.type == onnx.AttributeProto.GRAPH]
    return {name: part.name == "then_branch" for part in parts for node in nodes_of(part.g) for name in node.output}


def turned(node: onnx.NodeProto, weights: Mapping[str, TensorProto]) -> Iterator[tuple[str, TensorProto]]:
    """What the node makes of weights by transposing them, which is done once, when a session is made."""
    if node.op_type == "Transpose" and node.input[0] in weights:
        array = numpy_helper.to_array(weights[node.input[0]]).transpose(attribute(node, "perm"))
        yield node.output[0], numpy_helper.from_array(np.ascontiguousarray(array), node.output[0])


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """Its value; None where it has its default."""
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)


def standalone(products: Sequence[Product]) -> onnx.ModelProto:
    """A graph of products of one shape, each with its own weights: ``x [rows, inputs]`` -> ``y0``, ``y1`` ..."""
    shape = products[0][0]
    kind, made = OPERATORS[shape.operator]
    nodes, initializers = [], []
    for number, (_, node, own) in enumerate(products):
        alone = onnx.NodeProto()
        alone.CopyFrom(node)
        alone.input[:] = ["x", *(name and f"{number}.{name}" for name in node.input[1:])]
        alone.output[:] = [f"y{number}"]
        nodes.append(alone)
        for tensor in own:
            initializers.append(onnx.TensorProto())
            initializers[-1].CopyFrom(tensor)
            initializers[-1].name = f"{number}.{tensor.name}"
    inputs = [helper.make_tensor_value_info("x", kind, ["rows", shape.inputs])]
    result = "rows", shape.outputs
    outputs = [helper.make_tensor_value_info(node.output[0], made, result) for node in nodes]
    graph = helper.make_graph(nodes, "products", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION)


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """One thread; nothing is rewritten, so that nothing is saved either."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def call(session: onnxruntime.InferenceSession, rows: int) -> Callable[[], None]:
    """One run; the outputs share their memory, which is there before."""
    binding = session.io_binding()
    (x,), outputs = session.get_inputs(), session.get_outputs()
    values = np.random.default_rng(0).integers(0, 100, (rows, x.shape[1])).astype(TYPES[x.type])
    binding.bind_ortvalue_input(x.name, onnxruntime.OrtValue.ortvalue_from_numpy(values))
    empty = np.zeros((rows, outputs[0].shape[1]), TYPES[outputs[0].type])
    result = onnxruntime.OrtValue.ortvalue_from_numpy(empty)
    for output in outputs:
        binding.bind_ortvalue_output(output.name, result)
    return lambda: session.run_with_iobinding(binding)


def idle() -> Callable[[], None]:
    """What a call costs by itself."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "idle", ends[:1], ends[1:])
    return call(open_session(helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION)), 1)


def timed(groups: Iterable[Mapping[Any, Callable[[], None]]], repeats: int) -> dict[Any, float]:
    """Median seconds of each; groups take turns, and so do those of a group.

    A group runs twice, and the second time counts: weights are then where the step before has left them.
    """
    groups = list(groups)
    seconds: dict[Any, list[float]] = {key: [] for group in groups for key in group}
    for _ in range(repeats):
        for group in groups:
            for run in group.values():
                run()
            for key, run in group.items():
                started = time.perf_counter()
                run()
                seconds[key].append(time.perf_counter() - started)
    return {key: median(each) for key, each in seconds.items()}


def measure(package: Package, precision: Precision, wanted: Sequence[Rows], repeats: int = REPEATS) -> list[Rate]:
    """Every shape of both graphs at every number of rows, on one core."""
    layers: dict[Shape, list[Product]] = {}
    for product in chain.from_iterable(products(package, precision, part) for part in PARTS):
        layers.setdefault(product[0], []).append(product)
    with pinned(1):
        sessions = {shape: open_session(standalone(group)) for shape, group in layers.items()}
        groups: dict[tuple[Part, int], dict[Any, Callable[[], None]]] = {}
        for shape, rows in dict.fromkeys(
            (shape, shape.rows(rows)) for rows in wanted for shape in layers if shape.runs(rows)
        ):
            groups.setdefault((shape.part, rows), {})[shape, rows] = call(sessions[shape], rows)
        seconds = timed([{None: idle()}, *groups.values()], repeats)
    spent = {key: max(each - seconds[None], SHORTEST) for key, each in seconds.items() if key}
    return [Rate(shape, len(layers[shape]), rows, each) for (shape, rows), each in spent.items()]


def limit(rates: Sequence[Rate], rows: Rows) -> Limit:
    """The sum of the layers."""

    def work(part: Part) -> Work:
        own = [rate for rate in rates if rate.shape.part == part and rate.rows == rate.shape.rows(rows)]
        return Work(sum(rate.macs_per_row for rate in own), sum(rate.seconds / rate.rows for rate in own))

    return Limit(work("encoder"), work("decoder"))


def table(precision: str, rates: Sequence[Rate]) -> Table:
    """One line for each shape and number of rows."""
    shown = Table(title=precision, box=SIMPLE_HEAD, collapse_padding=True)
    for name in ("graph", "operator", "rows", "inputs", "outputs", "layers", "µs", "GMAC/s"):
        shown.add_column(name, justify="left" if name in {"graph", "operator"} else "right")
    for shape, layers, rows, seconds in rates:
        sizes = map(str, (rows, shape.inputs, shape.outputs, layers))
        rate = Rate(shape, layers, rows, seconds).gmacs_per_s
        shown.add_row(shape.part, shape.operator, *sizes, f"{seconds / layers * 1e6:.1f}", f"{rate:.0f}")
    return shown


def main(
    package: Annotated[Path, typer.Argument(help="directory of a model package")],
    source: Annotated[int, typer.Option(min=1, help="source tokens of a sentence")] = 30,
    target: Annotated[int, typer.Option(min=1, help="steps of its translation")] = 36,
    repeats: Annotated[int, typer.Option(min=1)] = REPEATS,
) -> None:
    """Rates of this machine at a model's shapes, and the least time for a sentence, in full batches and alone."""
    console = Console()
    try:
        opened = Package.open(package)
    except PackageError as error:
        raise typer.BadParameter(str(error)) from error
    cases = {"full batches": FULL, "one sentence": Rows(source, 1, 1)}
    for precision in opened.manifest.precisions:
        rates = measure(opened, precision, list(cases.values()), repeats)
        console.print(table(precision, rates))
        for name, rows in cases.items():
            floor = limit(rates, rows)
            macs, seconds = floor.macs(source, target), floor.seconds(source, target)
            console.print(
                f"{name}: {macs / 1e6:.0f} million multiply-accumulates, at least {seconds * 1e3:.2f} ms a sentence, "
                f"at most {target / seconds:.0f} tokens/s on one core",
                soft_wrap=True,
            )


if __name__ == "__main__":
    typer.run(main)
