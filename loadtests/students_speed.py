"""How fast our engine and fxtranslate translate with the same students on one core, in turn, in one run.

``python -m loadtests.students_speed newstest2014.en-fr.tsv`` prints sentences a second, from text to text, and the
ratio: one sentence after the other, and all at once, which the other engine's Python interface cannot take. Both
use the model's shortlist, and then neither does; ratios are to the other engine with it, which is where it is fastest.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from export.package import Package
from loadtests.engines import running
from loadtests.machine import ROOT, describe
from loadtests.peers import pinned
from loadtests.students import NotThereError, both, fetched, provenance, reference
from service.engine import Engine, Job
from service.text.tokens import Tokenizer

ROUNDS = 5
SLOTS = 64
"""Rows of ours that decode together; it has as many sentences at hand as it can take."""
WHOLE = " without"
"""Behind the name of what uses no shortlist."""
Ways = dict[str, Callable[[Sequence[str]], object]]


def ways(engine: Engine, package: Package, suffix: str) -> Ways:
    tokenizer, eos = Tokenizer(package.tokenizer_path, package.target_tokenizer_path), package.manifest.special.eos

    def batched(texts: Sequence[str]) -> list[str]:
        sources = tokenizer.encode(list(texts))
        futures = engine.submit_all([Job([*ids, eos]) for ids in sources])
        return [tokenizer.decode(future.result()[0].token_ids).text for future in futures]

    return {f"single{suffix}": lambda texts: [batched([text]) for text in texts], f"batched{suffix}": batched}


def one_by_one(engine: Any, texts: Sequence[str]) -> list[str]:
    return [engine.translate(text) for text in texts]


def measure(directory: Path, packages: tuple[Package, Package], texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Medians of sentences a second over ``rounds`` in which each way has its turn, with the shortlist and without.

    All have been through the texts once before: by then they have the memory they need.
    """
    engines = {"": reference(directory), WHOLE: reference(directory, whole=True)}
    every: Ways = {f"theirs{kind}": partial(one_by_one, engine) for kind, engine in engines.items()}
    rates: dict[str, list[float]] = {}
    with pinned(1), ExitStack() as stack:
        for kind, package in zip(engines, packages, strict=True):
            own = stack.enter_context(running(package, precision="int8", threads=1, slots=SLOTS))
            every |= ways(own, package, kind)
        for work in every.values():
            work(texts)
        for name, work in list(every.items()) * rounds:
            started = time.perf_counter()
            work(texts)
            rates.setdefault(name, []).append(len(texts) / (time.perf_counter() - started))
    return {
        "sentences": len(texts),
        "rounds": rounds,
        "slots": SLOTS,
        "backend": engines[""].backend(),
        "per_s": {name: round(median(each), 2) for name, each in rates.items()},
        "ratio": {
            name: round(median(mine / other for mine, other in zip(each, rates["theirs"], strict=True)), 2)
            for name, each in rates.items()
        },
    }


def rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Label, sentences a second, and how many times the other engine's with its shortlist."""
    labels = {"theirs": "fxtranslate", "single": "Attentive, one after the other", "batched": "Attentive, all at once"}
    return [
        (f"{label}{suffix}", f"{found['per_s'][f'{name}{kind}']}", f"{found['ratio'][f'{name}{kind}']}")
        for kind, suffix in (("", ""), (WHOLE, ", without the shortlist"))
        for name, label in labels.items()
    ]


def markdown(report: dict[str, Any]) -> str:
    """The part of docs/models.md."""
    found = report["result"]
    lines = ["| | sentences/s | ratio |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows(found))]
    size = f"{found['sentences']} sentences of {report['set']}, {found['slots']} slots"
    about = f"{size}, medians of {found['rounds']} rounds"
    return "\n".join([*lines, "", f"{about}; fxtranslate {report['versions']['fxtranslate']}, {provenance(report)}."])


def main(
    sentences: Annotated[Path, typer.Argument(help="text whose first column is English, as newstest2014.en-fr.tsv")],
    count: Annotated[int, typer.Option(min=20, help="how many of its sentences")] = 200,
    rounds: Annotated[int, typer.Option(min=1)] = ROUNDS,
    models: Annotated[Path, typer.Option(help="where models and packages are kept")] = ROOT / "reports" / "students",
    output: Annotated[Path, typer.Option(help="directory of the report")] = ROOT / "reports",
) -> None:
    """Both engines on one core, in turn."""
    try:
        directory = fetched(models)["en-pt"]
    except NotThereError as error:
        raise typer.BadParameter(str(error)) from error
    texts = [line.split("\t")[0] for line in sentences.read_text(encoding="utf-8").splitlines()[:count]]
    found = measure(directory, both(directory, "en-pt", models), texts, rounds)
    report = describe("fxtranslate", "onnxruntime", "sentencepiece") | {"set": sentences.name, "result": found}
    output.mkdir(parents=True, exist_ok=True)
    (output / "students_speed.json").write_text(json.dumps(report, indent=2) + "\n")
    shown = Table("", "sentences/s", "ratio")
    for row in rows(found):
        shown.add_row(*row)
    Console().print(shown)


if __name__ == "__main__":
    typer.run(main)
