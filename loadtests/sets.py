"""Sets of sentences with references, and how a server is asked to translate them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

TEXTS = 64
"""Texts in a request."""
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


def parse_name(path: Path) -> tuple[str, str, str]:
    """``tatoeba-test.en-fr.tsv`` -> name and both languages. Raises ``ValueError`` for a name of another form."""
    name, _, languages = path.name.removesuffix(".tsv").rpartition(".")
    first, dash, second = languages.partition("-")
    if not (name and dash and first and second):
        raise ValueError(f"{path}: expected a name like tatoeba-test.en-fr.tsv")
    return name, first, second


def read_sets(path: Path) -> list[Set]:
    """Both directions of a file. Raises ``ValueError`` for a name or a line of another form."""
    name, first, second = parse_name(path)
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
