"""Marian's Transformer, read from its configuration: what stands before and after each part is a matter of options.

The decoder's self-attention may be a simpler simple recurrent unit (Kim et al. 2019, "From research to production and
back"): a state that is carried from token to token, and nothing that grows with the sentence.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.marian.architecture import Architecture
from export.marian.shortlist import Shortlist
from models.attention import MultiHeadAttention, SelfAttention
from models.transformer import FeedForward
from models.translator import Tensors, Translator, length_mask


class Multipliers(NamedTuple):
    """Of weights that were 8-bit and of what they are multiplied with: a number times it is a level."""

    weight: float
    input: float


class Around(nn.Module):
    """What is done before and after a part; it has the normalisations that the options ask for."""

    def __init__(self, size: int, epsilon: float, before: str, after: str) -> None:
        super().__init__()
        self.ops = after
        self.before_norm = nn.LayerNorm(size, epsilon) if "n" in before else None
        self.after_norm = nn.LayerNorm(size, epsilon) if "n" in after else None

    def before(self, x: Tensor) -> Tensor:
        return x if self.before_norm is None else self.before_norm(x)

    def after(self, output: Tensor, x: Tensor) -> Tensor:
        """``x`` is the part's input before anything was done to it."""
        for op in self.ops:
            if op == "a":
                output = output + x
            else:
                assert self.after_norm is not None
                output = self.after_norm(output)
        return output


class RecurrentUnit(nn.Module):
    """``f = sigma(W_f x + b_f)``, ``c' = f * c + (1 - f) * W x``, output ``relu(c')``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.input = nn.Linear(size, size, bias=False)
        self.forget = nn.Linear(size, size)

    def forward(self, x: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """``x, cell [B, size]`` -> output and new cell."""
        new = self.input(x)
        cell = new + torch.sigmoid(self.forget(x)) * (cell - new)
        return F.relu(cell), cell


class Activated(FeedForward):
    """``activation(x W_1 + b_1) W_2 + b_2``."""

    def __init__(self, size: int, hidden_size: int, activation: str) -> None:
        super().__init__(size, hidden_size, dropout=0.0)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.down(activate(self.up(x), self.activation))


def activate(x: Tensor, activation: str) -> Tensor:
    if activation == "relu":
        return F.relu(x)
    if activation == "gelu":
        return F.gelu(x)
    return x * torch.sigmoid((1.702 if activation == "quick_gelu" else 1.0) * x)


class EncoderLayer(nn.Module):
    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        around = shape.size, shape.epsilon, shape.before, shape.after
        self.self_attention = SelfAttention(shape.size, shape.heads)
        self.self_around = Around(*around)
        self.feed_forward = Activated(shape.size, shape.encoder_hidden, shape.activation)
        self.feed_forward_around = Around(*around)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x [B, S, size], mask [B, 1, 1, S] -> [B, S, size]``."""
        x = self.self_around.after(self.self_attention.attend(self.self_around.before(x), mask)[0], x)
        return self.feed_forward_around.after(self.feed_forward(self.feed_forward_around.before(x)), x)


class DecoderLayer(nn.Module):
    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        around = shape.size, shape.epsilon, shape.before, shape.after
        self.unit = RecurrentUnit(shape.size) if shape.recurrent else None
        self.self_attention = None if shape.recurrent else SelfAttention(shape.size, shape.heads)
        self.self_around = Around(*around)
        self.cross_attention = MultiHeadAttention(shape.size, shape.heads)
        self.cross_around = Around(*around)
        self.feed_forward = Activated(shape.size, shape.decoder_hidden, shape.activation)
        self.feed_forward_around = Around(*around)

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...], cross: tuple[Tensor, Tensor], mask: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """``x [B, size]`` -> the same, the new state, cross-attention ``[B, H, S]``."""
        before = self.self_around.before(x)
        if self.unit is not None:
            output, *new = self.unit(before, *state)
        else:
            assert self.self_attention is not None
            past = (state[0], state[1]) if state else None
            output, new = self.self_attention.attend(before[:, None], past=past)
            output = output[:, 0]
        x = self.self_around.after(output, x)
        context, weights = self.cross_attention(self.cross_around.before(x)[:, None], *cross, mask)
        x = self.cross_around.after(context[:, 0], x)
        x = self.feed_forward_around.after(self.feed_forward(self.feed_forward_around.before(x)), x)
        return x, tuple(new), weights[:, :, 0]


