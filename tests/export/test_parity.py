import pytest
import torch

from export.build import forbid_specials
from export.package import Package
from export.parity import SENTENCES, TOLERANCE, Parity, ParityError, compare, require
from models.checkpoint import Run
from models.tokenizer import Tokenizer
from tests.packages import sentences


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


def test_int8_says_nearly_what_pytorch_says(model, tokenizer: Tokenizer, package: Package, texts) -> None:
    parity = compare(model, tokenizer, package, "int8", texts)
    assert parity.identical > 0.3 * parity.sentences  # random weights have near ties everywhere
    assert parity.log_prob_difference < 0.5


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
