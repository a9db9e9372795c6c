"""Models of a shape: weights at random, to measure sizes that nobody has trained here.

What a step costs depends on how large a model is, not on what it says. How many steps there are does depend on it, and
random weights never end a sentence, or do so at once. EOS is therefore the one token whose weights are not left to
chance: its row of the output layer is fitted, by ridge regression on the decoder's hidden states, so that a target ends
about where it is as long as its source, in every precision. And the signs of the last norm are drawn at random: else a
model whose output layer is its embedding repeats the token that it has just read.
"""

import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from export.build import NEVER
from loadtests.sets import parse_name, read_sets
from models import checkpoint
from models.checkpoint import Run, Training
from models.config import Config, DataConfig, TrainingConfig, TransformerConfig
from models.data import pad
from models.tokenizer import BOS, EOS, Tokenizer, train_tokenizer
from models.transformer import Transformer

SHAPES = Path(__file__).parent
HALVINGS = 6
"""How often a vocabulary that there is too little text for is halved."""
FITTED = 96
"""Sentences, evenly spaced in the set, from which it is learnt where targets end."""
GROUP = 16
"""Sentences whose states are computed at once."""
LONGER = 1.25
"""States go so many times as far as the longest of these sources."""
SLOPE, STEEP = 0.2, 20
"""What the logit of EOS rises by with each step, and for how many steps before and after the end."""
RIDGE = 0.01


def read(shape: str) -> tuple[str, TransformerConfig]:
    """Name and configuration of a shape: one of :data:`SHAPES` by its name, or any TOML file.

    Raises ``FileNotFoundError``, ``pydantic.ValidationError`` naming the field that is wrong.
    """
    path = Path(shape) if shape.endswith(".toml") else SHAPES / f"{shape}.toml"
    return path.stem, TransformerConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


def write_run(path: Path, shape: str, sentences: Path) -> Run:
    """A run directory as training leaves it, for the first direction and the text of the set at ``sentences``.

    The tokenizer may have fewer sub-words than the model, which then neither reads nor writes the rest.
    Raises ``ValueError`` for a set of another form, or of too little text.
    """
    name, model = read(shape)
    _, *languages = parse_name(sentences)
    way = "-".join(languages)
    there, back = read_sets(sentences)
    config = Config(
        name=f"random-{name}",
        model=model,
        data=DataConfig(fractions={way: {}}, one_way=[way], max_tokens=model.max_length - 2),
        training=TrainingConfig(batch_tokens=model.max_length, learning_rate=1, warmup_steps=1),
    )
    path.mkdir(parents=True)
    tokenizer = learnt([*there.sentences, *back.sentences], path / "tokenizer.model", model.vocab_size, languages)
    sources = (tokenizer.source(sentence, there.target) for sentence in there.sentences)
    built = weights(config, [ids for ids in sources if len(ids) <= model.max_length], len(tokenizer))
    checkpoint.save(path / "final.pt", {"model": built.state_dict()})
    (path / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
    training = Training(steps=0, tokens=0, minutes=0, device="none", corpora={}, history=[])
    (path / "training.json").write_text(training.model_dump_json(), encoding="utf-8")
    return Run.open(path)


def learnt(sentences: Sequence[str], path: Path, most: int, languages: Sequence[str]) -> Tokenizer:
    """A vocabulary of ``most``, or of the largest half, quarter ... of it that there is text for.

    Raises ``ValueError``.
    """
    for halvings in range(HALVINGS):
        with suppress(RuntimeError):
            return train_tokenizer(sentences, path, vocab_size=most >> halvings, languages=languages)
    raise ValueError(f"{len(sentences)} sentences are too little text for a vocabulary")


@torch.no_grad()
def weights(config: Config, sources: Sequence[Sequence[int]], subwords: int) -> Transformer:
    """The seeded model, with ends for ``sources``, that knows the first ``subwords`` of its vocabulary. On one thread,
    so that sums come out the same everywhere.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = checkpoint.build(config).eval()
    assert isinstance(model, Transformer)
    model.bias[subwords:] = NEVER
    model.decoder_norm.weight.mul_(torch.rand(model.config.size).sub(0.5).sign())
    fitted = [sources[i] for i in range(0, len(sources), max(1, len(sources) // FITTED))]
    states, logits, ahead = zip(
        *(
            observed(model, fitted[i : i + GROUP], max(map(len, fitted)), subwords)
            for i in range(0, len(fitted), GROUP)
        ),
        strict=True,
    )
    wanted = torch.cat(logits).mean() + SLOPE * torch.cat(ahead).clamp(-STEEP, STEEP)
    known = torch.nn.functional.pad(torch.cat(states), (0, 1), value=1.0).double()  # [N, size + 1], one for the bias
    square = known.T @ known + RIDGE * len(known) * torch.eye(known.shape[1])
    row = torch.linalg.solve(square, known.T @ wanted.double()).float()
    model.embedding.weight[EOS], model.bias[EOS] = row[:-1], row[-1]
    torch.set_num_threads(threads)
    return model


def observed(
    model: Transformer, sources: Sequence[Sequence[int]], longest: int, subwords: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states ``[N, size]`` while any target is read, the best logits ``[N]``, and how much longer than its
    source a target would be that ended there ``[N]``.
    """
    source, lengths = pad([np.array(ids) for ids in sources])
    steps = min(round(LONGER * longest), model.config.max_length)
    target = torch.randint(EOS + 1, subwords, (len(sources), steps))
    target[:, 0] = BOS
    states, _ = model(source, lengths, target)
    ahead = torch.arange(steps)[None] - lengths[:, None]
    return states.flatten(0, 1), model.logits(states).amax(-1).flatten(), ahead.flatten()
