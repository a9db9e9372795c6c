"""What must hold for every translator, whatever attends inside it."""

import pytest
import torch
from torch import nn

from models.bahdanau import Bahdanau
from models.loss import loss_of
from models.tokenizer import BOS, EOS, PAD
from models.translator import Translator, greedy, length_mask


@pytest.fixture
def lengths(batch):
    """Target lengths, BOS included and EOS not: what a decoder reads."""
    return (batch.target != PAD).sum(1) - 1


def forward(model, batch):
    with torch.inference_mode():
        features, attention = model(batch.source, batch.source_lengths, batch.target[:, :-1])
        return model.logits(features), attention


def test_length_mask():
    assert length_mask(torch.tensor([0, 1, 3]), 3).int().tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 1]]


def test_an_interface_alone_translates_nothing(batch):
    with pytest.raises(NotImplementedError):
        Translator().encode(batch.source, batch.source_lengths)
    with pytest.raises(NotImplementedError):
        Translator().step(batch.source[:, 0], 0, {}, {})
    with pytest.raises(NotImplementedError):
        Translator()(batch.source, batch.source_lengths, batch.target)


def test_padding_of_the_source_changes_nothing(model, batch):
    logits, attention = forward(model, batch)
    padded = batch._replace(source=nn.functional.pad(batch.source, (0, 4), value=PAD))
    padded_logits, padded_attention = forward(model, padded)
    torch.testing.assert_close(padded_logits, logits)
    torch.testing.assert_close(padded_attention[..., :-4], attention)
    assert not padded_attention[..., -4:].any()


def test_a_sentence_alone_is_as_in_its_batch(model, batch, lengths):
    logits, attention = forward(model, batch)
    for i, (source_length, length) in enumerate(zip(batch.source_lengths.tolist(), lengths.tolist(), strict=True)):
        row = slice(i, i + 1)
        alone = type(batch)(
            batch.source[row, :source_length], batch.source_lengths[row], batch.target[row, : length + 1]
        )
        alone_logits, alone_attention = forward(model, alone)
        torch.testing.assert_close(alone_logits[0], logits[i, :length])
        torch.testing.assert_close(alone_attention[0], attention[i, :length, :source_length])


def test_step_by_step_is_as_all_at_once(model, batch):
    logits, attention = forward(model, batch)
    with torch.inference_mode():
        memory, state = model.encode(batch.source, batch.source_lengths)
        for position, token in enumerate(batch.target[:, :-1].unbind(1)):
            step_logits, state, step_attention = model.step(token, position, memory, state)
            torch.testing.assert_close(step_logits, logits[:, position])
            torch.testing.assert_close(step_attention, attention[:, position])


def test_attention_is_a_distribution_over_the_real_source(model, batch):
    _, attention = forward(model, batch)
    assert attention.shape == (3, batch.target.shape[1] - 1, batch.source.shape[1])
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:2]))
    padding = ~length_mask(batch.source_lengths, batch.source.shape[1])
    assert padding.any()
    assert not attention.transpose(1, 2)[padding].any()


@pytest.mark.parametrize("changed", [1, 3])
def test_a_later_target_token_changes_nothing_earlier(model, batch, changed):
    target = batch.target.clone()
    target[:, changed] = (target[:, changed] + 7) % model.config.vocab_size
    before, before_attention = forward(model, batch)
    after, after_attention = forward(model, batch._replace(target=target))
    torch.testing.assert_close(after[:, :changed], before[:, :changed])
    torch.testing.assert_close(after_attention[:, :changed], before_attention[:, :changed])
    assert not torch.allclose(after[:, changed], before[:, changed])


def test_the_order_of_the_source_matters(model, batch):
    logits, _ = forward(model, batch)
    swapped = batch.source[:, [1, 0, *range(2, batch.source.shape[1])]]
    assert not torch.allclose(forward(model, batch._replace(source=swapped))[0], logits, atol=1e-3)


def test_every_parameter_learns(model, batch):
    loss, tokens = loss_of(model, batch, smoothing=0.1)
    loss.backward()
    assert tokens == 5 + 6 + 2
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("attention.key.bias") or isinstance(model, Bahdanau):  # a softmax ignores such a shift
            assert parameter.grad.abs().max() > 1e-7, name


def test_output_bias_is_that_of_the_logits(model, batch):
    before, _ = forward(model, batch)
    with torch.no_grad():
        model.output_bias[17] += 2.0
    after, _ = forward(model, batch)
    expected = torch.zeros_like(before)
    expected[..., 17] = 2.0
    torch.testing.assert_close(after - before, expected, atol=1e-5, rtol=0)


def decode(model, batch, rows=slice(None), max_length=12):
    source_lengths = batch.source_lengths[rows]
    source = batch.source[rows, : int(source_lengths.max())]
    return greedy(model, source, source_lengths, bos=BOS, eos=EOS, max_length=max_length)


def test_greedy_takes_the_likeliest_token_and_says_how_likely(model, batch):
    tokens, log_prob = decode(model, batch)
    with torch.inference_mode():
        inputs = nn.functional.pad(tokens[:, :-1], (1, 0), value=BOS)
        features, _ = model(batch.source, batch.source_lengths, inputs)
        best, likeliest = model.logits(features).log_softmax(-1).max(-1)
    assert (tokens != EOS).all()
    assert tokens.tolist() == likeliest.tolist()
    torch.testing.assert_close(log_prob, best)


def test_greedy_alone_is_as_in_the_batch(model, batch):
    tokens, log_prob = decode(model, batch)
    for i in range(len(tokens)):
        alone, alone_log_prob = decode(model, batch, slice(i, i + 1))
        assert alone[0].tolist() == tokens[i].tolist()
        torch.testing.assert_close(alone_log_prob[0], log_prob[i])


class Scripted(Translator):
    """Says what its source says, each token with a probability of a half, and then babbles on."""

    def encode(self, source, source_lengths):
        return {"memory.source": nn.functional.pad(source, (0, 20), value=9)}, {}

    def step(self, token, position, memory, state):
        probability = nn.functional.one_hot(memory["memory.source"][:, position], 11) * 0.45 + 0.05
        return probability.log(), state, torch.zeros_like(probability)


def say(*rows, max_length=12):
    source = torch.tensor(rows)
    return greedy(Scripted(), source, torch.full((len(rows),), 4), bos=BOS, eos=EOS, max_length=max_length)


def test_greedy_repeats_eos_at_no_cost_after_the_end():
    tokens, log_prob = say([5, EOS, 7, 7], [5, 6, 7, EOS], [EOS, 8, 8, 8])
    assert tokens.tolist() == [[5, EOS, EOS, EOS], [5, 6, 7, EOS], [EOS] * 4]
    torch.testing.assert_close(log_prob.sum(1), torch.tensor([2.0, 4.0, 1.0]) * torch.tensor(0.5).log())


def test_greedy_stops_when_all_rows_have_ended_or_at_max_length():
    assert say([5, EOS, 7, 7], [EOS, 8, 8, 8])[0].shape == (2, 2)
    assert say([5, EOS, 7, 7], [5, 6, 7, 8], max_length=6)[0].tolist() == [[5] + [EOS] * 5, [5, 6, 7, 8, 9, 9]]
