"""What training minimises: label-smoothed cross-entropy, and the distance of the attention from known alignments."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from models.data import Batch
from models.tokenizer import PAD
from models.translator import Translator

BLOCK = 256
"""Rows of logits that are computed at once: as many as stay in a processor's cache."""
TINY = torch.finfo(torch.float32).tiny


class SmoothedCrossEntropy(torch.autograd.Function):
    """Output layer and loss in one: ``features [N, D], weight [V, D], bias [V], target [N] -> [N]``.

    The logits of a batch are far the largest tensor of a small model, and reading and writing them takes longer than
    their product. Here a block of them becomes its own gradient while it is in the cache,
    ``p - (1 - smoothing) onehot(target) - smoothing / V`` (Szegedy et al. 2016, arXiv:1512.00567, section 7), and only
    that is kept, in the precision of ``features``.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, target: Tensor, smoothing: float) -> Tensor:
        of_logits = features.new_empty(len(features), len(weight))
        chosen, log_prob = target[:, None], torch.empty(len(features), 1, device=features.device)
        likely, even = torch.empty_like(log_prob), smoothing / len(weight)
        for start in range(0, len(features), BLOCK):
            rows = slice(start, start + BLOCK)
            logits, block = nn.functional.linear(features[rows], weight, bias), of_logits[rows]
            torch.softmax(logits, 1, out=block)
            chance = block.gather(1, chosen[rows])
            log_prob[rows] = chance.float().clamp(min=TINY).log()
            likely[rows] = logits.gather(1, chosen[rows]).float()
            block.sub_(even)
            block.scatter_(1, chosen[rows], chance - (1 - smoothing + even))
        # The mean log-probability of all tokens is the mean logit less what normalises it.
        mean = features.float() @ weight.float().mean(0)[:, None] + bias.float().mean()
        ctx.save_for_backward(features, weight, of_logits)
        return (smoothing * (likely - mean) - log_prob).squeeze(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        features, weight, of_logits = ctx.saved_tensors
        scale = gradient[:, None].to(features.dtype)
        return (
            of_logits @ weight * scale,
            of_logits.t() @ (features * scale),
            (scale.t() @ of_logits).squeeze(0),
            None,
            None,
        )


def translation_loss(model: Translator, features: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Label-smoothed cross-entropy of ``features [N, D]``, a mean over ``target [N]``, in the precision of autocast."""
    device = features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
    with torch.autocast(device, enabled=False):
        operands = (each.to(dtype) for each in (features, model.embedding.weight, model.output_bias))
        return SmoothedCrossEntropy.apply(*operands, target, smoothing).mean()


def alignment_loss(attention: Tensor, links: Tensor, shift: int) -> Tensor:
    """Cross-entropy of ``attention [B, T, S]`` to the aligned source tokens, alike for each of them, a mean over the
    target tokens that have some (Garg et al. 2019, arXiv:1909.02074, equation 6).
    """
    sentence, target, source = links
    linked = attention.new_zeros(attention.shape[:2]).index_put_(
        (sentence, target), attention.new_ones(1), accumulate=True
    )
    weights = attention[sentence, target + shift, source].float().clamp(min=TINY)
    return -(weights.log() / linked[sentence, target]).sum() / (linked > 0).sum()


def loss_of(
    model: nn.Module, batch: Batch, smoothing: float, guidance: float = 0.0, shift: int = 0
) -> tuple[Tensor, int]:
    """The loss of a batch and how many target tokens it has.

    Where a batch has links, ``guidance`` times the loss of the alignment is added. ``model`` may be a translator's
    wrapper, as those of several processes are.
    """
    target = batch.target[:, 1:]
    real = target != PAD
    features, attention = model(batch.source, batch.source_lengths, batch.target[:, :-1])
    bare = cast(Translator, getattr(model, "module", model))
    loss = translation_loss(bare, features[real], target[real], smoothing)
    if batch.links is not None and guidance and batch.links.shape[1]:
        loss = loss + guidance * alignment_loss(attention, batch.links, shift)
    return loss, int(real.sum())
