"""A trained Transformer as a CTranslate2 model."""

from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import common_spec, transformer_spec
from torch import Tensor, nn

from models.attention import MultiHeadAttention, SelfAttention
from models.tokenizer import BOS, EOS, UNK, Tokenizer
from models.transformer import FeedForward, Transformer


def array(*parts: Tensor) -> np.ndarray:
    """Tensors stacked along the first axis."""
    return np.concatenate([part.detach().numpy() for part in parts])


def linear(spec: Any, *layers: nn.Linear) -> None:
    """Several layers that read the same input become one."""
    spec.weight, spec.bias = array(*(layer.weight for layer in layers)), array(*(layer.bias for layer in layers))


def norm(spec: Any, layer: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = array(layer.weight), array(layer.bias)


def self_attention(spec: Any, attention: SelfAttention, before: nn.LayerNorm) -> None:
    norm(spec.layer_norm, before)
    linear(spec.linear[0], attention.query, attention.key, attention.value)
    linear(spec.linear[1], attention.output)


def cross_attention(spec: Any, attention: MultiHeadAttention, before: nn.LayerNorm) -> None:
    norm(spec.layer_norm, before)
    linear(spec.linear[0], attention.query)
    linear(spec.linear[1], attention.key, attention.value)
    linear(spec.linear[2], attention.output)


def feed_forward(spec: Any, layer: FeedForward, before: nn.LayerNorm) -> None:
    norm(spec.layer_norm, before)
    linear(spec.linear_0, layer.up)
    linear(spec.linear_1, layer.down)


def specification(model: Transformer) -> transformer_spec.TransformerSpec:
    """The same architecture with the same weights; attention of the same layer, of its first head or of all: the peer
    averages as many of the first heads as it is told.
    """
    config = model.config
    spec = transformer_spec.TransformerSpec.from_config(
        (config.encoder_layers, config.decoder_layers),
        config.heads,
        pre_norm=True,
        activation=common_spec.Activation.RELU,
        alignment_layer=config.alignment_layer,
        alignment_heads=1 if config.alignment_head == 0 else config.heads,
    )
    embedding = array(model.embedding.weight)
    spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = embedding
    spec.decoder.projection.weight, spec.decoder.projection.bias = embedding, array(model.bias)
    for side in (spec.encoder, spec.decoder):
        side.position_encodings.encodings = array(model.positions)
    norm(spec.encoder.layer_norm, model.encoder_norm)
    norm(spec.decoder.layer_norm, model.decoder_norm)
    for into, encoder in zip(spec.encoder.layer, model.encoder, strict=True):
        self_attention(into.self_attention, encoder.self_attention, encoder.self_norm)
        feed_forward(into.ffn, encoder.feed_forward, encoder.feed_forward_norm)
    for into, decoder in zip(spec.decoder.layer, model.decoder, strict=True):
        self_attention(into.self_attention, decoder.self_attention, decoder.self_norm)
        cross_attention(into.attention, decoder.cross_attention, decoder.cross_norm)
        feed_forward(into.ffn, decoder.feed_forward, decoder.feed_forward_norm)
    return spec


def pieces(tokenizer: Tokenizer, size: int) -> list[str]:
    """The vocabulary as text, which is what CTranslate2 takes and gives.

    Ids that the tokenizer does not have get names that none of its sub-words can have, with a blank.
    """
    return [tokenizer.model.id_to_piece(i) if i < len(tokenizer) else f"unused {i}" for i in range(size)]


def convert(model: Transformer, tokenizer: Tokenizer, directory: Path) -> None:
    """Write a float32 CTranslate2 model, from which it makes any precision when it loads it."""
    spec, vocabulary = specification(model), pieces(tokenizer, model.config.vocab_size)
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.unk_token, spec.config.eos_token = vocabulary[UNK], vocabulary[EOS]
    spec.config.bos_token = spec.config.decoder_start_token = vocabulary[BOS]
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.validate()
    spec.optimize()
    directory.mkdir(parents=True, exist_ok=True)
    spec.save(str(directory))
