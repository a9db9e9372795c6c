"""Parallel text: reading, cleaning, tokenising once, and batches by tokens.

``python -m models.data --config models/configs/transformer.toml --output DIR FILE.tsv.xz ...``

A file holds ``english<TAB>french<TAB>corpus`` lines (any two languages, in the order of the configuration).
"""

import lzma
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from models.config import Config, DataConfig
from models.tokenizer import BOS, EOS, PAD, Tokenizer, train_tokenizer

MAX_RATIO = 2.5
"""A pair whose longer side has over this many times the characters of the shorter (plus slack) is misaligned."""
RATIO_SLACK = 20


class Pair(NamedTuple):
    first: str
    second: str
    corpus: str


def read_pairs(paths: Sequence[Path]) -> Iterator[Pair]:
    """Lines of TSV files, plain or ``.xz``; without a third column the file's name is the corpus.

    Raises ``ValueError`` naming file and line that has too few columns.
    """
    for path in paths:
        name = path.name.removesuffix(".xz").removesuffix(".tsv")
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                columns = line.rstrip("\n").split("\t")
                if len(columns) < 2:
                    raise ValueError(f"{path}:{number}: expected two tab-separated columns or more")
                yield Pair(columns[0].strip(), columns[1].strip(), columns[2] if len(columns) > 2 else name)


def is_clean(pair: Pair) -> bool:
    """Neither empty, nor an untranslated copy, nor wildly different in length."""
    short, long = sorted((len(pair.first), len(pair.second)))
    copied = pair.first.casefold() == pair.second.casefold() and pair.first.count(" ") > 1
    return short > 0 and not copied and long <= MAX_RATIO * short + RATIO_SLACK


@dataclass(frozen=True)
class Column:
    """Ragged token ids: sentence ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``."""

    tokens: np.ndarray
    offsets: np.ndarray

    @classmethod
    def pack(cls, rows: Iterable[Sequence[int]]) -> "Column":
        rows = list(rows)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        tokens = np.fromiter((token for row in rows for token in row), np.uint16, int(offsets[-1]))
        return cls(tokens, offsets)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


class Batch(NamedTuple):
    source: Tensor
    """[B, S], tag first, EOS last, then padding"""
    source_lengths: Tensor
    target: Tensor
    """[B, T + 1], BOS first, EOS last, then padding"""

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(tensor.to(device) for tensor in self))


