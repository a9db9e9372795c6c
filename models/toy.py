"""A toy translator: reverse a sequence. ``python -m models.toy transformer`` trains one and draws where it looked.

Nobody tells the model where to look. To write a sequence backwards it has to find out that target ``i`` is source
``n - 1 - i``, so attention that works draws the anti-diagonal.
"""

from typing import Annotated, Literal

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from models.bahdanau import Bahdanau
from models.config import BahdanauConfig, TransformerConfig
from models.data import Batch
from models.loss import loss_of
from models.tokenizer import BOS, EOS, PAD
from models.transformer import Transformer
from models.translator import Translator

LETTERS = "abcdefghijklmnop"
FIRST_LETTER = EOS + 1
VOCABULARY = FIRST_LETTER + len(LETTERS)
SHORTEST, LONGEST = 3, 8
SHADES = " .:-=+*#%@"

Architecture = Literal["bahdanau", "transformer"]
STEPS: dict[Architecture, int] = {"bahdanau": 240, "transformer": 600}


def sequences(count: int, random: torch.Generator) -> Batch:
    """Random sequences of several lengths ``[count, LONGEST + 1]`` and, as their targets, the same backwards."""
    n = torch.randint(SHORTEST, LONGEST + 1, (count, 1), generator=random)
    letters = torch.randint(FIRST_LETTER, VOCABULARY, (count, LONGEST + 1), generator=random)
    place = torch.arange(LONGEST + 1)[None]
    backwards = letters.gather(1, (n - 1 - place).clamp(min=0))
    end = torch.where(place == n, EOS, PAD)
    source, target = (torch.where(place < n, side, end) for side in (letters, backwards))
    return Batch(source, n[:, 0] + 1, F.pad(target, (1, 0), value=BOS))


def build(architecture: Architecture) -> Translator:
    """A small translator of either kind. One decoder layer with one head leaves only one place to look from."""
    common = {"vocab_size": VOCABULARY, "max_length": LONGEST + 2, "dropout": 0.0}
    if architecture == "transformer":
        layers = {"size": 32, "heads": 1, "feed_forward_size": 64, "encoder_layers": 1, "decoder_layers": 1}
        return Transformer(TransformerConfig.model_validate(common | layers))
    sizes = {"embedding_size": 32, "encoder_size": 32, "decoder_size": 32, "attention_size": 32}
    return Bahdanau(BahdanauConfig.model_validate(common | sizes))


def train(architecture: Architecture, seed: int = 1) -> Translator:
    """A model that has learnt to reverse, in some ten seconds on one CPU core."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model, steps = build(architecture), STEPS[architecture]
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        loss, _ = loss_of(model, sequences(64, random), smoothing=0.0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def heat_map(source: Tensor, target: Tensor, attention: Tensor) -> str:
    """``source [S], target [T], attention [T, S]`` as text: a row for each target letter, darker where it looked."""
    names = dict(enumerate(LETTERS, FIRST_LETTER)) | {EOS: "$"}
    lines = ["   " + "  ".join(names[token] for token in source.tolist())]
    for token, weights in zip(target.tolist(), attention.tolist(), strict=True):
        cells = (SHADES[min(int(weight * len(SHADES)), len(SHADES) - 1)] * 2 for weight in weights)
        lines.append(f"{names[token]}  " + " ".join(cells))
    return "\n".join(lines)


def main(architecture: Annotated[Architecture, typer.Argument()] = "bahdanau") -> None:
    """Learn to reverse sequences, then show the attention of one that was not seen before."""
    batch = sequences(1, torch.Generator().manual_seed(0))
    n = int(batch.source_lengths[0])
    model = train(architecture)
    with torch.inference_mode():
        _, attention = model(batch.source[:, :n], batch.source_lengths, batch.target[:, :n])
    typer.echo(heat_map(batch.source[0, :n], batch.target[0, 1 : n + 1], attention[0]))


if __name__ == "__main__":
    typer.run(main)
