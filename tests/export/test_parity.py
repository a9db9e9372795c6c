from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.build import forbid_specials
from export.decoder import GraphDecoder
from export.package import Package
from export.parity import SENTENCES, TOLERANCE, Parity, ParityError, compare, require
from loadtests.machine import processor_flags
from models.checkpoint import Run
from models.data import pad
from models.tokenizer import BOS, Tokenizer
from tests.packages import VOCABULARY, sentences, write_package, write_run


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    return [(text, ("en", "fr")[i % 2]) for i, text in enumerate(sentences(SENTENCES, seed=5))]


@pytest.fixture(scope="module")
def tokenizer(run: Run) -> Tokenizer:
    return Tokenizer(run.tokenizer)


@pytest.fixture(scope="module")
def model(run: Run, tokenizer: Tokenizer):
    model = run.model()
    forbid_specials(model, tokenizer, ["en", "fr"])
    return model


def test_fp32_says_what_pytorch_says(model, tokenizer: Tokenizer, package: Package, texts) -> None:
    require(compare(model, tokenizer, package, "fp32", texts))


def test_int8_says_nearly_what_fp32_says(tokenizer: Tokenizer, package: Package, texts) -> None:
    """Step by step, on the same target: a target of its own would go elsewhere at the first near tie.

    Random weights are large: on processors without VNNI their sums would be cut, as those of the output layer are.
    """
    source, lengths = (tensor.numpy() for tensor in pad([np.array(tokenizer.source(*text)) for text in texts[:40]]))
    target, _ = GraphDecoder(package, "fp32").greedy(source, lengths, 12)
    exact, rounded = (
        forced(GraphDecoder(package, precision, exact=True), source, lengths, target) for precision in ("fp32", "int8")
    )
    likely = exact > np.log(1e-3)
    assert np.abs(exact - rounded)[likely].mean() < 0.2
    least = 0.6 if processor_flags().isdisjoint({"avx512_vnni", "avx_vnni"}) else 0.7
    assert (exact.argmax(axis=2) == rounded.argmax(axis=2)).mean() > least


def forced(decoder: GraphDecoder, source: np.ndarray, lengths: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Log-probabilities of all tokens at each step of a given target: ``[T, B, V]``."""
    tensors, steps = decoder.start(source, lengths), []
    read = np.insert(target, 0, decoder.manifest.special.bos, axis=1)[:, :-1]
    for position, token in enumerate(read.T):
        step = {"token": token, "position": np.full(len(source), position, np.int32), "top_k": np.array([VOCABULARY])}
        result = decoder.run(decoder.decoder, {**tensors, **step})
        tensors.update({spec.name: result[f"next_{spec.name}"] for spec in decoder.specs.state})
        steps.append(np.take_along_axis(result["next_scores"], result["next_ids"].argsort(axis=1), axis=1))
    return np.stack(steps)


def test_a_model_that_differs_is_found_out(model, tokenizer: Tokenizer, package: Package, texts, run: Run) -> None:
    other = run.model()
    forbid_specials(other, tokenizer, ["en", "fr"])
    other.output_bias.data += torch.randn(len(other.output_bias), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ParityError, match="sentences differ from PyTorch"):
        require(compare(other, tokenizer, package, "fp32", texts))


@pytest.mark.parametrize(
    ("parity", "reason"),
    [
        (Parity(SENTENCES - 1, SENTENCES - 1, 0.0), "are needed"),
        (Parity(SENTENCES, SENTENCES - 1, 0.0), "1 of 200 sentences"),
        (Parity(SENTENCES, SENTENCES, TOLERANCE * 1.01), "log-probabilities"),
    ],
)
def test_require_refuses(parity: Parity, reason: str) -> None:
    with pytest.raises(ParityError, match=reason):
        require(parity)


def test_require_accepts_at_the_edge() -> None:
    require(Parity(SENTENCES, SENTENCES, TOLERANCE))


@pytest.mark.parametrize("head", [None, 2])
def test_the_attention_of_a_graph_is_that_of_the_model(tmp_path: Path, head: int | None) -> None:
    run = write_run(tmp_path / "run", "transformer")
    chosen = run.config.model.model_copy(update={"alignment_head": head})
    run = replace(run, config=run.config.model_copy(update={"model": chosen}))
    package = write_package(run, tmp_path / "package")
    assert package.manifest.alignment.heads == ("mean" if head is None else "2")
    source, lengths, target = torch.tensor([[9, 10, 11, 12]]), torch.tensor([4]), [BOS, 20]
    with torch.inference_mode():
        _, attention = run.model()(source, lengths, torch.tensor([target]))
    decoder = GraphDecoder(package, "fp32")
    tensors = decoder.start(source.numpy(), lengths.numpy())
    for position, token in enumerate(target):
        step = {"token": np.array([token]), "position": np.array([position], np.int32), "top_k": np.array([1])}
        result = decoder.run(decoder.decoder, {**tensors, **step})
        tensors.update({spec.name: result[f"next_{spec.name}"] for spec in decoder.specs.state})
        np.testing.assert_allclose(result["attention"], attention[:, position].numpy(), atol=1e-5)