def pad(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """``[B, longest]`` filled up with PAD, and the lengths ``[B]``."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.full((len(rows), int(lengths.max())), PAD, np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded), torch.from_numpy(lengths)


class ParallelText:
    """A tokenised corpus in two languages; example ``2 i`` translates forward, ``2 i + 1`` backward."""

    def __init__(self, columns: tuple[Column, Column], corpus: np.ndarray, names: list[str], tags: tuple[int, int]):
        self.columns, self.corpus, self.names, self.tags = columns, corpus, names, tags

    def __len__(self) -> int:
        return 2 * len(self.corpus)

    def save(self, path: Path) -> None:
        first, second = self.columns
        np.savez(
            path,
            first=first.tokens,
            first_offsets=first.offsets,
            second=second.tokens,
            second_offsets=second.offsets,
            corpus=self.corpus,
            names=np.array(self.names),
            tags=np.array(self.tags),
        )

    @classmethod
    def load(cls, path: Path) -> "ParallelText":
        with np.load(path, allow_pickle=False) as file:
            columns = Column(file["first"], file["first_offsets"]), Column(file["second"], file["second_offsets"])
            first_tag, second_tag = file["tags"].tolist()
            return cls(columns, file["corpus"], file["names"].tolist(), (first_tag, second_tag))

    def pairs(self) -> dict[str, int]:
        """Pairs of each corpus."""
        counts = np.bincount(self.corpus, minlength=len(self.names)).tolist()
        return dict(zip(self.names, counts, strict=True))

    def epoch(self, fractions: dict[str, float], random: np.random.Generator) -> np.ndarray:
        """Examples of one pass: a fresh draw of ``fractions`` of every corpus, in both directions."""
        share = np.array([fractions.get(name, 0.0) for name in self.names])
        pairs = np.flatnonzero(random.random(len(self.corpus)) < share[self.corpus])
        return np.concatenate([2 * pairs, 2 * pairs + 1])

    def batches(self, examples: np.ndarray, batch_tokens: int, random: np.random.Generator) -> list[np.ndarray]:
        """Examples of similar length together, at most ``batch_tokens`` padded tokens a side, in random order."""
        forward = examples % 2 == 0
        first, second = (column.lengths[examples // 2] for column in self.columns)
        sizes = np.maximum(np.where(forward, first, second), np.where(forward, second, first)) + 2
        order = np.lexsort((random.random(len(examples)), np.where(forward, second, first), sizes))
        batches, start = [], 0
        for end in range(1, len(order) + 1):
            if end == len(order) or (end - start + 1) * sizes[order[end]] > batch_tokens:
                batches.append(examples[order[start:end]])
                start = end
        random.shuffle(batches)
        return batches

    def collate(self, examples: Sequence[int]) -> Batch:
        """One padded batch."""
        sources, targets = [], []
        for example in examples:
            pair, backward = divmod(int(example), 2)
            sources.append(np.concatenate([[self.tags[1 - backward]], self.columns[backward][pair], [EOS]]))
            targets.append(np.concatenate([[BOS], self.columns[1 - backward][pair], [EOS]]))
        return Batch(*pad(sources), pad(targets)[0])


def tokenize(pairs: Sequence[Pair], tokenizer: Tokenizer, config: DataConfig) -> ParallelText:
    """Encode both sides, leaving out pairs with a side of over ``config.max_tokens``."""
    sides = [tokenizer.model.encode([pair[side] for pair in pairs], num_threads=-1) for side in (0, 1)]
    names = sorted({pair.corpus for pair in pairs})
    codes = {name: code for code, name in enumerate(names)}
    kept = [i for i, (a, b) in enumerate(zip(*sides, strict=True)) if max(len(a), len(b)) <= config.max_tokens]
    first, second = (Column.pack(side[i] for i in kept) for side in sides)
    corpus = np.array([codes[pairs[i].corpus] for i in kept], np.uint8)
    tags = tokenizer.tag(config.source), tokenizer.tag(config.target)
    return ParallelText((first, second), corpus, names, tags)


def report(read: Counter[str], clean: Counter[str], text: ParallelText) -> Table:
    """What was read and kept of each corpus."""
    table = Table("corpus", "pairs read", "clean", "kept", "tokens")
    for code, name in enumerate(text.names):
        chosen = text.corpus == code
        tokens = sum(int(column.lengths[chosen].sum()) for column in text.columns)
        table.add_row(name, *(f"{n:,}" for n in (read[name], clean[name], int(chosen.sum()), tokens)))
    return table


def main(
    config: Annotated[Path, typer.Option(help="configuration of the model that will be trained")],
    output: Annotated[Path, typer.Option(help="directory for tokenizer.model and text.npz")],
    files: Annotated[list[Path], typer.Argument(help="parallel text, .tsv or .tsv.xz")],
    tokenizer: Annotated[Path | None, typer.Option(help="reuse this vocabulary instead of learning one")] = None,
) -> None:
    """Clean and tokenise parallel text for training."""
    settings = Config.load(config)
    output.mkdir(parents=True, exist_ok=True)
    read: Counter[str] = Counter()
    clean: Counter[str] = Counter()
    pairs: dict[tuple[str, str], Pair] = {}
    for pair in track(read_pairs(files), "reading"):
        if settings.data.fractions.get(pair.corpus):
            read[pair.corpus] += 1
            if is_clean(pair):
                clean[pair.corpus] += 1
                pairs.setdefault((pair.first, pair.second), pair)
    if not pairs:
        raise typer.BadParameter(f"no clean pairs of the corpora {sorted(settings.data.fractions)} in these files")
    if tokenizer is None:
        languages = [settings.data.source, settings.data.target]
        draw = np.random.default_rng(settings.training.seed).random(len(pairs))
        seen = (p for p, x in zip(pairs.values(), draw, strict=True) if x < settings.data.fractions[p.corpus])
        vocabulary = train_tokenizer(
            (side for pair in seen for side in (pair.first, pair.second)),
            output / "tokenizer.model",
            vocab_size=settings.model.vocab_size,
            languages=languages,
        )
    else:
        (output / "tokenizer.model").write_bytes(tokenizer.read_bytes())
        vocabulary = Tokenizer(output / "tokenizer.model")
    text = tokenize(list(pairs.values()), vocabulary, settings.data)
    text.save(output / "text.npz")
    Console().print(report(read, clean, text))


if __name__ == "__main__":
    typer.run(main)
