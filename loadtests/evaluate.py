"""``make evaluate``: BLEU and chrF of every served model and direction, over HTTP, and how long it took.

``python -m loadtests.evaluate [--url URL] [--precision int8 --precision fp32] SET.en-fr.tsv ...``

A set is a file ``<name>.<first>-<second>.tsv`` with ``first<TAB>second`` lines; it is used in both directions.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import sacrebleu
import typer
from rich.console import Console
from rich.table import Table

from loadtests.machine import describe
from loadtests.server import ServerError, environments, served

TEXTS = 64
"""Texts in a request."""
CONNECTIONS = 4
"""Requests under way at a time: enough that no decode loop waits for the next."""
TIMEOUT = 600.0
SOURCES = "tab-separated files named like tatoeba-test.en-fr.tsv"


@dataclass(frozen=True)
class Set:
    """Sentences in one direction with one reference each."""

    name: str
    source: str
    target: str
    sentences: list[str]
    references: list[str]


@dataclass(frozen=True)
class Result:
    """One model on one set."""

    model: str
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

    @property
    def sentences_per_s(self) -> float:
        return self.sentences / self.seconds

    def scores(self) -> list[dict[str, Any]]:
        """In the form that a package's manifest has them."""
        common = {"set": self.set, "direction": [self.source, self.target], "precision": self.precision}
        return [
            {**common, "metric": "BLEU", "value": self.bleu, "signature": self.bleu_signature},
            {**common, "metric": "chrF", "value": self.chrf, "signature": self.chrf_signature},
        ]


def read_sets(path: Path) -> list[Set]:
    """Both directions of a file. Raises ``ValueError`` for a name or a line of another form."""
    name, _, languages = path.name.removesuffix(".tsv").rpartition(".")
    first, dash, second = languages.partition("-")
    if not (name and dash and first and second):
        raise ValueError(f"{path}: expected a name like tatoeba-test.en-fr.tsv")
    pairs = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    if wrong := next((number for number, pair in enumerate(pairs, 1) if len(pair) < 2), None):
        raise ValueError(f"{path}:{wrong}: expected two tab-separated columns")
    firsts, seconds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return [Set(name, first, second, firsts, seconds), Set(name, second, first, seconds, firsts)]


async def ask(client: httpx.AsyncClient, model: str, texts: Set, part: Sequence[str], **options: object) -> list[str]:
    """Translations of ``part`` of a set from one request. Raises ``httpx.HTTPStatusError`` for a refusal."""
    body = {"text": list(part), "source": texts.source, "target": texts.target, "model": model, **options}
    reply = await client.post("/v1/translate", json=body)
    return [translation["text"] for translation in reply.raise_for_status().json()["translations"]]


async def translate(client: httpx.AsyncClient, model: str, texts: Set, beam_size: int) -> list[str]:
    """All sentences of a set in their order. Raises ``httpx.HTTPStatusError`` for any refusal."""
    turns = asyncio.Semaphore(CONNECTIONS)

    async def take_turn(part: Sequence[str]) -> list[str]:
        async with turns:
            return await ask(client, model, texts, part, beam_size=beam_size, split_sentences="none")

    parts = [texts.sentences[start : start + TEXTS] for start in range(0, len(texts.sentences), TEXTS)]
    return [text for answers in await asyncio.gather(*map(take_turn, parts)) for text in answers]


async def measure(url: str, sets: Sequence[Set], beam_size: int, console: Console) -> list[Result]:
    """Every model on every set that it has the direction for."""
    results = []
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT) as client:
        models = (await client.get("/v1/models")).raise_for_status().json()["models"]
        for model in models:
            for texts in sets:
                if [texts.source, texts.target] not in model["directions"]:
                    continue
                started = time.perf_counter()
                outputs = await translate(client, model["name"], texts, beam_size)
                seconds = time.perf_counter() - started
                results.append(score(model, texts, outputs, beam_size, seconds))
                console.print(f"{model['name']} {model['precision']} {texts.name} {texts.source}-{texts.target} done")
    return results


def score(model: dict[str, Any], texts: Set, outputs: Sequence[str], beam_size: int, seconds: float) -> Result:
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    return Result(
        model=model["name"],
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


def table(results: Sequence[Result]) -> Table:
    shown = Table("model", "precision", "set", "direction", "beam", "BLEU", "chrF", "sentences/s")
    for column in shown.columns[:3]:
        column.overflow = "fold"  # a name that is cut names nothing
    for r in results:
        figures = f"{r.bleu:.1f}", f"{r.chrf:.1f}", f"{r.sentences_per_s:.0f}"
        shown.add_row(r.model, r.precision, r.set, f"{r.source}-{r.target}", str(r.beam_size), *figures)
    return shown


def markdown(report: dict[str, Any]) -> str:
    """The table of the README: BLEU of int8 with the loss against fp32 where both were measured."""
    rows = {(r["model"], r["set"], r["source"], r["target"], r["precision"]): r for r in report["rows"]}
    lines = ["| model | set | direction | BLEU int8 | BLEU fp32 | chrF int8 |", "|---|---|---|---|---|---|"]
    for (model, name, source, target, precision), row in rows.items():
        if precision == "int8":
            full = rows.get((model, name, source, target, "fp32"))
            cells = [model, name, f"{source}-{target}", f"{row['bleu']:.1f}"]
            cells += [f"{full['bleu']:.1f}" if full else "", f"{row['chrf']:.1f}"]
            lines.append("| " + " | ".join(cells) + " |")
    signatures = sorted({row[key] for row in report["rows"] for key in ("bleu_signature", "chrf_signature")})
    where = f"{report['machine']['cpu']}, {report['machine']['cores']} cores, commit {report['commit']}"
    return "\n".join([*lines, "", f"Greedy, over HTTP. {where}. " + "; ".join(f"`{s}`" for s in signatures)]) + "\n"


def main(
    sets: Annotated[list[Path], typer.Argument(help=SOURCES)],
    url: Annotated[str | None, typer.Option(help="running server; without it one is started and stopped")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="of the server that is started; several in turn")] = None,
    models_dir: Annotated[Path | None, typer.Option(help="packages of the server that is started")] = None,
    beam_size: Annotated[int, typer.Option(min=1)] = 1,
    output: Annotated[Path, typer.Option(help="directory of quality.json and quality.md")] = Path("reports"),
) -> None:
    """Measure what is served. Exits with 2 where nothing is."""
    console = Console()
    chosen = [one for path in sets for one in read_sets(path)]
    results: list[Result] = []
    try:
        for environment in environments(precision, models_dir):
            with served(url, output / "quality.server.log", environment=environment) as base:
                results += asyncio.run(measure(base, chosen, beam_size, console))
    except ServerError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(2) from None
    rows = [asdict(result) | {"scores": result.scores()} for result in results]
    report = describe("bentoml", "onnxruntime", "sacrebleu", "sentencepiece") | {"rows": rows}
    output.mkdir(parents=True, exist_ok=True)
    (output / "quality.json").write_text(json.dumps(report, indent=2) + "\n")
    (output / "quality.md").write_text(markdown(report))
    console.print(table(results))


if __name__ == "__main__":
    typer.run(main)
