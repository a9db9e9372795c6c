"""The building blocks by hand, the mechanisms against their equations and against PyTorch's own."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.attention import (
    AdditiveAttention,
    AveragePooling,
    MaxPooling,
    MultiHeadAttention,
    ScaledDotProductAttention,
    SelfAttention,
    dot_product,
    normalise,
    reweight,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_dot_product_compares_every_query_with_every_key():
    query = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    key = torch.tensor([[3.0, 4.0], [5.0, 6.0], [1.0, 0.0]])
    assert dot_product(query, key).tolist() == [[11.0, 17.0, 1.0], [-4.0, -6.0, 0.0]]


def test_normalise_is_the_softmax():
    weights = normalise(torch.tensor([0.0, math.log(2.0), math.log(5.0)]))
    torch.testing.assert_close(weights, torch.tensor([1 / 8, 2 / 8, 5 / 8]))


def test_normalise_gives_masked_positions_exactly_zero():
    weights = normalise(torch.tensor([1.0, 1e30, 1.0]), torch.tensor([True, False, True]))
    assert weights.tolist() == [0.5, 0.0, 0.5]


def test_normalise_of_a_fully_masked_row_is_uniform():
    mask = torch.tensor([[False, False, False, False], [False, True, False, False]])
    assert normalise(torch.randn(2, 4), mask).tolist() == [[0.25] * 4, [0.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@settings(deadline=None)
@given(visible=st.lists(st.booleans(), min_size=1, max_size=8))
def test_normalise_is_a_distribution_whatever_is_masked(dtype, visible):
    mask = torch.tensor(visible)
    weights = normalise(torch.linspace(-50, 50, len(visible), dtype=dtype), mask)
    assert float(weights.float().sum()) == pytest.approx(1.0, abs=1e-2)
    if mask.any():
        assert not weights[~mask].any()


def test_reweight_is_the_weighted_sum_of_the_values():
    value = torch.tensor([[1.0, 0.0], [0.0, 10.0], [4.0, 4.0]])
    assert reweight(torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]), value).tolist() == [[1.5, 3.5], [0.0, 10.0]]


VALUE = torch.tensor([[[1.0, 5.0], [3.0, -1.0], [8.0, 2.0]]])
FIRST_TWO = torch.tensor([[True, True, False]])
NONE = torch.tensor([[False, False, False]])


def test_average_pooling():
    assert AveragePooling()(VALUE).tolist() == [[4.0, 2.0]]
    assert AveragePooling()(VALUE, FIRST_TWO).tolist() == [[2.0, 2.0]]
    assert AveragePooling()(VALUE, NONE).isfinite().all()


def test_max_pooling():
    assert MaxPooling()(VALUE).tolist() == [[8.0, 5.0]]
    assert MaxPooling()(VALUE, FIRST_TWO).tolist() == [[3.0, 5.0]]
    assert MaxPooling()(VALUE, NONE).isfinite().all()


def dictionary(count):
    """As many queries as entries, each of which should fetch the value under its own key."""
    key = 10 * torch.eye(count)
    value = torch.randperm(count).float()[:, None] + 1
    return key, key, value


@pytest.mark.parametrize("pooling", [AveragePooling(), MaxPooling()])
def test_pooling_gives_every_query_the_same_value(pooling):
    queries, _, value = dictionary(6)
    answers = torch.stack([pooling(value[None])[0] for _ in queries])  # the query has nowhere to go in
    assert (answers == answers[0]).all()
    assert (answers.round() == value).sum() <= 1


def test_dot_product_attention_fetches_the_value_that_the_query_asks_for():
    query, key, value = dictionary(6)
    context, weights = ScaledDotProductAttention()(query, key, value)
    torch.testing.assert_close(context, value)
    assert weights.argmax(-1).tolist() == list(range(6))


def test_additive_attention_learns_to_fetch_what_pooling_cannot():
    """Entry and query are random codes; what is asked for is the value whose key is the query."""
    attention = AdditiveAttention(query_size=4, key_size=4, hidden_size=32)
    optimizer = torch.optim.Adam(attention.parameters(), lr=2e-2)
    codes = 2 * torch.eye(4)
    value = torch.tensor([[-1.0], [-0.3], [0.3], [1.0]])

    def errors():
        order = torch.stack([torch.randperm(4) for _ in range(32)])  # [B, S]
        asked = torch.randint(4, (32,))
        context, _ = attention(codes[asked], attention.project(codes[order]), value[order], None)
        pooled = AveragePooling()(value[order])
        return ((context - value[asked]) ** 2).mean(), ((pooled - value[asked]) ** 2).mean()

    for _ in range(200):
        optimizer.zero_grad()
        errors()[0].backward()
        optimizer.step()
    attended, pooled = errors()
    assert attended < 0.02
    assert pooled > 0.3


def test_additive_attention_is_its_equation():
    attention = AdditiveAttention(query_size=2, key_size=3, hidden_size=2)
    w, u, v = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.5, 0.0, 0.0], [0.0, -1.0, 1.0]]), [1.0, -3.0]
    with torch.no_grad():
        attention.query.weight.copy_(w)
        attention.key.weight.copy_(u)
        attention.key.bias.copy_(torch.tensor([0.1, 0.2]))
        attention.score.weight.copy_(torch.tensor([v]))
    s = [0.3, -0.4]
    h = [[1.0, 2.0, 3.0], [0.0, 1.0, -1.0], [5.0, 5.0, 5.0]]
    energies = [
        v[0] * math.tanh(1.0 * s[0] + 0.5 * a + 0.1) + v[1] * math.tanh(2.0 * s[1] - b + c + 0.2) for a, b, c in h[:2]
    ]
    total = sum(math.exp(e) for e in energies)
    alpha = [math.exp(e) / total for e in energies]
    expected = [sum(a * row[k] for a, row in zip(alpha, h[:2], strict=True)) for k in range(3)]

    memory = torch.tensor([h])
    mask = torch.tensor([[True, True, False]])
    context, weights = attention(torch.tensor([s]), attention.project(memory), memory, mask)
    assert weights[0].tolist() == pytest.approx([*alpha, 0.0])
    assert context[0].tolist() == pytest.approx(expected)


def test_scaled_dot_product_is_that_of_torch():
    query, key, value = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 4)
    mask = torch.rand(2, 1, 5, 7) < 0.6
    mask[..., 0] = True
    context, _ = ScaledDotProductAttention()(query, key, value, mask)
    torch.testing.assert_close(context, nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask))


def test_dropout_thins_the_context_and_not_the_weights_that_are_reported():
    attention = ScaledDotProductAttention(dropout=0.5)
    query, value = torch.randn(1, 4, 8), torch.ones(1, 200, 1)
    context, weights = attention(query, torch.randn(1, 200, 8), value)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4))
    assert not torch.allclose(context, torch.ones(1, 4, 1))
    attention.eval()
    torch.testing.assert_close(attention(query, torch.randn(1, 200, 8), value)[0], torch.ones(1, 4, 1))


def copied(ours, theirs):
    """The weights of ``ours`` in ``nn.MultiheadAttention``."""
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
    return theirs


def test_multi_head_is_that_of_torch():
    ours = MultiHeadAttention(size=12, heads=3)
    theirs = copied(ours, nn.MultiheadAttention(12, 3, batch_first=True))
    x, memory = torch.randn(2, 4, 12), torch.randn(2, 6, 12)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    context, weights = ours(x, *ours.project(memory), mask[:, None, None])
    expected, expected_weights = theirs(x, memory, memory, key_padding_mask=~mask, average_attn_weights=False)
    torch.testing.assert_close(context, expected)
    torch.testing.assert_close(weights, expected_weights)
    assert not weights[1, ..., 4:].any()


def test_heads_must_divide_the_size():
    with pytest.raises(ValueError, match="size 10 does not divide into 3 heads"):
        MultiHeadAttention(size=10, heads=3)


def test_self_attention_with_a_past_is_that_over_the_whole_sequence():
    attention = SelfAttention(size=8, heads=2)
    x = torch.randn(3, 5, 8)
    whole, (key, value) = attention.attend(x, torch.ones(5, 5, dtype=torch.bool).tril())
    past, pieces = None, []
    for piece in x.split([2, 1, 2], dim=1):
        seen = 0 if past is None else past[0].shape[2]
        mask = torch.ones(piece.shape[1], seen + piece.shape[1], dtype=torch.bool).tril(seen)
        context, past = attention.attend(piece, mask, past)
        pieces.append(context)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    torch.testing.assert_close(past, (key, value))
