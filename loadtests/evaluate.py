"""``make evaluate``: BLEU and chrF of every served model and direction, over HTTP, how long it took, and how well the
attention aligns words.

``python -m loadtests.evaluate [--url URL] [--precision int8 --precision fp32] DIRECTORY|SET.en-fr.tsv ...``

A set is a file ``<name>.<first>-<second>.tsv`` with ``first<TAB>second`` lines; it is used in both directions. A
directory stands for all its sets but those that choices are made on, and for the hand-made alignments in its
``alignments`` (:mod:`loadtests.alignment`).
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import httpx
import sacrebleu
import sacremoses
import typer
from rich.console import Console
from rich.table import Table

from loadtests import alignment
from loadtests.alignment import GoldSet, read_set
from loadtests.machine import describe
from loadtests.quality import full_tables
from loadtests.server import ServerError, environments, served
from loadtests.sets import SOURCES, TEXTS, TIMEOUT, Set, ask, read_sets

CONNECTIONS = 4
"""Requests under way at a time: enough that no decode loop waits for the next."""
TUNED_ON = ("tatoeba-dev", "multi30k-val", "newstest2013")
"""Sets that choices are made on: no figure of theirs is reported."""


@dataclass(frozen=True)
class Result:
    """One model on one set."""

    model: str
    architecture: str
    version: str
    precision: str
    set: str
    source: str
    target: str
    beam_size: int
    sentences: int
    bleu: float
    bleu_signature: str
    chrf: float
    chrf_signature: str
    seconds: float
    tokenised_bleu: float | None = None
    tokenised_signature: str | None = None

    @property
    def sentences_per_s(self) -> float:
        return self.sentences / self.seconds

    def scores(self) -> list[dict[str, Any]]:
        """In the form that a package's manifest has them; these are of greedy translations."""
        if self.beam_size > 1:
            return []
        common = {"set": self.set, "direction": [self.source, self.target], "precision": self.precision}
        return [
            {**common, "metric": "BLEU", "value": self.bleu, "signature": self.bleu_signature},
            {**common, "metric": "chrF", "value": self.chrf, "signature": self.chrf_signature},
        ]


class Sets(NamedTuple):
    """All that is measured."""

    texts: list[Set]
    gold: list[GoldSet]


def collect(paths: Sequence[Path], limit: int | None = None) -> Sets:
    """The sets of files and directories, of each the first ``limit`` sentences. Raises ``ValueError`` as readers do."""
    files: list[Path] = []
    gold: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += [file for file in sorted(path.glob("*.tsv")) if not file.name.startswith(TUNED_ON)]
            gold += sorted((path / "alignments").glob("*.tsv"))
        else:
            files.append(path)
    texts = [each for file in files for each in read_sets(file)]
    return Sets(
        [replace(each, sentences=each.sentences[:limit], references=each.references[:limit]) for each in texts],
        [replace(each, rows=each.rows[:limit]) for each in map(read_set, gold)],
    )


async def translate(client: httpx.AsyncClient, model: str, texts: Set, beam_size: int) -> list[str]:
    """All sentences of a set in their order. Raises ``httpx.HTTPStatusError`` for any refusal."""
    turns = asyncio.Semaphore(CONNECTIONS)

    async def take_turn(part: Sequence[str]) -> list[str]:
        async with turns:
            return await ask(client, model, texts, part, beam_size=beam_size, split_sentences="none")

    parts = [texts.sentences[start : start + TEXTS] for start in range(0, len(texts.sentences), TEXTS)]
    return [text for answers in await asyncio.gather(*map(take_turn, parts)) for text in answers]


async def measure(
    url: str, sets: Sets, beam_sizes: Sequence[int], console: Console, *, tokenised: bool = False
) -> tuple[list[Result], list[dict[str, Any]]]:
    """Every model on every set that it has the direction for: its quality, and its alignment error rates."""
    results, aligned = [], []
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT) as client:
        models = (await client.get("/v1/models")).raise_for_status().json()["models"]
        for model in models:
            for texts in sets.texts:
                if [texts.source, texts.target] not in model["directions"]:
                    continue
                for beam_size in beam_sizes:
                    started = time.perf_counter()
                    outputs = await translate(client, model["name"], texts, beam_size)
                    seconds = time.perf_counter() - started
                    result = score(model, texts, outputs, beam_size, seconds)
                    results.append(with_tokenised(result, texts, outputs) if tokenised else result)
                console.print(f"{model['name']} {model['precision']} {texts.name} {texts.source}-{texts.target} done")
            for gold in sets.gold:
                aligned += await alignment.measure(client, model, gold)
    return results, aligned


