"""Which words translate which: how well a model's attention shows it, and labels that teach it to.

``python -m models.align label --config CONFIG --data DIR`` aligns the text that :mod:`models.data` wrote, with a
lexicon learnt from that text (:mod:`models.lexicon`) or, with ``--run RUN``, with what a trained model attends to.
Every pair is aligned in both directions, and a link stays that both have found. With the ``alignment.npz`` that this
adds, and a ``training.alignment_weight``, training guides the attention (Garg et al. 2019, arXiv:1909.02074).

``python -m models.align measure RUN hansards.en-fr.tsv`` gives the alignment error rate of every layer, head and shift.
A gold file has ``english<TAB>french<TAB>links`` lines; a link ``3-4`` is sure, ``3p4`` possible, words counted from 1.

A small model's own attention is a poor teacher (its links, symmetrised, had an error rate of 44 where the lexicon's had
18); once guided it is worth asking again.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.checkpoint import Run
from models.config import MOST_ALIGNED, AnyModelConfig, Config, TransformerConfig
from models.data import Batch, Column, ParallelText, fingerprint, pad
from models.lexicon import BLOCK, LEARNT_PAIRS, Lexicon
from models.tokenizer import BOS, EOS, PAD, Tokenizer
from models.translator import Translator

Links = set[tuple[int, int]]
"""Places in the first and in the second sentence of a pair, counted from 0."""
BATCH_TOKENS = 4000
SEED = 1


class Gold(NamedTuple):
    """A pair whose words were aligned by hand."""

    first: list[str]
    second: list[str]
    sure: Links
    possible: Links
    """The sure ones too."""


def read_gold(path: Path) -> list[Gold]:
    """Raises ``ValueError`` naming the line that is no alignment."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            first, second, text = line.split("\t")
            sure = {link(word, "-") for word in text.split() if "-" in word}
            possible = {link(word, "p") for word in text.split() if "-" not in word}
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
        rows.append(Gold(first.split(), second.split(), sure, possible | sure))
    return rows


def link(text: str, sign: str) -> tuple[int, int]:
    first, second = text.split(sign)
    return int(first) - 1, int(second) - 1


def error_rate(found: Sequence[Links], gold: Sequence[Gold]) -> float:
    """``1 - (|A and S| + |A and P|) / (|A| + |S|)``, in percent (Och and Ney 2003)."""
    hits = sum(len(a & g.sure) + len(a & g.possible) for a, g in zip(found, gold, strict=True))
    return 100 * (1 - hits / sum(len(a) + len(g.sure) for a, g in zip(found, gold, strict=True)))


def symmetrized(forward: Links, backward: Links) -> Links:
    """Links of both directions, and from these on neighbours in either whose word lacks a link (grow-diag)."""
    links, either = forward & backward, forward | backward
    firsts, seconds = {i for i, _ in links}, {j for _, j in links}
    grown = sorted(links)
    for i, j in grown:  # which becomes longer on the way
        for near in ((i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)):
            if near in either and near not in links and (near[0] not in firsts or near[1] not in seconds):
                links = links | {near}
                firsts.add(near[0])
                seconds.add(near[1])
                grown.append(near)
    return links


def links_of(forward: np.ndarray, backward: np.ndarray) -> tuple[Links, Links]:
    """Every target's most attended source: attention ``[second, first]`` and ``[first, second]`` -> links of each."""
    return {(i, j) for j, i in enumerate(forward.argmax(1).tolist())}, set(enumerate(backward.argmax(1).tolist()))


@torch.inference_mode()
def attention(model: Translator, batch: Batch) -> list[np.ndarray]:
    """From sub-words to sub-words alone, at the step that aligns them: ``[T, S]`` for each sentence."""
    shift = model.config.alignment_shift
    _, weights = model(batch.source, batch.source_lengths, batch.target[:, :-1])
    targets = (batch.target != PAD).sum(1) - 2  # without BOS and EOS
    sizes = zip(targets.tolist(), batch.source_lengths.tolist(), strict=True)
    return [weights[row, shift : t + shift, 1 : s - 1].float().numpy() for row, (t, s) in enumerate(sizes)]


