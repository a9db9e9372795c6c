"""Losses: those of torch and of arithmetic by hand, block by block, and their gradients."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from models import checkpoint
from models.data import Batch
from models.loss import BLOCK, SmoothedCrossEntropy, alignment_loss, loss_of
from models.tokenizer import PAD
from models.translator import Translator


class Uniform(Translator):
    """Every token is as likely as any other, except that the bias makes token 4 twice so."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(8, 4)
        self.bias = nn.Parameter(torch.zeros(8).index_fill(0, torch.tensor(4), math.log(2)))

    @property
    def output_bias(self):
        return self.bias

    def forward(self, source, source_lengths, target):
        return torch.zeros(*target.shape, 4), None


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_is_a_mean_over_the_real_tokens(smoothing):
    target = torch.tensor([[2, 4, 4, 3], [2, 3, 0, 0]])
    loss, tokens = loss_of(Uniform(), Batch(target, torch.tensor([4, 2]), target), smoothing)
    likely, other = math.log(9 / 2), math.log(9)
    plain = (2 * likely + 2 * other) / 4
    assert tokens == 4
    assert loss.item() == pytest.approx((1 - smoothing) * plain + smoothing * (likely + 7 * other) / 8)


def operands(rows, dtype):
    """Features, weights and bias that want gradients, and targets."""
    random = torch.Generator().manual_seed(rows)
    shapes = (rows, 16), (300, 16), (300,)
    leaves = [torch.randn(*shape, generator=random).to(dtype).requires_grad_() for shape in shapes]
    return leaves, torch.randint(0, 300, (rows,), generator=random)


@pytest.mark.parametrize("rows", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_blocks_are_as_torch_computes_it_at_once(rows, smoothing, dtype, tolerance):
    leaves, target = operands(rows, dtype)
    share = torch.rand(rows, generator=torch.Generator().manual_seed(1))  # that a row's loss has in the whole

    def gradients(losses):
        return torch.autograd.grad((losses * share).sum(), leaves)

    ours = SmoothedCrossEntropy.apply(*leaves, target, smoothing)
    logits = nn.functional.linear(*leaves).float()
    theirs = nn.functional.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    for found, expected in zip(gradients(ours), gradients(theirs), strict=True):
        assert found.dtype == dtype
        assert (found - expected).float().norm() < tolerance * expected.float().norm()


def test_a_target_without_any_chance_has_a_finite_loss():
    """Its probability is zero in 32 bits."""
    features, weight = torch.tensor([[100.0]]), torch.tensor([[10.0], [-10.0]])
    loss = SmoothedCrossEntropy.apply(features, weight, torch.zeros(2), torch.tensor([1]), 0.0)
    assert 80 < loss.item() < math.inf


def test_loss_of_a_model_is_that_of_its_logits(model, batch):
    loss, _ = loss_of(model, batch, smoothing=0.1)
    target = batch.target[:, 1:]
    logits = model.logits(model(batch.source, batch.source_lengths, batch.target[:, :-1])[0]).flatten(0, 1)
    expected = nn.functional.cross_entropy(logits, target.flatten(), ignore_index=PAD, label_smoothing=0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_loss_through_a_wrapper_is_that_of_the_model(model, batch):
    """Accelerate wraps the model where several processes train it."""
    wrapped = nn.Module()
    wrapped.module, wrapped.forward = model, model.forward
    assert torch.equal(loss_of(wrapped, batch, 0.1)[0], loss_of(model, batch, 0.1)[0])


def test_alignment_loss_by_hand():
    attention = torch.tensor([[[0.0, 0.5, 0.5], [0.0, 0.2, 0.8]], [[0.1, 0.6, 0.3], [1.0, 0.0, 0.0]]])
    links = torch.tensor([[0, 0, 1], [0, 0, 0], [1, 2, 1]])  # the first token of both, of two words and of one
    assert alignment_loss(attention, links, 0).item() == pytest.approx(-(math.log(0.5) + math.log(0.6)) / 2)
    one = torch.tensor([[0], [0], [2]])
    assert alignment_loss(attention, one, 1).item() == pytest.approx(-math.log(0.8))
    never = torch.tensor([[1], [1], [1]])
    assert math.isfinite(alignment_loss(attention, never, 0).item())


@pytest.mark.parametrize("shift", [0, 1])
def test_guided_attention_learns_its_alignment(configure, architecture, batch, shift):
    config = configure(architecture, dropout=0.0)
    model = checkpoint.build(
        config.model_copy(update={"model": config.model.model_copy(update={"alignment_shift": shift})})
    )
    rows = [(b, t, t % 2 + 1) for b in range(3) for t in range(int((batch.target[b] > 0).sum()) - 2)]
    guided = batch._replace(links=torch.tensor(rows).T)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    looked = []
    for _ in range(150):
        optimizer.zero_grad()
        loss_of(model, guided, 0.1, guidance=1.0, shift=shift)[0].backward()
        optimizer.step()
        with torch.inference_mode():
            _, attention = model(batch.source, batch.source_lengths, batch.target[:, :-1])
        looked.append(np.mean([attention[b, t + shift, s].item() for b, t, s in rows]))
    assert looked[0] < 0.4
    assert looked[-1] > 0.75


def test_links_count_only_where_they_weigh(model, batch):
    guided = batch._replace(links=torch.tensor([[0], [0], [1]]))
    none = batch._replace(links=torch.zeros(3, 0, dtype=torch.long))
    plain = loss_of(model, batch, 0.1)[0]
    assert torch.equal(plain, loss_of(model, guided, 0.1)[0])
    assert torch.equal(plain, loss_of(model, none, 0.1, guidance=1.0)[0])
    assert loss_of(model, guided, 0.1, guidance=1.0)[0] > plain
