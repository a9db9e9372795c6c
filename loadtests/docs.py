"""``make docs``: everything in the documentation that was measured or generated, renewed from its source.

Reports are copied to ``docs/results``, the example request is asked of the shipped packages, its attention is drawn,
and the parts of the pages between ``<!-- begin:NAME -->`` and ``<!-- end:NAME -->`` are written anew. Where nothing was
measured yet, a part says which command does it.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import httpx
import matplotlib as mpl
import typer

from loadtests import heatmap, operators, quality, students, students_speed
from loadtests.machine import ROOT
from loadtests.markdown import (
    EXAMPLE,
    arrivals_tables,
    companions_table,
    consistency_table,
    disruption_table,
    engine_tables,
    example,
    limit_table,
    load_table,
    overload_table,
    shapes_table,
    soak_table,
    steady_table,
    summary_table,
    timeline_caption,
)
from loadtests.server import served
from service import metrics, settings

README = ROOT / "README.md"
DOCS = ROOT / "docs"
OPERATIONS = DOCS / "operations.md"
RESULTS = DOCS / "results"
REPORTS = (
    "quality.json",
    "multi30k.json",
    "robustness.json",
    "consistency.json",
    "loadtest.json",
    "engine.json",
    "shapes.json",
    "arrivals.json",
    "soak.json",
    "companions.json",
    "operators.json",
    "disruption.json",
    "overload.json",
    "steady.json",
    "students.json",
    "students_speed.json",
)
PICTURED = "Tom bought a new car."


def replace(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` in its part ``name``. Raises ``ValueError`` where there is no such part."""
    pattern = re.compile(rf"(<!-- begin:{name} -->\n).*?(<!-- end:{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no part {name}")
    return pattern.sub(lambda match: match[1] + content.strip("\n") + "\n" + match[2], text)


class Part(NamedTuple):
    """One part of a page."""

    source: Path
    """What was measured."""
    command: str
    """That measures it."""
    write: Callable[[Any], str]

    def text(self) -> str:
        if not self.source.exists():
            return f"Not measured yet: `{self.command}` does it, and `make docs` puts it here."
        return self.write(json.loads(self.source.read_text(encoding="utf-8")))


BENCH = 'make bench RUNS="..." SET=...'
SHAPES = 'make bench SHAPES="opus-mt student" SET=...'
SETS = 'SETS="..."'
EVALUATE = "make evaluate EVAL=..."
PAGES: dict[Path, dict[str, Part]] = {
    README: {
        "example": Part(RESULTS / "example.json", "make docs", example),
        "quality": Part(RESULTS / "quality.json", EVALUATE, quality.summary),
        "consistency": Part(RESULTS / "consistency.json", f"make consistency {SETS}", consistency_table),
        "load": Part(RESULTS / "loadtest.json", "make loadtest", load_table),
        "engine": Part(RESULTS / "engine.json", BENCH, summary_table),
    },
    DOCS / "quality.md": {
        "speed": Part(RESULTS / "quality.json", EVALUATE, quality.speed_table),
        "served": Part(RESULTS / "quality.json", EVALUATE, quality.served_table),
        "newstest": Part(RESULTS / "quality.json", EVALUATE, quality.newstest_table),
        "alignment": Part(RESULTS / "quality.json", EVALUATE, quality.alignment_table),
        "robustness": Part(RESULTS / "robustness.json", "make robustness", quality.robustness_table),
        "multi30k": Part(
            RESULTS / "multi30k.json", f'{EVALUATE} ARGS="--tokenised --name multi30k ..."', quality.multi30k_table
        ),
    },
    DOCS / "engine.md": {
        "timeline": Part(DOCS / "engine-timeline.json", f"make timeline {SETS}", timeline_caption),
        "bench": Part(RESULTS / "engine.json", BENCH, engine_tables),
        "shapes": Part(RESULTS / "shapes.json", SHAPES, shapes_table),
        "limit": Part(RESULTS / "engine.json", BENCH, limit_table),
        "operators": Part(RESULTS / "operators.json", f"make operators {SETS}", operators.markdown),
        "arrivals": Part(RESULTS / "arrivals.json", f"make arrivals {SETS}", arrivals_tables),
        "soak": Part(RESULTS / "soak.json", "make soak", soak_table),
        "companions": Part(RESULTS / "companions.json", f"make companions {SETS}", companions_table),
    },
    OPERATIONS: {
        "disruption": Part(RESULTS / "disruption.json", "make disruption", disruption_table),
        "overload": Part(RESULTS / "overload.json", "make overload", overload_table),
        "steady": Part(RESULTS / "steady.json", "make steady", steady_table),
    },
    DOCS / "models.md": {
        "students": Part(RESULTS / "students.json", "make students SET=...", students.markdown),
        "students-speed": Part(RESULTS / "students_speed.json", "make students-speed SET=...", students_speed.markdown),
    },
}
FROM_CODE: dict[Path, dict[str, Callable[[], str]]] = {
    README: {"settings": settings.markdown_table},
    OPERATIONS: {"metrics": metrics.markdown_table},
}
"""Parts that nobody has to measure."""


def render(page: Path) -> str:
    """A page with all its generated parts renewed."""
    text = page.read_text(encoding="utf-8")
    for name, part in PAGES[page].items():
        text = replace(text, name, part.text())
    for name, table in FROM_CODE.get(page, {}).items():
        text = replace(text, name, table())
    return text


def ask(url: str) -> None:
    """The example's reply to ``docs/results``, the picture to ``docs``."""
    mpl.use("agg")
    reply = httpx.post(f"{url}/v1/translate", json=EXAMPLE, timeout=60).raise_for_status().json()
    (RESULTS / "example.json").write_text(json.dumps(reply, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    heatmap.write(url, PICTURED, "en", "de", DOCS / "attention.png")


def main(
    url: Annotated[str | None, typer.Option(help="running server; without it one is started and stopped")] = None,
    reports: Annotated[Path, typer.Option(help="where the commands that measure wrote")] = Path("reports"),
) -> None:
    """Renew docs/results, the pictures and the generated parts of the pages."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in REPORTS:
        if (reports / name).exists():
            shutil.copyfile(reports / name, RESULTS / name)
    with served(url, reports / "docs.server.log") as base:
        ask(base)
    if (RESULTS / "quality.json").exists():
        quality.draw(json.loads((RESULTS / "quality.json").read_text(encoding="utf-8")), DOCS / "quality.png")
    for page in PAGES:
        page.write_text(render(page), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