def score(model: dict[str, Any], texts: Set, outputs: Sequence[str], beam_size: int, seconds: float) -> Result:
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    return Result(
        model=model["name"],
        architecture=model["architecture"],
        version=model["version"],
        precision=model["precision"],
        set=texts.name,
        source=texts.source,
        target=texts.target,
        beam_size=beam_size,
        sentences=len(outputs),
        bleu=round(bleu.corpus_score(outputs, [texts.references]).score, 2),
        bleu_signature=str(bleu.get_signature()),
        chrf=round(chrf.corpus_score(outputs, [texts.references]).score, 2),
        chrf_signature=str(chrf.get_signature()),
        seconds=round(seconds, 2),
    )


def with_tokenised(result: Result, texts: Set, outputs: Sequence[str]) -> Result:
    """BLEU of lower-cased text, punctuation normalised, in the tokens of Moses, as most papers on Multi30k have it."""
    normalizer = sacremoses.MosesPunctNormalizer(lang=texts.target)
    tokenizer = sacremoses.MosesTokenizer(lang=texts.target)

    def tokens(text: str) -> str:
        return tokenizer.tokenize(normalizer.normalize(text.lower()), return_str=True, escape=False)

    bleu = sacrebleu.BLEU(lowercase=True, tokenize="none", force=True)
    found = bleu.corpus_score(list(map(tokens, outputs)), [list(map(tokens, texts.references))]).score
    signature = f"{bleu.get_signature()}|on:sacremoses-{version('sacremoses')}"
    return replace(result, tokenised_bleu=round(found, 2), tokenised_signature=signature)


def table(results: Sequence[Result]) -> Table:
    shown = Table("model", "precision", "set", "direction", "beam", "BLEU", "chrF", "sentences/s")
    for column in shown.columns[:3]:
        column.overflow = "fold"  # a name that is cut names nothing
    for r in results:
        figures = f"{r.bleu:.1f}", f"{r.chrf:.1f}", f"{r.sentences_per_s:.0f}"
        shown.add_row(r.model, r.precision, r.set, f"{r.source}-{r.target}", str(r.beam_size), *figures)
    return shown


def write(
    where: dict[str, Any], results: Sequence[Result], aligned: Sequence[dict[str, Any]], output: Path, name: str
) -> None:
    """The report, as JSON and markdown. ``where``: what :func:`describe` said before anything was measured."""
    rows = [asdict(result) | {"scores": result.scores()} for result in results]
    report = where | {"load_before": where["machine"]["load_1_min"], "rows": rows, "alignment": aligned}
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    (output / f"{name}.md").write_text(full_tables(report))


def main(
    sets: Annotated[list[Path], typer.Argument(help=f"{SOURCES}; or directories of them")],
    url: Annotated[str | None, typer.Option(help="running server; without it one is started and stopped")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="of the server that is started; several in turn")] = None,
    models_dir: Annotated[Path | None, typer.Option(help="packages of the server that is started")] = None,
    beam_size: Annotated[list[int], typer.Option(min=1, help="several in turn")] = [1],  # noqa: B006
    limit: Annotated[int | None, typer.Option(min=1, help="only the first sentences of each set")] = None,
    tokenised: Annotated[bool, typer.Option("--tokenised", help="also BLEU of lower-cased tokens of Moses")] = False,
    name: Annotated[str, typer.Option(help="of the report")] = "quality",
    output: Annotated[Path, typer.Option(help="directory of the report, as JSON and markdown")] = Path("reports"),
) -> None:
    """Measure what is served. Exits with 2 where nothing is."""
    console = Console()
    where = describe("bentoml", "onnxruntime", "sacrebleu", "sentencepiece")
    chosen = collect(sets, limit)
    results: list[Result] = []
    aligned: list[dict[str, Any]] = []
    try:
        for environment in environments(precision, models_dir):
            with served(url, output / f"{name}.server.log", environment=environment) as base:
                found = asyncio.run(measure(base, chosen, beam_size, console, tokenised=tokenised))
                results += found[0]
                aligned += found[1]
            write(where, results, aligned, output, name)
    except ServerError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(2) from None
    console.print(table(results))


if __name__ == "__main__":
    typer.run(main)
