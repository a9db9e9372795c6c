"""What training, evaluation and export ask of a translator, whatever attends inside it."""

import torch
from torch import Tensor, nn

from models.config import ModelConfig

Tensors = dict[str, Tensor]


class Translator(nn.Module):
    """A source sentence is encoded once into ``memory``; a decoder then carries ``state`` from token to token.

    The names in both dictionaries are those of the exported graphs.
    """

    config: ModelConfig
    embedding: nn.Embedding
    """Of both languages, and the weights of the output layer (Press and Wolf 2017, arXiv:1608.05859)."""

    @property
    def output_bias(self) -> nn.Parameter:
        """Bias of the output layer, one number for each token of the vocabulary ``[V]``."""
        raise NotImplementedError

    def encode(self, source: Tensor, source_lengths: Tensor) -> tuple[Tensors, Tensors]:
        """``source [B, S], source_lengths [B] -> memory, first state``."""
        raise NotImplementedError

    def step(self, token: Tensor, position: int, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors, Tensor]:
        """``token [B] -> logits [B, V], next state, attention [B, S]``."""
        raise NotImplementedError

    def forward(self, source: Tensor, source_lengths: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher forcing: ``target [B, T]`` begins with BOS ``-> features [B, T, D], attention [B, T, S]``."""
        raise NotImplementedError

    def logits(self, features: Tensor) -> Tensor:
        """The output layer: ``features [..., D] -> [..., V]``."""
        return nn.functional.linear(features, self.embedding.weight, self.output_bias)


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """True at the real positions: ``lengths [B] -> [B, size]``."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


@torch.inference_mode()
def greedy(
    model: Translator, source: Tensor, source_lengths: Tensor, *, bos: int, eos: int, max_length: int
) -> tuple[Tensor, Tensor]:
    """The likeliest token at every step, until all rows have ended.

    Returns ``tokens [B, T]``, EOS included and repeated after the end, and ``log_prob [B, T]`` of each token,
    0 after the end, so that its sum is that of the sentence.
    """
    memory, state = model.encode(source, source_lengths)
    token = torch.full_like(source_lengths, bos)
    ended = torch.zeros_like(source_lengths, dtype=torch.bool)
    tokens, log_probs = [], []
    for position in range(max_length):
        logits, state, _ = model.step(token, position, memory, state)
        log_prob, token = logits.float().log_softmax(-1).max(-1)
        token, log_prob = token.masked_fill(ended, eos), log_prob.masked_fill(ended, 0.0)
        ended = ended | (token == eos)
        tokens.append(token)
        log_probs.append(log_prob)
        if bool(ended.all()):
            break
    return torch.stack(tokens, 1), torch.stack(log_probs, 1)
