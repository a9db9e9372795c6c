"""The parts of the Transformer that are its own: positions, residual stream, caches, alignment."""

import math

import pytest
import torch

from models.checkpoint import build
from models.transformer import FeedForward, Transformer, sinusoids


@pytest.fixture
def architecture():
    return "transformer"


def test_sinusoids_are_those_of_the_paper():
    table = sinusoids(5, 6)
    for position in range(5):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_feed_forward_is_two_layers_with_a_relu_between():
    layer = FeedForward(3, 5, dropout=0.0)
    x = torch.randn(2, 3)
    expected = (x @ layer.up.weight.T + layer.up.bias).clamp(min=0) @ layer.down.weight.T + layer.down.bias
    torch.testing.assert_close(layer(x), expected)


def test_embedding_is_scaled_and_knows_its_position(model):
    tokens = torch.tensor([[9, 9, 9]])
    expected = 4.0 * model.embedding.weight[9] + sinusoids(10, 16)[[5, 6, 7]]  # 4 is the root of size 16
    torch.testing.assert_close(model.embed(tokens, start=5)[0], expected)


def test_layers_add_to_the_stream_and_norm_what_they_read(model, batch):
    """With silent layers the embedding passes to the last norm and the tied output unchanged."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "attention.output" in name or "feed_forward.3" in name:
                parameter.zero_()
        features, _ = model(batch.source, batch.source_lengths, batch.target)
        expected = model.decoder_norm(model.embed(batch.target)) @ model.embedding.weight.T + model.bias
    torch.testing.assert_close(model.logits(features), expected)


def test_the_cache_grows_by_one_position_a_step(model, batch):
    with torch.inference_mode():
        memory, state = model.encode(batch.source, batch.source_lengths)
        for position in range(3):
            _, state, _ = model.step(batch.target[:, position], position, memory, state)
            assert sorted(state) == ["state.key.0", "state.key.1", "state.value.0", "state.value.1"]
            assert {tuple(tensor.shape) for tensor in state.values()} == {(3, 2, position + 1, 8)}


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_alignment_is_the_chosen_layer_averaged_over_its_heads(configure, batch, layer):
    config = configure("transformer")
    chosen = config.model.model_copy(update={"alignment_layer": layer})
    model = build(config.model_copy(update={"model": chosen})).eval()
    assert isinstance(model, Transformer)
    heads = []
    for decoder_layer in model.decoder:
        decoder_layer.cross_attention.register_forward_hook(lambda _module, _inputs, output: heads.append(output[1]))
    with torch.inference_mode():
        _, attention = model(batch.source, batch.source_lengths, batch.target)
    assert heads[layer].shape[1] == config.model.heads
    torch.testing.assert_close(attention, heads[layer].mean(dim=1))
    assert not torch.allclose(heads[0], heads[1])


def test_alignment_is_the_chosen_head(configure, batch):
    config = configure("transformer")
    found = []
    for head in (None, 0, 1):
        chosen = config.model.model_copy(update={"alignment_head": head})
        model = build(config.model_copy(update={"model": chosen})).eval()
        with torch.inference_mode():
            found.append(model(batch.source, batch.source_lengths, batch.target)[1])
    mean, first, second = found
    torch.testing.assert_close(mean, (first + second) / 2)
    assert not torch.allclose(first, second)


def test_longer_than_the_position_table_is_an_error(model):
    too_long = torch.full((1, model.config.max_length + 1), 9)
    with pytest.raises(RuntimeError):
        model.encode(too_long, torch.tensor([too_long.shape[1]]))
