"""How gradients become updates, and how large these are."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.config import TrainingConfig
from models.precision import has_bf16
from models.translator import Translator


def learning_rate(training: TrainingConfig, step: int, share: float) -> float:
    """Linear warm-up, a constant, then linear decay to zero where the ``share`` of the budget used up nears one.

    The constant makes the length of a run a late decision at no cost in quality (Hägele et al. 2024, arXiv:2405.18392).
    """
    decay = min(1.0, max(0.0, 1.0 - share) / training.decay_share)
    return training.learning_rate * min(1.0, (step + 1) / training.warmup_steps) * decay


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with all its singular values near one, by five Newton-Schulz steps: ``[M, N] -> [M, N]``.

    In bf16 where that is computed natively; elsewhere it would take twenty times as long as fp32.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(torch.bfloat16 if has_bf16() else torch.float32)
    is_tall = x.shape[0] > x.shape[1]
    x = x.t() if is_tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.t() if is_tall else x).to(matrix.dtype)


class Muon(Optimizer):
    """Makes the momentum of a matrix nearly orthogonal, so that all of its directions move alike (Jordan 2024,
    https://kellerjordan.github.io/posts/muon).

    Updates are scaled to be as large as AdamW's (Liu et al. 2025, arXiv:2502.16982, equation 4), so that one learning
    rate serves both. ``torch.optim.Muon`` does the same, but in bf16 everywhere.
    """

    MOMENTUM = 0.95

    def __init__(self, matrices: Iterable[nn.Parameter], weight_decay: float) -> None:
        super().__init__(matrices, {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                if not (state := self.state[matrix]):
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"].lerp_(matrix.grad, 1 - self.MOMENTUM)
                update = orthogonal(matrix.grad.lerp(momentum, self.MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """True for the weights that map features to features: neither embeddings nor biases, norms and lone vectors."""
    return parameter.dim() == 2 and min(parameter.shape) > 1 and not name.startswith("embedding.")


def optimizers(model: Translator, training: TrainingConfig) -> list[Optimizer]:
    """One or two optimizers that have every parameter of ``model`` between them; the learning rate is set later."""
    hidden: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_muons = training.optimizer == "muon" and is_hidden_matrix(name, parameter)
        (hidden if is_muons else others).append(parameter)
    decay = training.weight_decay
    adamw = torch.optim.AdamW(others, betas=(0.9, 0.98), eps=1e-9, weight_decay=decay, fused=True)
    return [adamw, Muon(hidden, decay)] if hidden else [adamw]
