import numpy as np
import onnx
import pytest

from export.build import calibrate
from export.package import Package
from models.checkpoint import Run
from models.tokenizer import Tokenizer
from tests.packages import sentences


@pytest.fixture
def sources(run: Run) -> list[list[int]]:
    tokenizer = Tokenizer(run.tokenizer)
    return [tokenizer.source(text, "fr") for text in sentences(8, seed=4)]


def test_every_linear_layer_of_both_graphs_is_observed(run: Run, package: Package, sources: list[list[int]]) -> None:
    ranges = calibrate(run.model(), package.manifest, sources)
    for part in ("encoder", "decoder"):
        graph = onnx.load(str(package.graph("int8", part))).graph
        products = [
            node.input[1].removesuffix(".weight") for node in graph.node if node.op_type == "MatMulIntegerToFloat"
        ]
        assert products
        assert set(products) <= ranges.keys()
    assert all(values.low <= values.high for values in ranges.values())
    assert all(np.isfinite(values).all() for values in ranges.values())


def test_more_text_never_narrows_a_range(run: Run, package: Package, sources: list[list[int]]) -> None:
    few = calibrate(run.model(), package.manifest, sources[:2])
    many = calibrate(run.model(), package.manifest, sources)
    assert all(many[name].low <= few[name].low and few[name].high <= many[name].high for name in few)
    assert any(many[name] != few[name] for name in few)
