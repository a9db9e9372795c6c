"""Does a sentence's translation depend on its company? Alone, in a list and among many clients, over HTTP.

``python -m loadtests.consistency [--url URL] [--precision fp32 --precision int8] SET.en-fr.tsv``
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from loadtests.machine import describe
from loadtests.server import ServerError, environments, metric, served
from loadtests.sets import SOURCES, TIMEOUT, Set, ask, read_sets

LIST = 65
"""A sentence and 64 others."""
CLIENTS = 32
HITS = 'attentive_cache_total{result="hit"}'
"""Sentences that were looked up, not translated."""


@dataclass(frozen=True)
class Result:
    """Sentences whose translation was the same in all three ways, and the ones that differed."""

    model: str
    version: str
    precision: str
    set: str
    source: str
    target: str
    sentences: int
    identical: int
    differing: list[str]


async def apart(client: httpx.AsyncClient, model: str, texts: Set, clients: int) -> list[str]:
    """Every sentence in a request of its own, ``clients`` under way at a time."""
    turns = asyncio.Semaphore(clients)

    async def one(sentence: str) -> str:
        async with turns:
            return (await ask(client, model, texts, [sentence]))[0]

    return list(await asyncio.gather(*map(one, texts.sentences)))


async def compare(client: httpx.AsyncClient, model: dict[str, str], texts: Set) -> Result:
    """One model on one set in the three ways."""
    name = model["name"]
    alone = await apart(client, name, texts, clients=1)
    crowd = await apart(client, name, texts, clients=CLIENTS)
    parts = [texts.sentences[start : start + LIST] for start in range(0, len(texts.sentences), LIST)]
    listed = [text for part in parts for text in await ask(client, name, texts, part)]
    triples = zip(texts.sentences, alone, listed, crowd, strict=True)
    differing = [sentence for sentence, *outputs in triples if len(set(outputs)) > 1]
    count = len(texts.sentences)
    where = texts.name, texts.source, texts.target
    return Result(name, model["version"], model["precision"], *where, count, count - len(differing), differing)


async def measure(url: str, sets: Sequence[Set]) -> list[Result]:
    """Every model on every set that it has the direction for.

    Raises ``ServerError`` where the server remembers translations: what it looks up is always the same.
    """
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, limits=limits) as client:
        models = (await client.get("/v1/models")).raise_for_status().json()["models"]
        before = await metric(client, HITS)
        results = [
            await compare(client, model, texts)
            for model in models
            for texts in sets
            if [texts.source, texts.target] in model["directions"]
        ]
        if await metric(client, HITS) > before:
            raise ServerError(f"{url} remembers translations: start it with ATTENTIVE_CACHE_BYTES=0")
    return results


def main(
    sets: Annotated[list[Path], typer.Argument(help=SOURCES)],
    url: Annotated[str | None, typer.Option(help="running server; without it one is started and stopped")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="of the server that is started; several in turn")] = None,
    models_dir: Annotated[Path | None, typer.Option(help="packages of the server that is started")] = None,
    sentences: Annotated[int, typer.Option(min=1, help="of each set")] = 1000,
    output: Annotated[Path, typer.Option(help="directory of consistency.json")] = Path("reports"),
) -> None:
    """Count the sentences whose translation is the same in any company. Exits with 2 without a server."""
    console = Console()
    chosen = [
        Set(s.name, s.source, s.target, s.sentences[:sentences], s.references[:sentences])
        for path in sets
        for s in read_sets(path)
    ]
    results: list[Result] = []
    try:
        for environment in environments(precision, models_dir):
            with served(url, output / "consistency.server.log", environment=environment) as base:
                results += asyncio.run(measure(base, chosen))
    except ServerError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(2) from None
    output.mkdir(parents=True, exist_ok=True)
    report = describe("bentoml", "onnxruntime") | {"clients": CLIENTS, "list": LIST}
    rows = [asdict(result) for result in results]
    (output / "consistency.json").write_text(json.dumps(report | {"rows": rows}, indent=2, ensure_ascii=False) + "\n")
    table = Table("model", "precision", "set", "direction", "sentences", "identical")
    for column in table.columns[:3]:
        column.overflow = "fold"  # a name that is cut names nothing
    for r in results:
        table.add_row(r.model, r.precision, r.set, f"{r.source}-{r.target}", str(r.sentences), str(r.identical))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
