"""Alignment error rate of what a server returns as attention.

The server is made to say a given translation (``target_prefix``), sub-word by sub-word, and tells where it looked. What
the sub-words of a target word looked at, on average, is added up over the sub-words of each source word; a target word
is linked to the source word with most of it. Both directions give links, and so do both together, symmetrised
(:func:`models.align.symmetrized`).

Some words have no counterpart, and attention has to look somewhere all the same: rates are given with every word
linked, as papers have them, and with those links alone that have a good part of a word's attention, which the weights
in a reply tell.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from loadtests.sets import parse_name
from models.align import Gold, Links, error_rate, read_gold, symmetrized

CONNECTIONS = 2
"""Requests under way at a time; each has one sentence, as ``target_prefix`` asks for."""
METRIC = "AER"
SYMMETRISED = "AER, both directions symmetrised"
SIGNATURE = "returned attention|forced target|argmax|sub-words averaged and added up"
CONFIDENT = 0.4
"""Least share of a word's attention with which its link is trusted."""
EVERY = "every word"
THRESHOLDS = {EVERY: 0.0, f"weight {CONFIDENT} and more": CONFIDENT}
"""Which links are judged, and the least weight of each."""

Weighed = dict[tuple[int, int], float]
"""``(first word, second word)`` and the weight of each link."""


@dataclass(frozen=True)
class GoldSet:
    """Sentences whose words were aligned by hand."""

    name: str
    first: str
    second: str
    rows: list[Gold]


def read_set(path: Path) -> GoldSet:
    """Raises ``ValueError`` for a name or a line of another form."""
    return GoldSet(*parse_name(path), read_gold(path))


def word_of(words: Sequence[str], place: int) -> int:
    """Number of the word of ``" ".join(words)`` that the character at ``place`` is in; a space is its left word's."""
    starts = [0, *accumulate(len(word) + 1 for word in words[:-1])]
    return bisect_right(starts, place) - 1


def last(token: dict[str, Any]) -> int:
    """Place of a token's last character: a sub-word may begin with the space before its word."""
    return max(token["start"], token["end"] - 1)


def says(translation: dict[str, Any], target: Sequence[str]) -> list[str] | None:
    """The words with which the translation says ``target``: numbers in it the server may have set right by the source.

    None where it says anything else.
    """
    written: list[str] = translation["text"].split(" ")[: len(target)]
    same = [a == b or any(map(str.isdigit, a + b)) for a, b in zip(written, target, strict=False)]
    return written if len(same) == len(target) and all(same) else None


def words_attention(translation: dict[str, Any], source: Sequence[str], target: Sequence[str]) -> np.ndarray:
    """``[target words, source words]``; a row of zeros where the server told nothing, or of another translation."""
    sums, counts = np.zeros((len(target), len(source))), np.zeros((len(target), 1))
    written = says(translation, target)
    if written is None:
        return sums
    length = len(" ".join(written))
    for sentence in translation["sentences"]:
        columns = [word_of(source, last(token)) for token in sentence["source_tokens"]]
        for token, row in zip(sentence["target_tokens"], sentence["weights"], strict=True):
            if token["start"] < length:
                place = word_of(written, last(token))
                np.add.at(sums[place], columns, row)
                counts[place] += 1
    return sums / np.maximum(counts, 1)


async def attended(
    client: httpx.AsyncClient, body: dict[str, Any], source: Sequence[str], target: Sequence[str]
) -> Weighed:
    """Of every target word that the server told about, ``(source word, target word)``."""
    asked = {"text": " ".join(source), "target_prefix": " ".join(target), "split_sentences": "none"}
    reply = await client.post("/v1/translate", json=body | asked | {"attention": "weights", "tokens": "subwords"})
    weights = words_attention(reply.raise_for_status().json()["translations"][0], source, target)
    return {(int(row.argmax()), j): float(row.max()) for j, row in enumerate(weights) if row.any()}


async def links(client: httpx.AsyncClient, model: str, gold: GoldSet) -> list[tuple[Weighed, Weighed]]:
    """Of every sentence those of both directions."""
    turns = asyncio.Semaphore(CONNECTIONS)
    there = {"model": model, "source": gold.first, "target": gold.second}
    back = {"model": model, "source": gold.second, "target": gold.first}

    async def both(row: Gold) -> tuple[Weighed, Weighed]:
        async with turns:
            forward = await attended(client, there, row.first, row.second)
            backward = await attended(client, back, row.second, row.first)
        return forward, {(i, j): weight for (j, i), weight in backward.items()}

    return list(await asyncio.gather(*map(both, gold.rows)))


def rates(found: Sequence[tuple[Weighed, Weighed]], gold: Sequence[Gold], least: float) -> tuple[float, float, float]:
    """Of both directions and of both together, by links of ``least`` weight or more."""
    forward, backward = ([_trusted(pair[way], least) for pair in found] for way in (0, 1))
    joined = [symmetrized(*both) for both in zip(forward, backward, strict=True)]
    return error_rate(forward, gold), error_rate(backward, gold), error_rate(joined, gold)


def _trusted(weighed: Weighed, least: float) -> Links:
    return {link for link, weight in weighed.items() if weight >= least}


async def measure(client: httpx.AsyncClient, model: dict[str, Any], gold: GoldSet) -> list[dict[str, Any]]:
    """A row for each direction and one for both together, for each kind of links; none where a direction lacks."""
    there, back = [gold.first, gold.second], [gold.second, gold.first]
    if any(way not in model["directions"] for way in (there, back)):
        return []
    found = await links(client, model["name"], gold)
    rows = []
    for kind, least in THRESHOLDS.items():
        measured = zip((METRIC, METRIC, SYMMETRISED), (there, back, there), rates(found, gold.rows, least), strict=True)
        for metric, way, value in measured:
            name = metric if kind == EVERY else f"{metric}, {kind}"
            score = {"set": gold.name, "direction": way, "precision": model["precision"], "metric": name}
            score |= {"value": round(value, 2), "signature": f"{SIGNATURE}|links: {kind}"}
            row = {"model": model["name"], "version": model["version"], "sentences": len(gold.rows), "links": kind}
            rows.append(row | {"scores": [score]})
    return rows
