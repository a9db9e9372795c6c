"""Pairs of a noisy corpus that are no translations, found with a lexicon of the others (:mod:`models.lexicon`).

``python -m models.score --config models/configs/transformer-en-fr-de.toml FILE.tsv.xz ...``

``[data.least_agreement]`` names the corpora that are judged, with the agreement that a pair must have; the lexicon is
learnt from the others. The command shows how the agreement is distributed in every corpus, and among the pairs that it
was learnt from after their sides were shuffled: a threshold is well chosen where nearly all of these are below it and
hardly a pair of the corpora made by people. ``--samples 3`` shows pairs at each of the quantiles.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from models.clean import Cleaner, read
from models.config import Config, DataConfig
from models.lexicon import Lexicon, split
from models.pairs import Pair

QUANTILES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.9)
SHUFFLED = "shuffled"
SHOWN = 20_000
"""Pairs of a corpus that its distribution is taken from."""


def by_languages(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    groups = defaultdict(list)
    for pair in pairs:
        groups[pair.corpus.partition("/")[0]].append(pair)
    return groups


def words_of(pairs: Sequence[Pair]) -> tuple[list[list[str]], list[list[str]]]:
    return [split(pair.first) for pair in pairs], [split(pair.second) for pair in pairs]


def lexicon(pairs: Sequence[Pair], config: DataConfig, seed: int) -> Lexicon:
    """Learnt from the corpora that are not judged. Raises ``ValueError`` where there are none."""
    trusted = [pair for pair in pairs if config.least(pair.corpus) is None]
    if not trusted:
        raise ValueError("every corpus is judged, and none is there to judge by")
    return Lexicon(*words_of(trusted), seed)


def agreeing(pairs: Sequence[Pair], config: DataConfig, seed: int, counts: Mapping[str, Counter[str]]) -> list[Pair]:
    """Without what agrees too little, which is counted as ``agreement`` and no longer as ``kept``."""
    kept = [pair for pair in pairs if config.least(pair.corpus) is None]
    for group in by_languages(pairs).values():
        judged = [pair for pair in group if config.least(pair.corpus) is not None]
        if not judged:
            continue
        for pair, score in zip(judged, lexicon(group, config, seed).agreement(*words_of(judged)), strict=True):
            if score >= (config.least(pair.corpus) or 0.0):
                kept.append(pair)
            else:
                counts[pair.corpus].update({"kept": -1, "agreement": 1})
    return kept


def distributions(pairs: Sequence[Pair], config: DataConfig, seed: int) -> dict[str, tuple[list[Pair], np.ndarray]]:
    """Of every corpus, and of shuffled pairs of both languages: pairs and their agreement, both sorted by it."""
    found = {}
    draw = np.random.default_rng(seed)
    for languages, group in by_languages(pairs).items():
        judge = lexicon(group, config, seed)
        corpora = defaultdict(list)
        for place in draw.permutation(len(group)):
            corpora[group[place].corpus].append(group[place])
        mixed = [pair for pair in group if config.least(pair.corpus) is None]
        seconds = [mixed[place].second for place in draw.permutation(len(mixed))]
        shuffled = [pair._replace(second=second) for pair, second in zip(mixed, seconds, strict=True)]
        corpora[f"{languages}/{SHUFFLED}"] = [shuffled[place] for place in draw.permutation(len(shuffled))]
        for name, members in corpora.items():
            scores = judge.agreement(*words_of(members[:SHOWN]))
            order = np.argsort(scores)
            found[name] = [members[place] for place in order], scores[order]
    return found


def main(
    config: Annotated[Path, typer.Option(help="configuration whose corpora are scored")],
    files: Annotated[list[Path], typer.Argument(help="parallel text, .tsv or .tsv.xz")],
    samples: Annotated[int, typer.Option(help="pairs to show at each quantile of the judged corpora")] = 0,
) -> None:
    """Show how well the sides of parallel text agree."""
    settings = Config.load(config)
    pairs = read(files, settings.data, settings.training.seed, Cleaner())
    table = Table("corpus", "pairs", *(f"{quantile:.0%}" for quantile in QUANTILES))
    console = Console()
    for name, (members, scores) in sorted(distributions(pairs, settings.data, settings.training.seed).items()):
        values = np.quantile(scores, QUANTILES)
        table.add_row(name, f"{len(members):,}", *(f"{value:.2f}" for value in values))
        for value in values if settings.data.least(name) is not None else ():
            start = int(np.searchsorted(scores, value))
            for pair, score in zip(members[start : start + samples], scores[start:], strict=False):
                console.print(f"{score:.2f}  {name}\n      {pair.first}\n      {pair.second}", markup=False)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
