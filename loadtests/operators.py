"""Where the time of both graphs goes, operator by operator: ``python -m loadtests.operators SET.en-fr.tsv ...``.

ONNX Runtime notes how long each operator takes while an engine translates sentences of the sets, in order of length:
greedily with a row for each, and with a beam. Taking notes takes time itself, most where operators are short.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from export.package import Package, Part
from loadtests.engines import PATIENCE, Output, Packages, Precision, Sentence, on_one_core, opened
from loadtests.limit import OPERATORS, PARTS
from loadtests.machine import describe
from loadtests.peers import BATCH
from loadtests.samples import sampled
from loadtests.sets import SOURCES
from loadtests.tables import shown, where
from service.engine import Job

OUTPUT_LAYER, LAYER = "output layer", "other products with weights"
REST = "all others"
LEAST = 0.02
"""Share of a graph's time from which an operator has a line of its own in one of the cases."""
Shares = dict[str, float]
"""Of each operator in the time of a graph."""


class Case(NamedTuple):
    """How the sentences are translated."""

    name: str
    slots: int
    beam_size: int


CASES = Case(f"{BATCH} rows, greedy", BATCH, 1), Case(f"{4 * BATCH} rows, beam 4", 4 * BATCH, 4)


def shares(events: Sequence[Mapping[str, Any]], last: bool) -> Shares:
    """From what ONNX Runtime noted. Products with weights count together,
    but for the widest where it is the ``last`` layer. A branch counts as the operators in it.
    """
    nodes = [each for each in events if each.get("cat") == "Node" and each["name"].endswith("_kernel_time")]
    nodes = [each for each in nodes if each["args"]["op_name"] != "If"]
    widest = max(map(width, nodes), default=0) if last else 0
    counted: Counter[str] = Counter()
    for each in nodes:
        wide = width(each)
        name = each["args"]["op_name"] if not wide else OUTPUT_LAYER if wide == widest else LAYER
        counted[name] += each["dur"]
    total = counted.total()
    return {name: duration / total for name, duration in counted.most_common()}


def width(event: Mapping[str, Any]) -> int:
    """Columns of a product with weights, 0 for any other operator."""
    if event["args"]["op_name"] not in OPERATORS:
        return 0
    (shape,) = event["args"]["output_type_shape"][0].values()
    return int(shape[-1])


def profiled(package: Package, precision: str, case: Case, sentences: Sequence[Sentence]) -> dict[Part, Shares]:
    """Shares of the operators of both graphs while these sentences are translated."""
    jobs = [Job(each.source_ids, beam_size=case.beam_size) for each in sentences]
    with TemporaryDirectory() as directory:
        options = {"precision": precision, "slots": case.slots, "profile": Path(directory) / "graph"}
        with on_one_core(package, **options) as engine:
            for future in engine.submit_all(jobs):
                future.result(PATIENCE)
        session = engine.session
        files = [Path(graph.end_profiling()) for graph in (session.encoder, session.decoder)]
        notes = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {part: shares(events, last=part == "decoder") for part, events in zip(PARTS, notes, strict=True)}


def lines(row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Of a package's table: graph, operator, and the share in each case; small ones are put together."""
    found = []
    for part in PARTS:
        cases = [case[part] for case in row["cases"].values()]
        names = [name for name in dict.fromkeys(chain(*cases)) if any(case.get(name, 0.0) >= LEAST for case in cases)]
        table = {name: [case.get(name, 0.0) for case in cases] for name in names}
        table[REST] = [1 - sum(column) for column in zip(*table.values(), strict=True)]
        found += [(part, name, *(f"{share:.0%}" for share in each)) for name, each in table.items()]
    return found


def tables(report: Mapping[str, Any]) -> list[Table]:
    """One for each package."""
    made = []
    for row in report["rows"]:
        table = Table(title=f"{row['model']} {row['precision']}", box=SIMPLE_HEAD)
        table.add_column("graph")
        table.add_column("operator", overflow="fold")
        for name in row["cases"]:
            table.add_column(name, justify="right")
        for line in lines(row):
            table.add_row(*line)
        made.append(table)
    return made


def markdown(report: Mapping[str, Any]) -> str:
    """The tables, and where they were measured."""
    rows = report["rows"]
    note = f"{rows[0]['sentences']} sentences, one core. {where(dict(report))}"
    return "\n\n".join([*map(shown, tables(report)), note])


def main(
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help=SOURCES)],
    package: Packages = None,
    precision: Precision = "int8",
    sentences: Annotated[int, typer.Option(min=1, help="of all sets and directions together")] = 256,
    seed: Annotated[int, typer.Option(help="same seed, same sentences")] = 1,
    output: Output = Path("reports"),
) -> None:
    """Writes operators.json and prints a table for each package."""
    console, rows = Console(), []
    packages = opened(package, precision)
    for each, sample in zip(packages, sampled(packages, sets, sentences, seed), strict=True):
        sample.sort(key=lambda sentence: -len(sentence.source_ids))
        cases = {case.name: profiled(each, precision, case, sample) for case in CASES}
        rows.append({"model": each.manifest.name, "precision": precision, "sentences": len(sample), "cases": cases})
    output.mkdir(parents=True, exist_ok=True)
    report = describe("onnxruntime", "numpy") | {"seed": seed, "rows": rows}
    (output / "operators.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for table in tables(report):
        console.print(table)


if __name__ == "__main__":
    typer.run(main)
