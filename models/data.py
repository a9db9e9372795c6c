"""Parallel text: cleaned, augmented and tokenised once, then batches by tokens.

``python -m models.data --config models/configs/transformer-en-fr-de.toml --output DIR FILE.tsv.xz ...``

A file holds ``english<TAB>french<TAB>corpus`` lines; which two languages is in its name (``en-fr.news.tsv``) or, where
the configuration has one pair, in the configuration. Beside ``text.npz`` and ``tokenizer.model`` a ``clean.json`` says
what was read, kept and dropped of each corpus, and why (:mod:`models.clean`).
"""

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from models.augment import BACKWARD, BOTH, FORWARD, Augmenter, Example
from models.clean import Cleaner, read
from models.config import MOST_ALIGNED, Config, DataConfig, turned
from models.pairs import Pair
from models.score import agreeing
from models.tokenizer import BOS, EOS, PAD, PLACEHOLDERS, Tokenizer, train_tokenizer


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
    links: Tensor | None = None
    """[3, L]: sentence, target token (0 is the first behind BOS) and source token of each known alignment"""

    def to(self, device: torch.device) -> "Batch":
        links = None if self.links is None else self.links.to(device)
        return Batch(self.source.to(device), self.source_lengths.to(device), self.target.to(device), links)


def pad(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """``[B, longest]`` filled up with PAD, and the lengths ``[B]``."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.full((len(rows), int(lengths.max())), PAD, np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded), torch.from_numpy(lengths)


@dataclass(frozen=True)
class ParallelText:
    """A tokenised corpus of sentence pairs; example ``2 i`` translates pair ``i`` forward, ``2 i + 1`` backward."""

    columns: tuple[Column, Column]
    corpus: np.ndarray
    """Of every pair the corpus, a number in ``names``: ``[pairs]``."""
    ways: np.ndarray
    """Which way every pair is learnt from, see :mod:`models.augment`: ``[pairs]``."""
    names: list[str]
    """Corpora, as ``en-fr/tatoeba``: ``C``."""
    prepared: np.ndarray
    """The share of each corpus that is here: ``[C]``."""
    tags: np.ndarray
    """Target tags of the languages of each corpus's two sides: ``[C, 2]``."""
    links: Column | None = None
    """Alignments, where :mod:`models.align` made some: of every pair ``MOST_ALIGNED * first + second``, where these
    are places of sub-words."""

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
            ways=self.ways,
            names=np.array(self.names),
            prepared=self.prepared,
            tags=self.tags,
        )

    @classmethod
    def load(cls, path: Path) -> "ParallelText":
        with np.load(path, allow_pickle=False) as file:
            columns = Column(file["first"], file["first_offsets"]), Column(file["second"], file["second_offsets"])
            per_pair = file["corpus"], file["ways"]
            return cls(columns, *per_pair, file["names"].tolist(), file["prepared"], file["tags"])

    def aligned(self, path: Path) -> "ParallelText":
        """With the alignments of a file.

        Raises ``FileNotFoundError`` where there is none, ``ValueError`` where it is of other text than is beside it.
        """
        command = f"run python -m models.align label --config FILE --data {path.parent}"
        if not path.exists():
            raise FileNotFoundError(f"{path}, which alignment_weight needs, is not there: {command}")
        with np.load(path, allow_pickle=False) as file:
            links = Column(file["links"], file["offsets"])
            of = str(file["of"]) if "of" in file else None  # older files do not say
        if of is not None and of != fingerprint(path.parent):
            raise ValueError(f"{path} aligns other text than is beside it, or another vocabulary: {command}")
        if len(links.lengths) != len(self.corpus):
            raise ValueError(f"{path} aligns {len(links.lengths)} pairs, and there are {len(self.corpus)}")
        return replace(self, links=links)

    def pairs(self) -> dict[str, int]:
        """Pairs of each corpus."""
        counts = np.bincount(self.corpus, minlength=len(self.names)).tolist()
        return dict(zip(self.names, counts, strict=True))

    def epoch(self, fractions: Mapping[str, float], random: np.random.Generator) -> np.ndarray:
        """Examples of one pass: a fresh draw of ``fractions`` of every corpus, in both directions."""
        share = np.array([fractions.get(name, 0.0) for name in self.names]) / self.prepared
        pairs = np.flatnonzero(random.random(len(self.corpus)) < share[self.corpus])
        forward, backward = pairs[self.ways[pairs] != BACKWARD], pairs[self.ways[pairs] != FORWARD]
        return np.concatenate([2 * forward, 2 * backward + 1])

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

    def collate(self, examples: Iterable[int]) -> Batch:
        """One padded batch."""
        sources, targets, links = [], [], []
        for row, example in enumerate(examples):
            pair, backward = divmod(int(example), 2)
            sources.append(
                np.concatenate([[self.tags[self.corpus[pair], 1 - backward]], self.columns[backward][pair], [EOS]])
            )
            targets.append(np.concatenate([[BOS], self.columns[1 - backward][pair], [EOS]]))
            if self.links is not None:
                both = np.divmod(self.links[pair].astype(np.int64), MOST_ALIGNED)
                places = np.stack(both)  # [2, links], first side first
                links.append(np.stack([np.full(places.shape[1], row), places[1 - backward], places[backward] + 1]))
        return Batch(*pad(sources), pad(targets)[0], torch.from_numpy(np.concatenate(links, 1)) if links else None)


