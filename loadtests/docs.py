"""``make docs``: everything in the documentation that was measured or generated, renewed from its source.

Reports are copied to ``docs/results``, the example request is asked of the shipped packages, its attention is drawn,
and the parts of ``README.md`` between ``<!-- begin:NAME -->`` and ``<!-- end:NAME -->`` are written anew.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Annotated, Any

import httpx
import matplotlib as mpl
import typer

from loadtests import heatmap
from loadtests.evaluate import markdown
from loadtests.machine import ROOT
from loadtests.server import served
from service.settings import markdown_table

README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results"
REPORTS = ("quality.json", "consistency.json", "loadtest.json")
EXAMPLE = {"text": "I drink milk.", "target": "fr", "attention": "alignment"}
PICTURED = "The little girl is reading a book in the garden."


def replace(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` in its part ``name``. Raises ``ValueError`` where there is no such part."""
    pattern = re.compile(rf"(<!-- begin:{name} -->\n).*?(<!-- end:{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no part {name}")
    return pattern.sub(lambda match: match[1] + content.strip("\n") + "\n" + match[2], text)


def example(reply: dict[str, Any]) -> str:
    """The request of the README and what was answered."""
    body = json.dumps(EXAMPLE, ensure_ascii=False)
    answer = json.dumps(reply, ensure_ascii=False, indent=1)
    compact = re.sub(r"\{\n\s+([^{}\[\]]*?)\n\s+\}", lambda match: "{" + " ".join(match[1].split()) + "}", answer)
    request = f"curl http://127.0.0.1:3000/v1/translate \\\n  -H 'Content-Type: application/json' -d '{body}'"
    return f"```sh\n{request}\n```\n\n```json\n{compact}\n```"


def consistency_table(report: dict[str, Any]) -> str:
    """Sentences with the same translation in any company, in markdown."""
    lines = ["| model | precision | set | direction | sentences | identical |", "|---|---|---|---|---|---|"]
    for row in report["rows"]:
        cells = row["model"], row["precision"], row["set"], f"{row['source']}-{row['target']}"
        lines.append("| " + " | ".join([*cells, str(row["sentences"]), str(row["identical"])]) + " |")
    note = f"{report['list']} sentences in a list, {report['clients']} clients, commit {report['commit']}."
    return "\n".join([*lines, "", note])


def load_table(report: dict[str, Any]) -> str:
    """Latencies of the load test, in markdown."""
    columns = ["requests", "failures", "p50_ms", "p95_ms", "p97_ms", "p99_ms"]
    lines = ["| request | " + " | ".join(columns).replace("_", " ") + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in [*report["by_kind"].items(), ("all", report["total"])]:
        lines.append(f"| {name} | " + " | ".join(str(row.get(column, "")) for column in columns) + " |")
    client = report["client"]
    machine = f"{client['machine']['cpu']}, {client['machine']['cores']} cores shared by server and load generator"
    rates = f"{report['offered_per_s']:g} requests/s offered, {report['achieved_per_s']:g} achieved"
    versions = ", ".join(f"{name} {version}" for name, version in client["versions"].items() if version)
    note = f"{rates}, {report['seconds']:g} s, one run; {machine}; {versions}; commit {client['commit']}."
    return "\n".join([*lines, "", note])


def render() -> str:
    """The README with all its generated parts renewed."""
    text = README.read_text(encoding="utf-8")

    def result(name: str) -> Any:
        return json.loads((RESULTS / name).read_text(encoding="utf-8"))

    parts = {
        "settings": markdown_table(),
        "example": example(result("example.json")),
        "quality": markdown(result("quality.json")),
        "consistency": consistency_table(result("consistency.json")),
        "load": load_table(result("loadtest.json")),
    }
    for name, content in parts.items():
        text = replace(text, name, content)
    return text


def ask(url: str) -> None:
    """The example's reply to ``docs/results``, the picture to ``docs``."""
    mpl.use("agg")
    reply = httpx.post(f"{url}/v1/translate", json=EXAMPLE, timeout=60).raise_for_status().json()
    (RESULTS / "example.json").write_text(json.dumps(reply, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    heatmap.write(url, PICTURED, "en", "fr", ROOT / "docs" / "attention.png")


def main(
    url: Annotated[str | None, typer.Option(help="running server; without it one is started and stopped")] = None,
    reports: Annotated[Path, typer.Option(help="where make evaluate and make loadtest wrote")] = Path("reports"),
) -> None:
    """Renew docs/results, docs/attention.png and README.md."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in REPORTS:
        if (reports / name).exists():
            shutil.copyfile(reports / name, RESULTS / name)
    with served(url, reports / "docs.server.log") as base:
        ask(base)
    README.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
