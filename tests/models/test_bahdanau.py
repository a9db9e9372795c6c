"""The recurrent translator against the equations of its paper and PyTorch's own GRU."""

import pytest
import torch
from torch import nn

from models.bahdanau import DeepOutput, GatedRecurrentUnit
from models.dropout import Dropout


@pytest.fixture
def architecture():
    return "bahdanau"


def test_cell_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = GatedRecurrentUnit(5, 4), nn.GRUCell(5, 4)
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.input.weight)
        theirs.bias_ih.copy_(ours.input.bias)
        theirs.weight_hh.copy_(ours.hidden.weight)
        theirs.bias_hh.copy_(ours.hidden.bias)
    x, hidden = torch.randn(3, 5), torch.randn(3, 4)
    torch.testing.assert_close(ours(x, hidden), theirs(x, hidden))


def test_decoder_begins_with_the_last_states_of_both_directions(model, batch):
    with torch.inference_mode():
        memory, state = model.encode(batch.source, batch.source_lengths)
        annotations, size = memory["memory.annotations"], model.config.encoder_size
        forward = annotations[torch.arange(3), batch.source_lengths - 1, :size]  # has read up to the last word
        backward = annotations[:, 0, size:]  # has read down to the first
        expected = torch.tanh(model.initial(torch.cat([forward, backward], dim=-1)))
    torch.testing.assert_close(state["state.hidden"], expected)


def test_every_annotation_sums_up_the_whole_sentence(model, batch):
    """Changing the last word reaches the first annotation, changing the first word the last one."""

    def annotations(source):
        with torch.inference_mode():
            return model.encode(source[1:2], batch.source_lengths[1:2])[0]["memory.annotations"][0]

    before = annotations(batch.source)
    for changed, watched in ((6, 0), (0, 6)):
        source = batch.source.clone()
        source[1, changed] = 50
        assert not torch.equal(annotations(source)[watched], before[watched])


def test_one_step_is_that_of_the_paper(model, batch):
    """``alpha`` from ``s_(i-1)`` and the word before, ``c_i`` from ``alpha``, ``s_i`` from all of them."""
    with torch.inference_mode():
        memory, state = model.encode(batch.source[1:2], batch.source_lengths[1:2])
        hidden, token = state["state.hidden"], torch.tensor([17])
        _, after, attention = model.step(token, 0, memory, state)
        h, a = memory["memory.annotations"][0], model.attention
        query = torch.cat([hidden[0], model.embedding.weight[17]])
        energies = torch.tanh(a.query.weight @ query + h @ a.key.weight.T + a.key.bias) @ a.score.weight[0]
        alpha = energies.softmax(0)
        expected = model.cell(torch.cat([model.embedding.weight[17], alpha @ h])[None], hidden)
    torch.testing.assert_close(attention[0], alpha)
    torch.testing.assert_close(after["state.hidden"], expected)


def test_output_is_a_maxout_over_state_word_and_context(configure):
    config = configure("bahdanau").model
    torch.manual_seed(0)
    output, e = DeepOutput(config, Dropout(0.0)), config.embedding_size
    state, word, context = (
        torch.randn(2, config.decoder_size),
        torch.randn(2, e),
        torch.randn(2, 2 * config.encoder_size),
    )
    pieces = torch.cat([state, word, context], dim=-1) @ output.maxout.weight.T + output.maxout.bias
    torch.testing.assert_close(output(state, word, context), torch.maximum(pieces[:, :e], pieces[:, e:]))