class Speller:
    """Words as sub-words, and attention between sub-words as attention between words."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def batch(self, source: Sequence[str], target: Sequence[str], language: str) -> Batch:
        """One sentence to translate into ``language``."""
        ids, lengths = pad([np.array([self.tokenizer.tag(language), *self.flat(source), EOS])])
        return Batch(ids, lengths, pad([np.array([BOS, *self.flat(target), EOS])])[0])

    def flat(self, words: Sequence[str]) -> list[int]:
        return [piece for word in words for piece in self.tokenizer.encode(word)]

    def starts(self, words: Sequence[str]) -> np.ndarray:
        lengths = [len(self.tokenizer.encode(word)) for word in words]
        return np.cumsum([0, *lengths[:-1]])

    def merged(self, weights: np.ndarray, source: Sequence[str], target: Sequence[str]) -> np.ndarray:
        """``[T, S]`` of sub-words -> ``[target words, source words]``: what a word's parts look at, on average."""
        sums = np.add.reduceat(np.add.reduceat(weights, self.starts(source), 1), self.starts(target), 0)
        return sums / sums.sum(1, keepdims=True)


def align(model: Translator, tokenizer: Tokenizer, pair: Gold, languages: tuple[str, str]) -> tuple[Links, Links]:
    """Links between the words of a pair as the attention of each direction has them."""
    speller, (first, second) = Speller(tokenizer), languages
    [forward] = attention(model, speller.batch(pair.first, pair.second, second))
    [backward] = attention(model, speller.batch(pair.second, pair.first, first))
    return links_of(speller.merged(forward, pair.first, pair.second), speller.merged(backward, pair.second, pair.first))


def error_rates(
    model: Translator, tokenizer: Tokenizer, gold: Sequence[Gold], languages: tuple[str, str]
) -> tuple[float, float, float]:
    """Of the first language into the second, back, and of both symmetrised."""
    found = [align(model, tokenizer, pair, languages) for pair in gold]
    return (
        error_rate([forward for forward, _ in found], gold),
        error_rate([backward for _, backward in found], gold),
        error_rate([symmetrized(*both) for both in found], gold),
    )


def places(config: AnyModelConfig) -> Iterator[AnyModelConfig]:
    """Everywhere that a model could be asked for its alignment."""
    for shift in (0, 1):
        shifted = config.model_copy(update={"alignment_shift": shift})
        if not isinstance(shifted, TransformerConfig):
            yield shifted
            continue
        for layer in range(shifted.decoder_layers):
            for head in (None, *range(shifted.heads)):
                yield shifted.model_copy(update={"alignment_layer": layer, "alignment_head": head})


def attended(model: Translator, text: ParallelText, pairs: np.ndarray) -> Iterator[tuple[int, Links]]:
    """Links between the sub-words of ``pairs`` that the model's attention has in both directions."""
    random = np.random.default_rng(SEED)
    for examples in track(text.batches(2 * pairs, BATCH_TOKENS, random), "aligning"):
        both = [attention(model, text.collate((examples + way).tolist())) for way in (0, 1)]
        for example, forward, backward in zip(examples.tolist(), *both, strict=True):
            there, back = links_of(forward, backward) if forward.size else (set(), set())
            yield example // 2, there & back


def units(pieces: Sequence[str]) -> list[list[int]]:
    """Places of the sub-words of each word and sign."""
    groups: list[list[int]] = []
    before = ""
    for place, piece in enumerate(pieces):
        goes_on = before == "▁" or (piece.isalnum() and before.removeprefix("▁").isalnum())
        if piece.startswith("▁") or not goes_on:
            groups.append([])
        groups[-1].append(place)
        before = piece
    return groups


class Spelled:
    """One side of a text as the words that its sub-words spell."""

    def __init__(self, column: Column, pairs: np.ndarray, tokenizer: Tokenizer) -> None:
        pieces = [[tokenizer.model.id_to_piece(piece) for piece in column[pair].tolist()] for pair in pairs.tolist()]
        self.units = [units(sentence) for sentence in pieces]
        self.words = [
            ["".join(sentence[place] for place in unit).removeprefix("▁") for unit in groups]
            for sentence, groups in zip(pieces, self.units, strict=True)
        ]


