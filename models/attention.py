"""Attention from its building blocks: queries ask, keys answer, values are what is read.

Every mechanism is the same three moves with a different first one::

    scores  = compare(query, key)     how well does each key answer the query?
    weights = normalise(scores)       a probability distribution over the keys
    context = reweight(weights, value)

Masks are boolean, true where a position may be looked at.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.dropout import Dropout


def dot_product(query: Tensor, key: Tensor) -> Tensor:
    """Similarity of every query with every key: ``[..., Q, D], [..., K, D] -> [..., Q, K]``."""
    return query @ key.transpose(-2, -1)


def normalise(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the last axis; masked positions get weight zero.

    ``mask`` broadcasts to ``scores``. A row in which nothing is visible becomes uniform instead of NaN.
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return F.softmax(scores, dim=-1)


def reweight(weights: Tensor, value: Tensor) -> Tensor:
    """Weighted sum of the values: ``[..., Q, K], [..., K, D] -> [..., Q, D]``."""
    return weights @ value


class AveragePooling(nn.Module):
    """Nonvolitional attention: every visible value counts the same, whatever the query."""

    def forward(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """``value [B, K, D], mask [B, K] -> [B, D]``."""
        weights = normalise(value.new_zeros(value.shape[:2]), mask)  # equal scores: [B, K]
        return reweight(weights[:, None], value).squeeze(1)


class MaxPooling(nn.Module):
    """Nonvolitional attention: the most salient value of each feature wins, whatever the query."""

    def forward(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """``value [B, K, D], mask [B, K] -> [B, D]``."""
        if mask is not None:
            value = value.masked_fill(~mask[..., None], torch.finfo(value.dtype).min)
        return value.amax(dim=1)


class AdditiveAttention(nn.Module):
    """Alignment scores from a feed-forward network (Bahdanau et al. 2015, section A.1.2).

    ``e_ij = v^T tanh(W s_(i-1) + U h_j)``, ``alpha_ij = softmax_j(e_ij)``, ``c_i = sum_j alpha_ij h_j``.
    """

    def __init__(self, query_size: int, key_size: int, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, hidden_size, bias=False)  # W
        self.key = nn.Linear(key_size, hidden_size)  # U
        self.score = nn.Linear(hidden_size, 1, bias=False)  # v

    def project(self, key: Tensor) -> Tensor:
        """``U h_j`` for all j at once, constant while decoding: ``[B, S, K] -> [B, S, A]``."""
        return self.key(key)

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        """Alignment scores ``e``: ``query [B, Q], projected [B, S, A] -> [B, S]``."""
        return self.score(torch.tanh(self.query(query)[:, None] + projected)).squeeze(-1)

    def forward(self, query: Tensor, projected: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """``query [B, Q], projected [B, S, A], value [B, S, D], mask [B, S] -> context [B, D], weights [B, S]``."""
        weights = normalise(self.scores(query, projected).float(), mask)
        return reweight(weights[:, None].to(value.dtype), value).squeeze(1), weights


class ScaledDotProductAttention(nn.Module):
    """``softmax(Q K^T / sqrt(d)) V`` (Vaswani et al. 2017, equation 1)."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``[..., Q, D], [..., K, D], [..., K, V] -> context [..., Q, V], weights [..., Q, K]``."""
        weights = normalise(dot_product(query, key) / math.sqrt(query.shape[-1]), mask)
        return reweight(self.dropout(weights), value), weights


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in several subspaces at once (Vaswani et al. 2017, section 3.2.2).

    Keys and values are projected by their own methods, since a decoder projects them once and reads them often.
    """

    def __init__(self, size: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if size % heads:
            raise ValueError(f"size {size} does not divide into {heads} heads")
        self.heads = heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.output = nn.Linear(size, size)
        self.attention = ScaledDotProductAttention(dropout)

    def split(self, x: Tensor) -> Tensor:
        """``[B, L, H * D] -> [B, H, L, D]``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of ``x [B, K, size]``, each ``[B, H, K, D]``."""
        return self.split(self.key(x)), self.split(self.value(x))

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``x [B, Q, size], key, value [B, H, K, D] -> context [B, Q, size], weights [B, H, Q, K]``.

        ``mask`` broadcasts to ``[B, H, Q, K]``.
        """
        context, weights = self.attention(self.split(self.query(x)), key, value, mask)
        return self.output(context.transpose(1, 2).flatten(2)), weights


class SelfAttention(MultiHeadAttention):
    """Multi-head attention of a sequence to itself, with what was seen before as an optional past."""

    Past = tuple[Tensor, Tensor]

    def attend(self, x: Tensor, mask: Tensor | None = None, past: Past | None = None) -> tuple[Tensor, Past]:
        """``x [B, Q, size]``, past keys and values ``[B, H, P, D]`` -> ``[B, Q, size]`` and the lengthened past."""
        key, value = self.project(x)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        return self(x, key, value, mask)[0], (key, value)