class Marian(Translator):
    """``positions [longest, size]`` are added to embeddings. With ``empty_start`` the first token that the decoder
    reads, ``start``, has no embedding.
    """

    encoder: Sequence[EncoderLayer]
    decoder: Sequence[DecoderLayer]

    def __init__(self, shape: Architecture, positions: Tensor, start: int, *, empty_start: bool) -> None:
        super().__init__()
        self.shape, self.start, self.empty_start = shape, start, empty_start
        self.register_buffer("positions", positions, persistent=False)
        self.positions: Tensor
        edge = shape.size, shape.epsilon
        self.source_embedding = nn.Embedding(shape.source_vocabulary, shape.size)
        self.target_embedding = nn.Embedding(shape.target_vocabulary, shape.size)
        self.encoder_edge = Around(*edge, shape.after_embedding, shape.after_top)
        self.encoder = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))  # type: ignore[assignment]
        self.decoder_edge = Around(*edge, shape.after_embedding, shape.after_top)
        self.decoder = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.decoder_layers))  # type: ignore[assignment]
        self.output = nn.Linear(shape.size, shape.target_vocabulary)
        self.multipliers: dict[nn.Module, Multipliers] = {}
        """Of the layers whose weights were 8-bit already."""
        self.shortlist: Shortlist | None = None
        """With one, a sentence is translated to the sub-words that it has for it."""

    @property
    def tied(self) -> bool:
        """Are the weights of the last layer those of the embeddings?"""
        return self.output.weight is self.target_embedding.weight

    @property
    def output_bias(self) -> nn.Parameter:
        return self.output.bias

    def encode(self, source: Tensor, source_lengths: Tensor) -> tuple[Tensors, Tensors]:
        mask = length_mask(source_lengths, source.shape[1])
        embedded = self.source_embedding(source) * self.shape.embedding_factor + self.positions[: source.shape[1]]
        x = self.encoder_edge.before(embedded)
        for layer in self.encoder:
            x = layer(x, mask[:, None, None])
        x = self.encoder_edge.after(x, embedded)
        memory, state = {"memory.mask": mask}, {}
        for i, reader in enumerate(self.decoder):
            memory[f"memory.key.{i}"], memory[f"memory.value.{i}"] = reader.cross_attention.project(x)
            if reader.unit is not None:
                state[f"state.cell.{i}"] = x.new_zeros(len(x), self.shape.size)
        if self.shortlist is not None:
            memory["memory.candidates"] = torch.zeros(len(source), self.shape.target_vocabulary, dtype=torch.bool)
            for row, (ids, length) in enumerate(zip(source.numpy(), source_lengths.tolist(), strict=True)):
                memory["memory.candidates"][row, self.shortlist.of(ids[:length])] = True
        return memory, state

    def step(self, token: Tensor, position: int, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors, Tensor]:
        embedded = self.target_embedding(token) * self.shape.embedding_factor
        if self.empty_start:
            embedded = embedded.masked_fill((token == self.start)[:, None], 0.0)
        embedded = embedded + self.positions[position]
        x, attention = self.decoder_edge.before(embedded), []
        new_state: Tensors = {}
        mask = memory["memory.mask"][:, None, None]
        for i, layer in enumerate(self.decoder):
            names = [f"state.cell.{i}"] if self.shape.recurrent else [f"state.key.{i}", f"state.value.{i}"]
            own = tuple(state[name] for name in names if name in state)
            x, new, weights = layer(x, own, (memory[f"memory.key.{i}"], memory[f"memory.value.{i}"]), mask)
            new_state.update(zip(names, new, strict=True))
            attention.append(weights)
        logits = self.output(self.decoder_edge.after(x, embedded))
        if "memory.candidates" in memory:
            logits = logits.masked_fill(~memory["memory.candidates"], -torch.inf)
        weights, head = attention[self.shape.alignment_layer], self.shape.alignment_head
        return logits, new_state, weights.mean(dim=1) if head is None else weights[:, head]