def explained(text: ParallelText, tokenizer: Tokenizer, pairs: np.ndarray) -> Iterator[tuple[int, Links]]:
    """Links between the sub-words of ``pairs`` whose words a lexicon, learnt from them, has in both directions."""
    for tags in np.unique(text.tags, axis=0).tolist():
        same = pairs[(text.tags[text.corpus[pairs]] == tags).all(1)]
        learnt = same[:: len(same) // LEARNT_PAIRS + 1]
        some = [Spelled(column, learnt, tokenizer).words for column in text.columns]
        lexicon = Lexicon(some[0], some[1], SEED)
        for start in track(range(0, len(same), BLOCK), "aligning"):
            block = same[start : start + BLOCK]
            first, second = (Spelled(column, block, tokenizer) for column in text.columns)
            alignments = lexicon.alignment(first.words, second.words)
            for pair, a, b, (there, back) in zip(block.tolist(), first.units, second.units, alignments, strict=True):
                words = [(i, j) for j, i in enumerate(there.tolist()) if i >= 0 and back[i] == j]
                yield pair, {link for i, j in words for link in product(a[i], b[j])}


def packed(found: Iterable[tuple[int, Links]], count: int) -> Column:
    """Links of some of ``count`` pairs, as :class:`ParallelText` keeps them."""
    rows = {pair: sorted(MOST_ALIGNED * i + j for i, j in links) for pair, links in found}
    return Column.pack(rows.get(pair, ()) for pair in range(count))


app = typer.Typer()


def finished(run: Path) -> Run:
    """A run that a command names. Raises ``typer.BadParameter`` where it has not finished."""
    try:
        return Run.open(run)
    except FileNotFoundError as error:
        raise typer.BadParameter(str(error)) from error


@app.command("measure")
def measure(
    run: Annotated[Path, typer.Argument(help="directory of a finished run")],
    gold: Annotated[Path, typer.Argument(help="TSV of pairs with their alignments")],
) -> None:
    """Alignment error rate at every layer, head and shift of the attention; the configured ones are marked."""
    trained = finished(run)
    model, tokenizer, rows = trained.model(), Tokenizer(trained.tokenizer), read_gold(gold)
    first, second = trained.config.data.pair_of(gold).split("-")
    table = Table("shift", "layer", "head", f"{first}-{second}", f"{second}-{first}", "symmetrised", title=str(run))
    for place in places(trained.config.model):
        model.config = place
        rates = error_rates(model, tokenizer, rows, (first, second))
        where = place.alignment_shift, getattr(place, "alignment_layer", ""), getattr(place, "alignment_head", "")
        style = "bold" if place == trained.config.model else None
        table.add_row(*map(str, where), *(f"{rate:.1f}" for rate in rates), style=style)
    Console().print(table)


@app.command("label")
def label(
    config: Annotated[Path, typer.Option(help="configuration whose fractions of the corpora are aligned")],
    data: Annotated[Path, typer.Option(help="directory that models.data wrote; alignment.npz is added")],
    share: Annotated[float, typer.Option(min=0, max=1, help="of an epoch's pairs; the others guide nothing")] = 1.0,
    run: Annotated[Path | None, typer.Option(help="finished run with this vocabulary whose attention aligns")] = None,
) -> None:
    """Align parallel text for training."""
    settings, text = Config.load(config), ParallelText.load(data / "text.npz")
    if (longest := max(column.lengths.max() for column in text.columns)) > MOST_ALIGNED:
        raise typer.BadParameter(f"{data} has sentences of {longest} sub-words; at most {MOST_ALIGNED} can be aligned")
    tokenizer = Tokenizer(data / "tokenizer.model")
    fractions = {name: share * fraction for name, fraction in settings.data.shares.items()}
    pairs = np.unique(text.epoch(fractions, np.random.default_rng(SEED)) // 2)
    if run is None:
        found = explained(text, tokenizer, pairs)
    else:
        trained = finished(run)
        if trained.tokenizer.read_bytes() != tokenizer.path.read_bytes():
            raise typer.BadParameter(f"{run} was trained with another vocabulary than that of {data}")
        found = attended(trained.model(), text, pairs)
    links = packed(found, len(text.corpus))
    of = np.array(fingerprint(data))
    np.savez(data / "alignment.npz", links=links.tokens, offsets=links.offsets, of=of)
    Console().print(f"{len(pairs):,} of {len(text.corpus):,} pairs, {len(links.tokens):,} links")


if __name__ == "__main__":
    app()
