"""How fast our engine and fxtranslate translate with the same students on one core, in turn, in one run.

``python -m loadtests.students_speed newstest2014.en-fr.tsv`` prints sentences a second, from text to text, and the
ratio: one sentence after the other, and all at once, which the other engine's Python interface cannot take.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from export.package import Package
from loadtests.engines import on_one_core
from loadtests.machine import ROOT, describe
from loadtests.peers import pinned
from loadtests.students import NotThereError, fetched, packaged, provenance, reference
from service.engine import Engine, Job
from service.text.tokens import Tokenizer

ROUNDS = 5
Ways = dict[str, Callable[[Sequence[str]], object]]


def ways(engine: Engine, package: Package) -> Ways:
    tokenizer, eos = Tokenizer(package.tokenizer_path, package.target_tokenizer_path), package.manifest.special.eos

    def batched(texts: Sequence[str]) -> list[str]:
        sources = tokenizer.encode(list(texts))
        futures = engine.submit_all([Job([*ids, eos]) for ids in sources])
        return [tokenizer.decode(future.result()[0].token_ids).text for future in futures]

    return {"single": lambda texts: [batched([text]) for text in texts], "batched": batched}


def measure(directory: Path, package: Package, texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Medians of sentences a second over ``rounds`` in which each way has its turn."""
    engine = reference(directory)

    def theirs(given: Sequence[str]) -> object:
        with pinned(1):
            return [engine.translate(text) for text in given]

    rates: dict[str, list[float]] = {}
    with on_one_core(package, precision="int8") as own:
        every = {"theirs": theirs} | ways(own, package)
        for work in every.values():
            work(texts[:20])
        for _ in range(rounds):
            for name, work in every.items():
                started = time.perf_counter()
                work(texts)
                rates.setdefault(name, []).append(len(texts) / (time.perf_counter() - started))
    found = {f"{name}_per_s": round(median(each), 2) for name, each in rates.items()}
    for name in ("single", "batched"):
        ratios = [mine / other for mine, other in zip(rates[name], rates["theirs"], strict=True)]
        found[f"{name}_ratio"] = round(median(ratios), 2)
    return {"sentences": len(texts), "rounds": rounds, "backend": engine.backend(), **found}


def markdown(report: dict[str, Any]) -> str:
    """The part of docs/models.md."""
    found = report["result"]
    lines = ["| | sentences/s | ratio |", "|---|---|---|", f"| fxtranslate | {found['theirs_per_s']} | 1 |"]
    lines += [
        f"| Attentive, {label} | {found[f'{name}_per_s']} | {found[f'{name}_ratio']} |"
        for name, label in (("single", "one after the other"), ("batched", "all at once"))
    ]
    about = f"{found['sentences']} sentences of {report['set']}, medians of {found['rounds']} rounds"
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
    found = measure(directory, packaged(directory, "en-pt", models / "en-pt"), texts, rounds)
    report = describe("fxtranslate", "onnxruntime", "sentencepiece") | {"set": sentences.name, "result": found}
    output.mkdir(parents=True, exist_ok=True)
    (output / "students_speed.json").write_text(json.dumps(report, indent=2) + "\n")
    shown = Table("", "sentences/s", "ratio")
    shown.add_row("fxtranslate", f"{found['theirs_per_s']}", "1")
    for name in ("single", "batched"):
        shown.add_row(f"attentive, {name}", f"{found[f'{name}_per_s']}", f"{found[f'{name}_ratio']}")
    Console().print(shown)


if __name__ == "__main__":
    typer.run(main)
