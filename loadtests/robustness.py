"""``make robustness``: what the served models do with the inputs that users complain about, over HTTP.

``python -m loadtests.robustness [--url URL] [--precision int8 --precision fp32]``

The inputs, by kind and language, are in ``robustness.json``. Each goes through every direction from its language of
every model, and counts as passed when :mod:`loadtests.checks` finds nothing. Greedy, as by default. The report has what
failed, and how.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import httpx
import typer
from rich.console import Console
from rich.table import Table

from loadtests.checks import Case, Output, failed
from loadtests.machine import describe
from loadtests.server import ServerError, environments, served
from loadtests.sets import TEXTS, TIMEOUT
from service.text.detect import Detector

INPUTS = Path(__file__).with_name("robustness.json")
ALL = "all"
METRIC = "passed, %"


class Outcome(NamedTuple):
    """One input in one direction of one model, and the checks that it did not pass."""

    case: Case
    output: Output
    failed: list[str]


def read_cases(path: Path) -> list[Case]:
    """``{kind: {language: [text, ...]}}``; instead of a text ``[text, what must stay, ...]``.

    Raises ``ValueError`` where something that must stay is not in its text.
    """
    cases = []
    for kind, languages in json.loads(path.read_text(encoding="utf-8")).items():
        for language, entries in languages.items():
            for entry in entries:
                text, *kept = [entry] if isinstance(entry, str) else entry
                if missing := [part for part in kept if part not in text]:
                    raise ValueError(f"{path}: {text!r} does not contain {missing[0]!r}")
                cases.append(Case(kind, language, text, tuple(kept)))
    return cases


async def translate(client: httpx.AsyncClient, body: dict[str, Any], cases: Sequence[Case]) -> list[Output]:
    """Raises ``httpx.HTTPStatusError`` for a refusal."""
    outputs = []
    for start in range(0, len(cases), TEXTS):
        part = cases[start : start + TEXTS]
        reply = await client.post("/v1/translate", json=body | {"text": [case.text for case in part]})
        found = reply.raise_for_status().json()["translations"]
        outputs += [Output(each["text"], body["target"], each["truncated"]) for each in found]
    return outputs


def row_of(model: dict[str, Any], source: str, target: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts by kind, and everything that failed."""
    kinds: dict[str, dict[str, int]] = defaultdict(lambda: {"inputs": 0, "passed": 0})
    for outcome in outcomes:
        kinds[outcome.case.kind]["inputs"] += 1
        kinds[outcome.case.kind]["passed"] += not outcome.failed
    failures = [
        {"kind": case.kind, "text": case.text, "translation": output.text, "failed": checks}
        for case, output, checks in outcomes
        if checks
    ]
    common = {"model": model["name"], "architecture": model["architecture"], "version": model["version"]}
    common |= {"precision": model["precision"], "source": source, "target": target}
    total = {"inputs": len(outcomes), "passed": len(outcomes) - len(failures)}
    score = {"set": "robustness", "direction": [source, target], "precision": model["precision"], "metric": METRIC}
    score |= {"value": round(100 * total["passed"] / total["inputs"], 2), "signature": f"inputs:{total['inputs']}"}
    return common | total | {"kinds": kinds, "failures": failures, "scores": [score]}


async def measure(url: str, cases: Sequence[Case], console: Console) -> list[dict[str, Any]]:
    """A row for every model and direction that there are inputs for."""
    rows = []
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT) as client:
        models = (await client.get("/v1/models")).raise_for_status().json()["models"]
        detector = Detector({language for model in models for way in model["directions"] for language in way})
        for model in models:
            for source, target in model["directions"]:
                if chosen := [case for case in cases if case.language == source]:
                    body = {"model": model["name"], "source": source, "target": target}
                    outputs = await translate(client, body, chosen)
                    outcomes = [
                        Outcome(case, output, failed(case, output, detector))
                        for case, output in zip(chosen, outputs, strict=True)
                    ]
                    rows.append(row_of(model, source, target, outcomes))
                    console.print(f"{model['name']} {model['precision']} {source}-{target} done")
    return rows


def rates(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Percentage passed of every kind and of all, for each model and precision over its directions."""
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for row in rows:
        for kind, count in [*row["kinds"].items(), (ALL, row)]:
            both = counts[f"{row['model']} {row['precision']}"][kind]
            both[0] += count["passed"]
            both[1] += count["inputs"]
    return {
        name: {kind: 100 * passed / inputs for kind, (passed, inputs) in kinds.items()}
        for name, kinds in counts.items()
    }


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Percentage passed by kind and model."""
    found = rates(rows)
    shown = Table("inputs")
    for name in found:
        shown.add_column(name, justify="right", overflow="fold")
    kinds = dict.fromkeys(kind for kinds in found.values() for kind in kinds if kind != ALL)
    for kind in [*kinds, ALL]:
        shown.add_row(kind, *(f"{each[kind]:.1f}" if kind in each else "-" for each in found.values()))
    return shown


def checks_table(rows: Sequence[dict[str, Any]]) -> Table:
    """How often each check failed."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    names = dict.fromkeys(f"{row['model']} {row['precision']}" for row in rows)
    for row in rows:
        for failure in row["failures"]:
            for check in failure["failed"]:
                counts[check][f"{row['model']} {row['precision']}"] += 1
    shown = Table("failed check")
    for name in names:
        shown.add_column(name, justify="right", overflow="fold")
    for check, found in sorted(counts.items(), key=lambda pair: -sum(pair[1].values())):
        shown.add_row(check, *(str(found[name]) for name in names))
    return shown


def main(
    inputs: Annotated[Path, typer.Option(help="JSON of kinds, languages and texts")] = INPUTS,
    url: Annotated[str | None, typer.Option(help="running server; without it one is started and stopped")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="of the server that is started; several in turn")] = None,
    models_dir: Annotated[Path | None, typer.Option(help="packages of the server that is started")] = None,
    output: Annotated[Path, typer.Option(help="directory of robustness.json")] = Path("reports"),
) -> None:
    """Measure what is served. Exits with 2 where nothing is."""
    console, cases = Console(), read_cases(inputs)
    rows: list[dict[str, Any]] = []
    try:
        for environment in environments(precision, models_dir):
            with served(url, output / "robustness.server.log", environment=environment) as base:
                rows += asyncio.run(measure(base, cases, console))
    except ServerError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(2) from None
    report = describe("bentoml", "onnxruntime", "sentencepiece", "py3langid") | {"rates": rates(rows), "rows": rows}
    output.mkdir(parents=True, exist_ok=True)
    (output / "robustness.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(table(rows))
    console.print(checks_table(rows))


if __name__ == "__main__":
    typer.run(main)
