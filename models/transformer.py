"""Attention is all you need (Vaswani et al. 2017, arXiv:1706.03762), pre-norm, deep encoder and shallow decoder."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from models.attention import MultiHeadAttention, SelfAttention
from models.config import TransformerConfig
from models.dropout import Dropout
from models.translator import Tensors, Translator, length_mask


def sinusoids(length: int, size: int) -> Tensor:
    """``PE(p, 2i) = sin(p / 10000^(2i/d))``, ``PE(p, 2i+1) = cos(...)`` (section 3.5): ``[length, size]``."""
    rates = torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size))
    angles = torch.arange(length)[:, None] * rates[None]
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class FeedForward(nn.Sequential):
    """``max(0, x W_1 + b_1) W_2 + b_2`` at every position (equation 2)."""

    def __init__(self, size: int, hidden_size: int, dropout: float) -> None:
        super().__init__(nn.Linear(size, hidden_size), nn.ReLU(), Dropout(dropout), nn.Linear(hidden_size, size))

    @property
    def up(self) -> nn.Linear:
        return cast(nn.Linear, self[0])

    @property
    def down(self) -> nn.Linear:
        return cast(nn.Linear, self[3])


class EncoderLayer(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(config.size)
        self.self_attention = SelfAttention(config.size, config.heads, config.dropout)
        self.feed_forward_norm = nn.LayerNorm(config.size)
        self.feed_forward = FeedForward(config.size, config.feed_forward_size, config.dropout)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x [B, S, size], mask [B, 1, 1, S] -> [B, S, size]``."""
        x = x + self.dropout(self.self_attention.attend(self.self_norm(x), mask)[0])
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class DecoderLayer(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(config.size)
        self.self_attention = SelfAttention(config.size, config.heads, config.dropout)
        self.cross_norm = nn.LayerNorm(config.size)
        self.cross_attention = MultiHeadAttention(config.size, config.heads, config.dropout)
        self.feed_forward_norm = nn.LayerNorm(config.size)
        self.feed_forward = FeedForward(config.size, config.feed_forward_size, config.dropout)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        cross: tuple[Tensor, Tensor],
        cross_mask: Tensor,
        self_mask: Tensor | None = None,
        past: SelfAttention.Past | None = None,
    ) -> tuple[Tensor, SelfAttention.Past, Tensor]:
        """``x [B, T, size]`` -> the same shape, the lengthened past, cross-attention ``[B, H, T, S]``."""
        context, past = self.self_attention.attend(self.self_norm(x), self_mask, past)
        x = x + self.dropout(context)
        context, weights = self.cross_attention(self.cross_norm(x), *cross, cross_mask)
        x = x + self.dropout(context)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x))), past, weights


class Transformer(Translator):
    config: TransformerConfig
    encoder: Sequence[EncoderLayer]
    decoder: Sequence[DecoderLayer]

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.size, padding_idx=config.pad)
        self.register_buffer("positions", sinusoids(config.max_length, config.size), persistent=False)
        self.positions: Tensor
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))  # type: ignore[assignment]
        self.encoder_norm = nn.LayerNorm(config.size)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))  # type: ignore[assignment]
        self.decoder_norm = nn.LayerNorm(config.size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            if name.endswith("embedding.weight"):
                nn.init.normal_(parameter, std=config.size**-0.5)

    @property
    def output_bias(self) -> nn.Parameter:
        return self.bias

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Token embedding times sqrt(size), plus position (section 3.4): ``[B, L] -> [B, L, size]``."""
        scaled = self.embedding(tokens) * math.sqrt(self.config.size)
        return self.dropout(scaled + self.positions[start : start + tokens.shape[1]])

    def encode(self, source: Tensor, source_lengths: Tensor) -> tuple[Tensors, Tensors]:
        mask = length_mask(source_lengths, source.shape[1])
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, mask[:, None, None])
        x = self.encoder_norm(x)
        memory = {"memory.mask": mask}
        for i, reader in enumerate(self.decoder):
            memory[f"memory.key.{i}"], memory[f"memory.value.{i}"] = reader.cross_attention.project(x)
        return memory, {}

    def decode(self, target: Tensor, memory: Tensors, state: Tensors, start: int = 0) -> tuple[Tensor, Tensors, Tensor]:
        """``target [B, T]`` after ``start`` tokens in ``state`` -> features, longer state, attention ``[B, T, S]``."""
        length = target.shape[1]
        causal = torch.ones(length, start + length, dtype=torch.bool, device=target.device).tril(start)
        cross_mask = memory["memory.mask"][:, None, None]
        x, new_state, attention = self.embed(target, start), {}, []
        for i, layer in enumerate(self.decoder):
            names = f"state.key.{i}", f"state.value.{i}"
            past = (state[names[0]], state[names[1]]) if state else None
            cross = memory[f"memory.key.{i}"], memory[f"memory.value.{i}"]
            x, (new_state[names[0]], new_state[names[1]]), weights = layer(x, cross, cross_mask, causal, past)
            attention.append(weights)
        x = self.decoder_norm(x)
        alignment, head = attention[self.config.alignment_layer], self.config.alignment_head  # [B, H, T, S]
        return x, new_state, alignment.mean(dim=1) if head is None else alignment[:, head]

    def step(self, token: Tensor, position: int, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors, Tensor]:
        features, state, attention = self.decode(token[:, None], memory, state, position)
        return self.logits(features[:, 0]), state, attention[:, 0]

    def forward(self, source: Tensor, source_lengths: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        memory, state = self.encode(source, source_lengths)
        features, _, attention = self.decode(target, memory, state)
        return features, attention
