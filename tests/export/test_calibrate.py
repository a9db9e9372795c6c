from collections.abc import Mapping

import numpy as np
import onnx
import pytest

from export.build import calibrate
from export.calibrate import CACHE
from export.decoder import GraphDecoder
from export.graph import nodes_of
from export.int8 import LEVELS, Range
from export.package import Package
from models.checkpoint import Run
from models.tokenizer import Tokenizer
from tests.packages import sentences

QUANTIZED = "MatMulIntegerToFloat"


@pytest.fixture
def sources(run: Run) -> list[list[int]]:
    tokenizer = Tokenizer(run.tokenizer)
    return [tokenizer.source(text, "fr") for text in sentences(8, seed=4)]


def calibrated(
    run: Run, package: Package, sources: list[list[int]]
) -> tuple[Mapping[str, Range], Mapping[str, np.ndarray]]:
    """Ranges and magnitudes that int8 layers were given."""
    given = getattr(calibrate(run.model(), package.manifest, sources), "keywords")  # noqa: B009 - of a partial
    return given["ranges"], given["magnitudes"]


def test_every_linear_layer_of_both_graphs_is_observed(run: Run, package: Package, sources: list[list[int]]) -> None:
    ranges, magnitudes = calibrated(run, package, sources)
    for part in ("encoder", "decoder"):
        graph = onnx.load(str(package.graph("int8", part))).graph
        nodes = list(nodes_of(graph))
        weights = [name for node in nodes if node.op_type == QUANTIZED for name in node.input]
        turned = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Transpose"}
        weights = [turned.get(name, name) for name in weights]
        products = {name.removesuffix(".weight") for name in weights if name.endswith(".weight")}
        assert products
        assert products <= ranges.keys()
    assert all(values.low <= values.high for values in ranges.values())
    assert all(np.isfinite(values).all() for values in ranges.values())
    assert all(np.isfinite(values).all() and values.min() >= 0 for values in magnitudes.values())


def test_more_text_never_narrows_a_range(run: Run, package: Package, sources: list[list[int]]) -> None:
    few, fewer = calibrated(run, package, sources[:2])
    many, more = calibrated(run, package, sources)
    assert all(many[name].low <= few[name].low and few[name].high <= many[name].high for name in few)
    assert any(many[name] != few[name] for name in few)
    assert all(np.all(more[name] >= fewer[name]) for name in fewer)


def test_magnitudes_are_the_largest_that_caches_have_held(run: Run, package: Package, sources: list[list[int]]) -> None:
    """Of each feature by itself, found again in what the fp32 graphs keep; a GRU keeps nothing of the kind."""
    _, magnitudes = calibrated(run, package, sources)
    decoder = GraphDecoder(package, "fp32")
    caches = [spec.name for spec in decoder.specs.state if spec.grows]
    assert {f"decoder.{name[-1]}.{name.split('.')[1]}" for name in caches} == magnitudes.keys()
    largest: dict[str, np.ndarray] = {}
    kept = decoder.run

    def watch(session: object, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        result = kept(session, feeds)
        if "position" in feeds:
            for name in caches:
                seen = np.abs(result[f"next_{name}"]).max(axis=(0, 2)).ravel()
                largest[name] = np.maximum(largest.get(name, seen), seen)
        return result

    decoder.run = watch  # type: ignore[method-assign]
    for source in sources:
        limit = min(2 * len(source) + 10, package.manifest.max_length)
        decoder.greedy(np.array([source]), np.array([len(source)]), limit)
    for name in caches:
        _, attention, kind, layer = name.split(".")
        expected = np.split(magnitudes[f"decoder.{layer}.{attention}"], 2)[kind == "value"]
        assert np.allclose(largest[name], expected, rtol=1e-4)


def test_int8_caches_use_all_of_their_levels(run: Run, package: Package, sources: list[list[int]]) -> None:
    """A magnitude that is too large wastes levels, one that is too small clips."""
    decoder = GraphDecoder(package, "int8")
    caches = [spec.name for spec in decoder.specs.state if spec.dtype == "int8"]
    if run.config.model.architecture == "bahdanau":
        assert not caches
        return
    largest = dict.fromkeys(caches, 0)
    for source in sources:
        start = decoder.start(np.array([source]), np.array([len(source)]))
        for name in caches:
            largest[name] = max(largest[name], int(np.abs(start[name].astype(int)).max()))
    assert all(LEVELS / 2 < largest[name] <= LEVELS + 1 for name in caches if ".cross." in name)


def test_what_caches_hold_is_not_taken_for_a_layer(run: Run, package: Package, sources: list[list[int]]) -> None:
    ranges, magnitudes = calibrated(run, package, sources)
    size = {name.removesuffix(CACHE): values for name, values in ranges.items() if name.endswith(CACHE)}
    assert size.keys() == magnitudes.keys()
    for name, values in size.items():
        assert magnitudes[name].max() == pytest.approx(max(-values.low, values.high))
