"""Does a sentence's translation depend on its companions? Alone in the engine, then all at once among others.

``python -m loadtests.companions [--package DIRECTORY] [--sentences 3000] SET.en-fr.tsv ...``

The compared sentences are greedy, one in ten has a beam of four, the same both times. Under load they are shuffled
among further sentences with beams, attention, early and late ends, so that rows of every kind join, move and leave.
``loadtests.consistency`` asks the same of a server.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from export.package import Package
from loadtests.engines import PATIENCE, Output, Packages, Precision, Sentence, opened, running
from loadtests.machine import describe
from loadtests.samples import sampled
from loadtests.sets import SOURCES
from service.engine import Engine, Hypothesis, Job
from service.text.tokens import Tokenizer

QUEUE = 2**16
"""All are submitted at once."""
BEAM_SIZE = 4
ONE_BEAM_IN = 10
OTHERS = 0.5
"""Companions that are not compared, over those that are."""
KINDS: list[dict[str, Any]] = [
    {"attention": True},
    {"beam_size": BEAM_SIZE},
    {"beam_size": BEAM_SIZE, "n_best": 2, "attention": True},
    {"max_length": 4},
    {"min_length": 6},
    {"no_repeat_ngram": 3},
]
TOLERANCE = 1e-4
"""Of scores: sums of the same numbers in another order."""
SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """The best translation of one sentence, alone and under load."""

    sentence: Sentence
    beam_size: int
    alone: Hypothesis
    load: Hypothesis

    @property
    def distance(self) -> float:
        """Between the two scores."""
        return abs(self.alone.score - self.load.score)

    @property
    def differs(self) -> bool:
        return self.alone.token_ids != self.load.token_ids or not self.distance <= TOLERANCE


def compare(engine: Engine, sentences: Sequence[Sentence], seed: int) -> list[Pair]:
    """Each in an engine that does nothing else, then all at once; a failure is raised as it is."""
    random = Random(seed)
    compared = [
        Job(sentence.source_ids, beam_size=1 if number % ONE_BEAM_IN else BEAM_SIZE)
        for number, sentence in enumerate(sentences)
    ]
    alone = [engine.submit(job).result(PATIENCE)[0] for job in track(compared, "alone")]
    others = [
        Job(random.choice(sentences).source_ids, **random.choice(KINDS)) for _ in range(int(OTHERS * len(sentences)))
    ]
    order = list(range(len(compared) + len(others)))
    random.shuffle(order)
    everything = [*compared, *others]
    futures = dict(zip(order, engine.submit_all([everything[i] for i in order]), strict=True))
    load = [futures[i].result(PATIENCE)[0] for i in track(range(len(everything)), "under load")]
    pairs = zip(sentences, compared, alone, load[: len(compared)], strict=True)
    return [Pair(sentence, job.beam_size, one, other) for sentence, job, one, other in pairs]


def summary(package: Package, precision: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Counts, and every sentence that differs with both translations."""
    tokenizer = Tokenizer(package.tokenizer_path)
    differing = [
        {
            "source": pair.sentence.source,
            "target": pair.sentence.target,
            "beam_size": pair.beam_size,
            "text": pair.sentence.text,
            "alone": tokenizer.decode(pair.alone.token_ids).text,
            "under_load": tokenizer.decode(pair.load.token_ids).text,
            "alone_score": pair.alone.score,
            "under_load_score": pair.load.score,
        }
        for pair in pairs
        if pair.differs
    ]
    return {
        "model": package.manifest.name,
        "version": package.manifest.version,
        "precision": precision,
        "sentences": len(pairs),
        "with_beam": sum(pair.beam_size > 1 for pair in pairs),
        "other_tokens": sum(pair.alone.token_ids != pair.load.token_ids for pair in pairs),
        "largest_score_difference": max(pair.distance for pair in pairs),
        "differences": len(differing),
        "differing": differing,
    }


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """A line for each package, and the first few differences in full."""
    shown = Table("model", "precision", "compared", "differ", "in tokens", "in score by", box=SIMPLE_HEAD)
    shown.columns[0].overflow = "fold"  # a name that is cut names nothing
    for row in rows:
        counts = [str(row[name]) for name in ("sentences", "differences", "other_tokens")]
        shown.add_row(row["model"], row["precision"], *counts, f"{row['largest_score_difference']:.1e}")
    console.print(shown)
    for row in rows:
        for each in row["differing"][:SHOWN]:
            where = f"{row['model']} {each['source']}-{each['target']} beam {each['beam_size']}"
            both = [f"  {each[f'{name}_score']:.5f} {each[name]}" for name in ("alone", "under_load")]
            console.print("\n".join([f"{where}: {each['text']}", *both]), markup=False, highlight=False)


def main(
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help=SOURCES)],
    package: Packages = None,
    precision: Precision = "int8",
    sentences: Annotated[int, typer.Option(min=1, help="of all sets and directions together")] = 3000,
    seed: Annotated[int, typer.Option(help="same seed, same sentences, same companions")] = 1,
    output: Output = Path("reports"),
) -> None:
    """Exits with 1 where a translation differs."""
    console, rows = Console(), []
    packages = opened(package, precision)
    for each, sample in zip(packages, sampled(packages, sets, sentences, seed), strict=True):
        with running(each, precision=precision, queue_size=QUEUE) as engine:
            rows.append(summary(each, precision, compare(engine, sample, seed)))
    output.mkdir(parents=True, exist_ok=True)
    report = describe("onnxruntime", "numpy", "sentencepiece") | {"others": OTHERS, "seed": seed, "rows": rows}
    (output / "companions.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    show(rows, console)
    if any(row["differences"] for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
