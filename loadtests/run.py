"""``make loadtest``: a minute of load on the served packages, judged by a limit.

``python -m loadtests.run [--url URL] [--users 8] [--duration 60] [--p95 1000] [--output reports]``
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from loadtests.machine import ROOT
from loadtests.report import table
from loadtests.server import ServerError, served
from loadtests.traffic import SENTENCES

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
NAME = "loadtest"
"""What the files of a report are called: loadtest.json, loadtest.html, loadtest_stats.csv ..."""


def load(url: str, *, users: int, duration: float, p95: float | None, sentences: Path, seed: int, output: Path) -> int:
    """Run Locust against ``url``; its exit code. Writes HTML, CSV and JSON to ``output``."""
    stem = output / NAME
    report = stem.with_suffix(".json")
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "locust", "--locustfile", LOCUSTFILE, "--headless", "--only-summary"]
    command += ["--host", url, "--users", users, "--spawn-rate", users, "--run-time", f"{duration:g}s"]
    # longer than a request may take: what is under way ends with a reply or an error, and is counted
    command += ["--stop-timeout", "35s", "--csv", stem, "--html", stem.with_suffix(".html"), "--report", report]
    command += ["--sentences", sentences.resolve(), "--seed", seed]
    command += [] if p95 is None else ["--p95", p95]
    with stem.with_suffix(".log").open("wb") as log:
        arguments = [str(argument) for argument in command]
        return subprocess.run(arguments, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def verdict(report: dict[str, Any]) -> str:
    """One line: what was reached, and what was missed."""
    total, limit = report["total"], report["settings"]["p95_limit_ms"]
    if not total["requests"]:
        return "nothing was answered"
    errors = ", ".join(f"{count} x {error}" for error, count in report["errors"].items())
    figures = f"p50 {total['p50_ms']:g} ms, p95 {total['p95_ms']:g} ms, {report['achieved_per_s']:g} requests/s"
    unsent = report["unsent"]
    late = limit is not None and total["p95_ms"] > limit
    missed = [f"p95 over {limit:g} ms"] if late else []
    missed += [f"{unsent} requests were due and could not be sent before the end"] if unsent else []
    missed += [f"errors: {errors}"] if errors else []
    return "; ".join([figures, *missed])


def main(
    url: Annotated[str | None, typer.Option(help="running server; without it one is started and stopped")] = None,
    users: Annotated[int, typer.Option(min=1, help="each asks once a second")] = 8,
    duration: Annotated[int, typer.Option(min=1, help="seconds")] = 60,
    p95: Annotated[float | None, typer.Option(min=0, help="limit of the 95th percentile, in milliseconds")] = None,
    sentences: Annotated[Path, typer.Option(help="lines of language, tab, sentence")] = SENTENCES,
    seed: Annotated[int, typer.Option(help="same seed, same requests")] = 1,
    output: Annotated[Path, typer.Option(help="directory of the reports")] = Path("reports"),
) -> None:
    """Exits with 0 when all replies came, were right, and were in time; with 1 when not; with 2 without a server."""
    signal.signal(signal.SIGTERM, interrupt)
    console = Console()
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with served(url, output / f"{NAME}.server.log") as base:
            console.print(f"{users} users for {duration} s on {base}")
            code = load(base, users=users, duration=duration, p95=p95, sentences=sentences, seed=seed, output=output)
    except ServerError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(2) from None
    path = output / f"{NAME}.json"
    if not path.exists():
        console.print(f"Locust wrote no report and ended with {code}; see {output / NAME}.log", markup=False)
        raise typer.Exit(code or 1)
    report = json.loads(path.read_text(encoding="utf-8"))
    console.print(table(report))
    console.print(verdict(report), markup=False)
    console.print(f"written to {output}/{NAME}.{{html,json}}, {NAME}_*.csv", markup=False)
    raise typer.Exit(code)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """End through the ``finally`` of whatever runs, so that no server is left behind."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
