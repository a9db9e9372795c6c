"""Example sentences with their translations and where each word looked: ``python -m loadtests.links PACKAGE``.

The reader sees at a glance whether a model's attention is a word alignment: lines that lead from words to their
translations, not all to one place.
"""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from export.package import Package, PackageError
from loadtests.engines import running, tag
from loadtests.machine import ROOT, describe
from service.engine import Job
from service.text import alignment
from service.text.tokens import Tokenizer

SENTENCES = (
    "The cat drinks milk.",
    "She sold her old car last week.",
    "The little girl is reading a book in the garden.",
    "I do not understand this question.",
    "We arrived at the train station too late.",
    "The red house on the hill belongs to my uncle.",
    "How much does this ticket cost?",
    "The European Union signed the agreement.",
    "He has never seen the sea.",
    "Please close the door behind you.",
    "The new law will protect small companies.",
    "My brother works in a large hospital.",
    "It was raining when we left the house.",
    "The teacher gave the children an apple.",
    "Did you find the keys that I lost?",
    "The president speaks four languages.",
    "They want to buy a cheaper computer.",
    "The black dog slept under the table.",
    "Tomorrow we will visit the old town.",
    "Nobody knew the answer.",
)
EM, WIDE, HIGH = 13, 8, 84
"""Pixels of the font, of a letter, and of a sentence with its translation."""
COLUMN = 480
LEAST = 0.1
"""Weight from which on a line is drawn."""


class Linked(NamedTuple):
    source: list[str]
    target: list[str]
    weights: list[list[float]]
    """[target words, source words], rows summing to 1."""


def translate(package: Package, precision: str, texts: Sequence[str]) -> list[Linked]:
    """The sentences that a package of one direction translates, as words."""
    tokenizer, manifest = Tokenizer(package.tokenizer_path, package.target_tokenizer_path), package.manifest
    first = tag(manifest, manifest.directions[0][1])
    pieces = [tokenizer.pieces(text) for text in texts]
    with running(package, precision=precision, threads=1) as engine:
        futures = engine.submit_all(
            [Job([*first, *each.ids, manifest.special.eos], beam_size=4, attention=True) for each in pieces]
        )
        found = [future.result()[0] for future in futures]
    linked = []
    for each, hypothesis in zip(pieces, found, strict=True):
        assert hypothesis.attention is not None
        source, target = each.words(), tokenizer.decode(hypothesis.token_ids).words()
        weights = alignment.merge(hypothesis.attention, source, target)
        linked.append(Linked([word.text for word in source], [word.text for word in target], weights.tolist()))
    return linked


def shown(word: str) -> str:
    """What XML can have of it."""
    return "".join(character if character.isprintable() else "\ufffd" for character in word)


def centres(words: Sequence[str]) -> list[float]:
    """Of words beside each other, a letter apart."""
    starts = [sum(len(word) + 1 for word in words[:number]) for number in range(len(words))]
    return [(start + len(word) / 2) * WIDE for start, word in zip(starts, words, strict=True)]


def drawn(linked: Linked, left: int, top: int) -> list[str]:
    """SVG elements of one sentence: the source above, its translation below, lines as strong as the weights."""
    above, below = centres(linked.source), centres(linked.target)
    parts = [
        f'<line x1="{left + above[i]:.0f}" y1="{top + 20}" x2="{left + below[j]:.0f}" y2="{top + 48}" '
        f'stroke="#1f5fa8" stroke-width="1.6" stroke-opacity="{weight:.2f}"/>'
        for j, row in enumerate(linked.weights)
        for i, weight in enumerate(row)
        if weight >= LEAST
    ]
    for words, places, y in ((linked.source, above, top + EM), (linked.target, below, top + 48 + EM)):
        parts += [
            f'<text x="{left + x:.0f}" y="{y}">{escape(shown(word))}</text>'
            for word, x in zip(words, places, strict=True)
        ]
    return parts


def picture(sentences: Sequence[Linked]) -> str:
    """An SVG of two columns."""
    rows = -(-len(sentences) // 2)
    parts = [
        part
        for number, linked in enumerate(sentences)
        for part in drawn(linked, 20 + number // rows * COLUMN, 16 + number % rows * HIGH)
    ]
    width, height = 2 * COLUMN + 20, rows * HIGH + 16
    style = f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{EM}" text-anchor="middle"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {style}>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def main(
    package: Annotated[Path, typer.Argument(help="directory of a model package that reads English")],
    precision: Annotated[str, typer.Option(help="int8 or fp32")] = "int8",
    output: Annotated[Path, typer.Option(help="SVG; the weights go beside it as JSON")] = ROOT / "docs" / "links.svg",
) -> None:
    """Draw the links of twenty sentences."""
    try:
        opened = Package.open(package)
    except PackageError as error:
        raise typer.BadParameter(str(error)) from error
    if opened.manifest.directions[0][0] != "en" or precision not in opened.manifest.precisions:
        raise typer.BadParameter(f"{package} does not read English first, or has no {precision}")
    found = translate(opened, precision, SENTENCES)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(picture(found), encoding="utf-8")
    report: dict[str, Any] = describe("onnxruntime", "sentencepiece") | {"package": opened.manifest.name}
    report["sentences"] = [linked._asdict() for linked in found]
    output.with_suffix(".json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
