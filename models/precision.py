"""Where products are faster in bf16 than in fp32."""

import time

import torch
from torch import Tensor, nn


def has_bf16() -> bool:
    """True where bf16 is computed natively."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    # builds without oneDNN, as those of macOS, have no such operator
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def is_faster_in_bf16() -> bool:
    """True where bf16 is faster than fp32: of CPUs that have it some are half as fast with it, so one product tells."""
    x = torch.ones(1024, 256)
    return has_bf16() and (torch.cuda.is_available() or product_seconds(x.bfloat16()) < 0.8 * product_seconds(x))


def product_seconds(x: Tensor, rounds: int = 9) -> float:
    """The least time of several that ``x [N, D]`` times its transpose took, in seconds."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        nn.functional.linear(x, x)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
