"""The model card: a package's README, written from its manifest so that the two cannot disagree.

``python -m export.card PACKAGE --scores reports/quality.json`` takes measured scores into both.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from export.package import Package, Score

LIMITS = (
    "A small model: expect errors in names, numbers, idioms and long sentences, and whatever bias its training text "
    "has. Nothing was filtered for safety. Check before you publish."
)


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def card(package: Package) -> str:
    """Markdown text of the card."""
    manifest = package.manifest
    layer = "" if manifest.alignment.layer is None else f" of decoder layer {manifest.alignment.layer}"
    facts: list[tuple[object, ...]] = [
        ("architecture", manifest.architecture),
        ("directions", ", ".join(f"{source}-{target}" for source, target in manifest.directions)),
        ("parameters", f"{manifest.parameters / 1e6:.1f} million"),
        ("precisions", ", ".join(manifest.precisions)),
        ("longest sentence", f"{manifest.max_length} sub-words"),
        ("alignment", f"cross-attention{layer}, heads: {manifest.alignment.heads}"),
        ("licence", manifest.licence),
    ]
    data: list[tuple[object, ...]] = [
        (corpus.name, f"{corpus.pairs:,}", corpus.licence or "not stated") for corpus in manifest.training_data
    ]
    scores: list[tuple[object, ...]] = [
        (score.set, "-".join(score.direction), score.precision, score.metric, f"{score.value:.1f}")
        for score in manifest.scores
    ]
    signatures = sorted({f"`{score.signature}`" for score in manifest.scores})
    parts = [
        f"# {manifest.name} {manifest.version}",
        table(("", ""), facts),
        "## Training data",
        table(("corpus", "pairs", "licence"), data),
        "## Quality",
        table(("set", "direction", "precision", "metric", "score"), scores) if scores else "Not measured yet.",
        *([f"sacrebleu signatures: {', '.join(signatures)}"] if signatures else []),
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def write_card(package: Package) -> None:
    (package.path / "README.md").write_text(card(package))


def main(
    packages: Annotated[list[Path], typer.Argument(help="packages whose scores are in the report")],
    scores: Annotated[Path, typer.Option(help="JSON that make evaluate wrote")],
) -> None:
    """Take the scores of a quality report into manifests and cards."""
    rows = json.loads(scores.read_text())["rows"]
    for path in packages:
        package = Package.open(path)
        mine = (score for row in rows if row["model"] == package.manifest.name for score in row["scores"])
        kept = [score for score in map(Score.model_validate, mine) if score.precision in package.manifest.precisions]
        package.manifest = package.manifest.model_copy(update={"scores": kept})
        package.save_manifest()
        write_card(package)


if __name__ == "__main__":
    typer.run(main)