def fingerprint(data: Path) -> str:
    """Hash of the text and the vocabulary in a directory that this module wrote."""
    digest = hashlib.sha256()
    for name in ("text.npz", "tokenizer.model"):
        with (data / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def augment(pairs: Iterable[Pair], config: DataConfig, seed: int) -> Iterator[Example]:
    """The pairs with their changed copies, corpus by corpus, each to be learnt in the directions that are trained."""
    corpora: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        corpora[pair.corpus].append(pair)
    augmenter = Augmenter(config.augment, random.Random(seed))
    for name, corpus in corpora.items():
        only = only_way(name.partition("/")[0], config)
        for example in augmenter.examples(corpus):
            if only in {BOTH, example.way} or example.way == BOTH:
                yield example._replace(way=only or example.way)


def only_way(languages: str, config: DataConfig) -> int:
    """How a pair of languages is trained: BOTH, or FORWARD or BACKWARD alone."""
    forward, backward = languages in config.one_way, turned(languages) in config.one_way
    return FORWARD if forward else BACKWARD if backward else BOTH


def tokenize(examples: Sequence[Example], tokenizer: Tokenizer, config: DataConfig) -> ParallelText:
    """Encode both sides, leaving out pairs with a side of over ``config.max_tokens``."""
    sides = [tokenizer.model.encode([example.pair[side] for example in examples], num_threads=-1) for side in (0, 1)]
    names = sorted({example.pair.corpus for example in examples})
    codes = {name: code for code, name in enumerate(names)}
    kept = [i for i, (a, b) in enumerate(zip(*sides, strict=True)) if max(len(a), len(b)) <= config.max_tokens]
    first, second = (Column.pack(side[i] for i in kept) for side in sides)
    corpus = np.array([codes[examples[i].pair.corpus] for i in kept], np.uint8)
    ways = np.array([examples[i].way for i in kept], np.uint8)
    tags = [[tokenizer.tag(language) for language in name.partition("/")[0].split("-")] for name in names]
    shares = np.array([config.prepared(name) for name in names])
    return ParallelText((first, second), corpus, ways, names, shares, np.array(tags))


def learn_vocabulary(pairs: Sequence[Pair], path: Path, config: Config) -> Tokenizer:
    """A vocabulary from as much of every corpus as an epoch holds."""
    draw = np.random.default_rng(config.training.seed).random(len(pairs))
    shares = {name: share / config.data.prepared(name) for name, share in config.data.shares.items() if share}
    seen = (pair for pair, x in zip(pairs, draw, strict=True) if x < shares[pair.corpus])
    return train_tokenizer(
        (side for pair in seen for side in (pair.first, pair.second)),
        path,
        vocab_size=config.model.vocab_size,
        languages=config.data.languages,
        placeholders=PLACEHOLDERS if config.data.augment.placeholders else (),
    )


def report(counts: Mapping[str, Counter[str]], text: ParallelText, config: DataConfig) -> Table:
    """What was read and kept of each corpus, and what an epoch holds of it."""
    table = Table("corpus", "read", "kept", "most dropped as", "examples", "tokens an epoch")
    for code, name in enumerate(text.names):
        chosen = text.corpus == code
        tokens = (
            config.shares[name]
            / config.prepared(name)
            * sum(int(column.lengths[chosen].sum()) for column in text.columns)
        )
        dropped = [f"{reason} {n:,}" for reason, n in counts[name].most_common() if reason != "kept"]
        numbers = (counts[name].total(), counts[name]["kept"], int(chosen.sum()), round(tokens))
        read, kept, examples, tokens_text = (f"{n:,}" for n in numbers)
        table.add_row(name, read, kept, ", ".join(dropped[:3]), examples, tokens_text)
    return table


def main(
    config: Annotated[Path, typer.Option(help="configuration of the model that will be trained")],
    output: Annotated[Path, typer.Option(help="directory for text.npz, tokenizer.model and clean.json")],
    files: Annotated[list[Path], typer.Argument(help="parallel text, .tsv or .tsv.xz")],
    tokenizer: Annotated[Path | None, typer.Option(help="reuse this vocabulary instead of learning one")] = None,
) -> None:
    """Clean, augment and tokenise parallel text for training."""
    settings = Config.load(config)
    output.mkdir(parents=True, exist_ok=True)
    cleaner, seed = Cleaner(), settings.training.seed
    pairs = agreeing(read(files, settings.data, seed, cleaner), settings.data, seed, cleaner.counts)
    if not pairs:
        raise typer.BadParameter(f"no clean pairs of the corpora {sorted(settings.data.shares)} in these files")
    (output / "alignment.npz").unlink(missing_ok=True)  # of the text that was here
    if tokenizer is None:
        vocabulary = learn_vocabulary(pairs, output / "tokenizer.model", settings)
    else:
        (output / "tokenizer.model").write_bytes(tokenizer.read_bytes())
        vocabulary = Tokenizer(output / "tokenizer.model")
    text = tokenize(list(augment(pairs, settings.data, seed)), vocabulary, settings.data)
    text.save(output / "text.npz")
    (output / "clean.json").write_text(json.dumps(cleaner.counts, indent=2) + "\n")
    Console().print(report(cleaner.counts, text, settings.data))


if __name__ == "__main__":
    typer.run(main)
