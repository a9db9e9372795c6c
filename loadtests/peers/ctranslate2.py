"""CTranslate2 with the weights of a trained Transformer."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.specs import common_spec, transformer_spec
from torch import Tensor, nn

from loadtests.peers import BATCH, Search, System, Translation
from models.attention import MultiHeadAttention, SelfAttention
from models.tokenizer import BOS, EOS, UNK, Tokenizer
from models.transformer import FeedForward, Transformer

COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}


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
    """The same architecture with the same weights; attention of the same layer, averaged over all heads."""
    config = model.config
    spec = transformer_spec.TransformerSpec.from_config(
        (config.encoder_layers, config.decoder_layers),
        config.heads,
        pre_norm=True,
        activation=common_spec.Activation.RELU,
        alignment_layer=config.alignment_layer,
        alignment_heads=config.heads,
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


def pieces(tokenizer: Tokenizer) -> list[str]:
    """The vocabulary as text, which is what CTranslate2 takes and gives."""
    return [tokenizer.model.id_to_piece(i) for i in range(len(tokenizer))]


def convert(model: Transformer, tokenizer: Tokenizer, directory: Path) -> None:
    """Write a float32 CTranslate2 model, from which it makes any precision when it loads it."""
    spec, vocabulary = specification(model), pieces(tokenizer)
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.unk_token, spec.config.eos_token = vocabulary[UNK], vocabulary[EOS]
    spec.config.bos_token = spec.config.decoder_start_token = vocabulary[BOS]
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.validate()
    spec.optimize()
    directory.mkdir(parents=True, exist_ok=True)
    spec.save(str(directory))


class CTranslate2(System):
    """Batches of ``BATCH`` in the order given, all queued at once; it removes padding and finished rows itself."""

    name = "ctranslate2"

    def __init__(self, directory: Path, tokenizer: Tokenizer, precision: str, *, inter: int, intra: int) -> None:
        """``inter`` batches at a time, ``intra`` threads for each.

        ``CT2_*`` variables choose its kernels for the whole process; the report names those that are set.
        """
        variables = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("CT2_")]
        setup = " ".join([f"inter_threads={inter} intra_threads={intra}", *variables])
        super().__init__(precision, inter * intra, setup)
        self._pieces = pieces(tokenizer)
        self._ids = {piece: i for i, piece in enumerate(self._pieces)}
        self._translator = ctranslate2.Translator(
            str(directory),
            compute_type=COMPUTE_TYPES[precision],
            inter_threads=inter,
            intra_threads=intra,
            max_queued_batches=-1,
        )

    def translate(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        texts = [[self._pieces[i] for i in source] for source in sources]
        queued = [
            waiting
            for start in range(0, len(texts), BATCH)
            for waiting in self._translator.translate_batch(
                texts[start : start + BATCH],
                asynchronous=True,
                beam_size=search.beam_size,
                max_input_length=0,
                max_decoding_length=search.max_length,
                min_decoding_length=0,
                return_attention=search.attention,
            )
        ]
        return [self._translation(waiting.result(), search.attention) for waiting in queued]

    def _translation(self, result: Any, attention: bool) -> Translation:
        ids = [self._ids[piece] for piece in result.hypotheses[0]]
        return Translation(ids, result.attention[0] if attention else None)

    def close(self) -> None:
        self._translator.unload_model()
