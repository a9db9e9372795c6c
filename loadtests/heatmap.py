"""A picture of where the models looked: ``python -m loadtests.heatmap "I drink milk." --output docs/attention.png``."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtests.machine import ROOT, describe
from loadtests.server import ServerError, served
from service.client import AttentiveError, Client
from service.client.picture import figure


def write(url: str, text: str, source: str, target: str, output: Path) -> None:
    """Ask every model that has the direction and draw where it looked in the first sentence; the replies go beside the
    picture as JSON.

    Raises ``ValueError`` where there is none, and ``AttentiveError``.
    """
    with Client(url) as client:
        names = [model.name for model in client.models() if (source, target) in model.directions]
        if not names:
            raise ValueError(f"no served model translates from {source} to {target}")
        found = [client.translate(text, target, source=source, model=name, attention="weights") for name in names]
    sentences = [(name, translation.sentences[0]) for name, translation in zip(names, found, strict=True)]
    output.parent.mkdir(parents=True, exist_ok=True)
    figure(sentences).savefig(output, dpi=150)
    told = [sentence.model_dump(exclude_unset=True) | {"model": name} for name, sentence in sentences]
    report = describe("bentoml", "onnxruntime") | {"text": text, "sentences": told}
    output.with_suffix(".json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main(
    text: Annotated[str, typer.Argument(help="one sentence")],
    source: Annotated[str, typer.Option()] = "en",
    target: Annotated[str, typer.Option()] = "fr",
    url: Annotated[str | None, typer.Option(help="running server; without it one is started and stopped")] = None,
    output: Annotated[Path, typer.Option(help="PNG or SVG; the replies go beside it as JSON")] = Path("attention.png"),
) -> None:
    """Translate a sentence with every served model and draw the attention. Exits with 2 without a server."""
    try:
        with served(url, ROOT / "reports" / "heatmap.server.log") as base:
            write(base, text, source, target, output)
    except (ServerError, AttentiveError, ValueError) as error:
        Console().print(str(error), markup=False)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
