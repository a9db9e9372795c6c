"""The model card: a package's README, written from its manifest so that the two cannot disagree.

``python -m export.card PACKAGE --scores reports/quality.json --scores reports/robustness.json`` takes measured scores
into both.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from export.package import Manifest, Package, Score, Trained

LIMITS = (
    "A small model: expect errors in names, numbers, idioms and long sentences, and whatever bias its training text "
    "has. Nothing was filtered for safety. Check before you publish."
)


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def hours(training: Trained) -> str:
    """Device hours of all processes, those of the run that gave the first weights included."""
    first = training.initial.minutes * training.initial.processes if training.initial else 0.0
    unit = "core" if training.device == "cpu" else "device"
    text = f"{(training.minutes * training.processes + first) / 60:.1f} hours of one {training.device} {unit}"
    return text + (f", {first / 60:.1f} of them for {training.initial.name}" if training.initial else "")


def facts(package: Package) -> list[tuple[object, ...]]:
    manifest, training = package.manifest, package.manifest.training
    layer = "" if manifest.alignment.layer is None else f" of decoder layer {manifest.alignment.layer}"
    size = sum((package.path / file.name).stat().st_size for file in package.files())
    rows: list[tuple[object, ...]] = [
        ("architecture", manifest.architecture),
        ("directions", ", ".join(f"{source}-{target}" for source, target in manifest.directions)),
        ("parameters", f"{manifest.parameters / 1e6:.1f} million"),
        ("precisions", ", ".join(manifest.precisions)),
        ("size", f"{size / 1e6:.1f} MB"),
        ("longest sentence", f"{manifest.max_length} sub-words"),
        ("alignment", f"cross-attention{layer}, heads: {manifest.alignment.heads}"),
        ("licence", manifest.licence),
        *([("origin", manifest.origin)] if manifest.origin else []),
    ]
    if training is not None:
        rows += [
            ("trained for", hours(training)),
            ("learnt from", f"{training.tokens:,} target sub-words in {training.steps:,} steps"),
            *([("first weights", f"of {training.initial.name}")] if training.initial else []),
        ]
    return rows


def limits(manifest: Manifest) -> str:
    """What not to expect, with the figures that say so."""
    parts = [LIMITS]
    if worst := min((score for score in manifest.scores if score.metric == "BLEU"), key=_value, default=None):
        way = "-".join(worst.direction)
        parts.append(f"Of the sets below it is weakest on {worst.set} {way}: BLEU {worst.value:.1f}.")
    if odd := min((score for score in manifest.scores if score.set == "robustness"), key=_value, default=None):
        way = "-".join(odd.direction)
        parts.append(f"Of the odd inputs of the robustness suite {odd.value:.1f} % come out unharmed in {way}.")
    return " ".join(parts)


def _value(score: Score) -> float:
    return score.value


def card(package: Package) -> str:
    """Markdown text of the card."""
    manifest = package.manifest
    data: list[tuple[object, ...]] = [
        (corpus.name, f"{corpus.pairs:,}", corpus.licence or "not stated") for corpus in manifest.training_data
    ]
    scores: list[tuple[object, ...]] = [
        (score.set, "-".join(score.direction), score.precision, score.metric, f"{score.value:.1f}")
        for score in manifest.scores
    ]
    signatures = sorted({f"`{score.signature}`" for score in manifest.scores})
    made = "\n".join(["```sh", *manifest.training.commands, "```"]) if manifest.training else ""
    parts = [
        f"# {manifest.name} {manifest.version}",
        table(("", ""), facts(package)),
        "## Limits",
        limits(manifest),
        "## Training data",
        table(("corpus", "pairs", "licence"), data) if data else "Not stated.",
        *(["## Made by", made] if made else []),
        "## Quality",
        table(("set", "direction", "precision", "metric", "score"), scores) if scores else "Not measured yet.",
        *([f"Signatures: {', '.join(signatures)}"] if signatures else []),
    ]
    return "\n\n".join(parts) + "\n"


def write_card(package: Package) -> None:
    (package.path / "README.md").write_text(card(package))


def main(
    packages: Annotated[list[Path], typer.Argument(help="packages whose scores are in the reports")],
    scores: Annotated[list[Path], typer.Option(help="JSON that make evaluate or make robustness wrote; repeatable")],
    commands: Annotated[
        Path | None, typer.Option(help="text file of the commands that made it, where they were others")
    ] = None,
) -> None:
    """Take the scores of reports into manifests and cards."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in scores]
    rows = [row for report in reports for row in [*report["rows"], *report.get("alignment", [])]]
    for path in packages:
        package = Package.open(path)
        mine = (score for row in rows if row["model"] == package.manifest.name for score in row["scores"])
        kept = [score for score in map(Score.model_validate, mine) if score.precision in package.manifest.precisions]
        changes: dict[str, object] = {"scores": kept}
        if commands is not None and package.manifest.training is not None:
            lines = commands.read_text(encoding="utf-8").splitlines()
            changes["training"] = package.manifest.training.model_copy(update={"commands": lines})
        package.manifest = package.manifest.model_copy(update=changes)
        package.save_manifest()
        write_card(package)


if __name__ == "__main__":
    typer.run(main)
