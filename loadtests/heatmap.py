"""A picture of where the models looked: ``python -m loadtests.heatmap "I drink milk." --output docs/attention.png``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import matplotlib as mpl
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from loadtests.machine import ROOT, describe
from loadtests.server import ServerError, served

INCHES_PER_TOKEN = 0.42
MARGIN_INCHES = 1.6
READABLE = 0.08
"""Weights from here on are written into their cells."""
DARK = 0.6
"""From here on a cell is too dark for black letters."""


def ask(url: str, model: str, text: str, source: str, target: str) -> dict[str, Any]:
    """The first sentence of a translation with its weights. Raises ``httpx.HTTPStatusError`` for a refusal."""
    body = {"text": text, "source": source, "target": target, "model": model, "attention": "weights"}
    reply = httpx.post(f"{url}/v1/translate", json=body, timeout=60).raise_for_status().json()
    sentence: dict[str, Any] = reply["translations"][0]["sentences"][0]
    return sentence | {"model": reply["model"]}


def draw(axes: Axes, sentence: dict[str, Any]) -> None:
    """Target tokens down, source tokens across, one shade for each weight."""
    weights = sentence["weights"]
    axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(sentence["source_tokens"])), labels(sentence["source_tokens"]), rotation=45, ha="left")
    axes.set_yticks(range(len(sentence["target_tokens"])), labels(sentence["target_tokens"]))
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_title(sentence["model"], pad=12)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row, line in enumerate(weights):
        for column, weight in enumerate(line):
            if weight >= READABLE:
                color = "white" if weight >= DARK else "black"
                axes.text(column, row, f"{weight:.2f}", ha="center", va="center", fontsize=7, color=color)


def labels(tokens: Sequence[dict[str, Any]]) -> list[str]:
    return [token["text"] for token in tokens]


def figure(sentences: Sequence[dict[str, Any]]) -> Figure:
    """The models' matrices side by side."""
    across = sum(len(sentence["source_tokens"]) for sentence in sentences) * INCHES_PER_TOKEN
    down = max(len(sentence["target_tokens"]) for sentence in sentences) * INCHES_PER_TOKEN
    size = across + MARGIN_INCHES * len(sentences), down + MARGIN_INCHES
    picture = Figure(figsize=size, layout="constrained")
    for axes, sentence in zip(picture.subplots(1, len(sentences), squeeze=False)[0], sentences, strict=True):
        draw(axes, sentence)
    return picture


def write(url: str, text: str, source: str, target: str, output: Path) -> None:
    """Ask every model that has the direction and draw what it looked at; the replies go beside the picture as JSON.

    Raises ``ValueError`` where there is none.
    """
    models = httpx.get(f"{url}/v1/models", timeout=60).raise_for_status().json()["models"]
    names = [model["name"] for model in models if [source, target] in model["directions"]]
    if not names:
        raise ValueError(f"no served model translates from {source} to {target}")
    sentences = [ask(url, name, text, source, target) for name in names]
    output.parent.mkdir(parents=True, exist_ok=True)
    figure(sentences).savefig(output, dpi=150)
    report = describe("bentoml", "onnxruntime") | {"text": text, "sentences": sentences}
    output.with_suffix(".json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main(
    text: Annotated[str, typer.Argument(help="one sentence")],
    source: Annotated[str, typer.Option()] = "en",
    target: Annotated[str, typer.Option()] = "fr",
    url: Annotated[str | None, typer.Option(help="running server; without it one is started and stopped")] = None,
    output: Annotated[Path, typer.Option(help="PNG or SVG; the replies go beside it as JSON")] = Path("attention.png"),
) -> None:
    """Translate a sentence with every served model and draw the attention. Exits with 2 without a server."""
    mpl.use("agg")
    try:
        with served(url, ROOT / "reports" / "heatmap.server.log") as base:
            write(base, text, source, target, output)
    except (ServerError, ValueError) as error:
        Console().print(str(error), markup=False)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
