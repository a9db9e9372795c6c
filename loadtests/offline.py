"""``make bench``: the engine beside CTranslate2 and PyTorch, with the same weights, in one run.

``python -m loadtests.offline --run RUN [--run RUN] [--rounds 5] [--sentences 640] SET.en-fr.tsv``

Every round measures every system in every scenario, in turn; figures are medians over the rounds. A ratio is how many
times the tokens per second of the peer: over 1 is faster. PyTorch is the floor of both precisions and runs in fp32.
CTranslate2 cannot run the recurrent model.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from export.__main__ import read_texts
from export.build import build
from export.package import Package, Precision
from loadtests.engine_report import Case, Key, Sample, rows, tables
from loadtests.evaluate import read_sets
from loadtests.machine import describe
from loadtests.peers import Search, System, pinned
from loadtests.peers.attentive import Attentive
from loadtests.peers.ctranslate2 import CTranslate2, convert
from loadtests.peers.pytorch import PyTorch
from models.checkpoint import Run
from models.tokenizer import Tokenizer
from models.transformer import Transformer
from models.translator import Translator

Sources = list[list[int]]
Samples = dict[Key, dict[str, list[Sample]]]
IDENTICAL = 0.995
"""Least share of fp32 translations that each peer must have in common with the engine."""
WARM_UP = 32
"""Sentences of every system in every case before anything is timed."""
BUSY = 0.5
"""Load average from which on the machine has something else to do."""
CASES = (
    Case("offline_sorted"),
    Case("offline_sorted", attention=True),
    Case("offline_sorted", beam_size=4),
    Case("offline_unsorted"),
    Case("single_stream"),
)


class DifferentError(Exception):
    """The systems do not do the same work."""


@dataclass(frozen=True)
class Weights:
    """One trained model in the form that each system reads."""

    model: Translator
    tokenizer: Tokenizer
    package: Package
    converted: Path | None
    """CTranslate2's directory; None for an architecture that it does not have."""


@contextmanager
def prepared(run: Run, path: Path) -> Iterator[Weights]:
    """Export and convert into a directory that is removed afterwards; int8 is calibrated on the set at ``path``."""
    with tempfile.TemporaryDirectory() as scratch:
        directory, converted = Path(scratch) / "package", Path(scratch) / "ctranslate2"
        directory.mkdir()
        texts = read_texts(path, (run.config.data.source, run.config.data.target))
        model, package = build(run, directory, "bench", texts)
        tokenizer = Tokenizer(package.tokenizer_path)
        if isinstance(model, Transformer):
            convert(model, tokenizer, converted)
        yield Weights(model, tokenizer, package, converted if converted.exists() else None)


@contextmanager
def systems(weights: Weights, precisions: Sequence[Precision], cores: Sequence[int]) -> Iterator[list[System]]:
    """The engine, and each peer once for each way to use the cores; closed afterwards.

    Raises ``ValueError`` where there are fewer cores.
    """
    built: list[System] = []
    with ExitStack() as stack:
        for count in cores:
            with pinned(count):
                for precision in precisions:
                    built.append(Attentive(weights.package, precision, count))
                    if weights.converted is not None:
                        built += [
                            CTranslate2(weights.converted, weights.tokenizer, precision, inter=inter, intra=intra)
                            for inter, intra in sorted({(count, 1), (1, count)})
                        ]
                built += [PyTorch(weights.model, count, threads) for threads in sorted({1, count})]
        for system in built:
            stack.callback(system.close)
        yield built


def check(weights: Weights, sources: Sources, max_length: int) -> dict[str, float]:
    """Share of greedy fp32 translations that each peer has in common with the engine, on one core."""
    search = Search(max_length=max_length)
    with systems(weights, ["fp32"], [1]) as built, pinned(1):
        ours, *peers = [[found.token_ids for found in system.translate(sources, search)] for system in built]
        names = [system.name for system in built[1:]]
    return {
        name: float(np.mean([a == b for a, b in zip(ours, peer, strict=True)]))
        for name, peer in zip(names, peers, strict=True)
    }


def measure(system: System, case: Case, sources: Sources, max_length: int) -> Sample:
    """Translate all at once, longest first where sorted, or one at a time."""
    search = Search(case.beam_size, case.attention, max_length)
    alone = case.scenario == "single_stream"
    ordered = sorted(sources, key=len, reverse=True) if case.scenario == "offline_sorted" else sources
    tokens, durations = 0, []
    with pinned(system.cores):
        for batch in [[source] for source in ordered] if alone else [ordered]:
            started = time.perf_counter()
            found = system.translate(batch, search)
            durations.append(time.perf_counter() - started)
            tokens += sum(len(translation.token_ids) for translation in found)
    return Sample(len(sources), tokens, sum(durations), durations if alone else [])


def spread(sources: Sources, count: int) -> Sources:
    """At most ``count`` of them, evenly spaced, in their order."""
    count = min(count, len(sources))
    return [sources[i * len(sources) // count] for i in range(count)]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    cases: Sequence[Case]
    cores: Sequence[int]
    precisions: Sequence[Precision]
    pytorch: int
    """Sentences for PyTorch."""
    single: int
    """Sentences one at a time, the same for every system, so that their latencies compare."""
    max_length: int

    def part(self, sources: Sources, case: Case, system: System) -> Sources:
        if case.scenario == "single_stream":
            return spread(sources, self.single)
        return spread(sources, self.pytorch) if system.name == PyTorch.name else sources


def bench(weights: Weights, sources: Sources, plan: Plan, console: Console) -> Samples:
    """Every second round runs backwards, so that a machine that becomes slower treats all alike."""
    samples: Samples = {}
    columns = *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with systems(weights, plan.precisions, plan.cores) as built, Progress(*columns, console=console) as progress:
        runs = [(case, system) for case in plan.cases for system in built]
        task = progress.add_task("warming up", total=len(runs) * (plan.rounds + 1))
        for case, system in runs:
            measure(system, case, spread(sources, WARM_UP), plan.max_length)
            progress.advance(task)
        for number in range(1, plan.rounds + 1):
            progress.update(task, description=f"round {number} of {plan.rounds}")
            for case, system in runs if number % 2 else runs[::-1]:
                key = Key(case, system.precision, system.cores, system.name)
                sample = measure(system, case, plan.part(sources, case, system), plan.max_length)
                samples.setdefault(key, {}).setdefault(system.setup, []).append(sample)
                progress.advance(task)
    return samples


def read(weights: Weights, path: Path, count: int) -> Sources:
    """At most ``count`` sources of the set's first direction; those that the model is too short for are left out.

    Raises ``ValueError`` for a file of another form.
    """
    texts = read_sets(path)[0]
    sources = (weights.tokenizer.source(sentence, texts.target) for sentence in texts.sentences)
    return spread([ids for ids in sources if len(ids) <= weights.package.manifest.max_length], count)


def compare(run: Path, path: Path, sentences: int, plan: Plan, console: Console) -> list[dict[str, Any]]:
    """Check, then measure, the weights of one run. Raises :class:`DifferentError` before anything is timed."""
    opened = Run.open(run)
    with prepared(opened, path) as weights:
        sources = read(weights, path, sentences)
        plan = replace(plan, max_length=min(plan.max_length, weights.package.manifest.max_length - 1))
        identical = check(weights, sources, plan.max_length)
        shares = ", ".join(f"{name} {share:.2%}" for name, share in identical.items())
        name = opened.config.name
        console.print(f"{name}: {len(sources)} sentences, identical in fp32: {shares}", soft_wrap=True)
        if min(identical.values()) < IDENTICAL:
            raise DifferentError(f"{name}: under {IDENTICAL:.1%} of the translations are identical; nothing is timed")
        return rows(name, bench(weights, sources, plan, console))


def main(
    path: Annotated[Path, typer.Argument(metavar="SET", help="file named like newstest2013.en-fr.tsv")],
    run: Annotated[list[Path], typer.Option(help="directory of a finished training run; several in turn")],
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    sentences: Annotated[int, typer.Option(min=1, help="of the set, evenly spaced")] = 640,
    pytorch: Annotated[int, typer.Option(min=1, help="sentences for PyTorch, which is slow")] = 128,
    single: Annotated[int, typer.Option(min=1, help="sentences one at a time")] = 128,
    cores: Annotated[list[int] | None, typer.Option(min=1, help="1 and 2 unless given")] = None,
    precision: Annotated[Literal["fp32", "int8", "all"], typer.Option()] = "all",
    scenario: Annotated[list[str] | None, typer.Option(help="all unless given")] = None,
    output: Annotated[Path, typer.Option(help="directory of engine.json")] = Path("reports"),
) -> None:
    """Exits with 1 where the systems do not translate alike."""
    console = Console()
    where = describe("onnxruntime", "ctranslate2", "torch", "numpy", "sentencepiece")
    if (load := where["machine"]["load_1_min"]) > BUSY:
        console.print(f"the machine is busy (load {load}): trust no figure", style="bold")
    if unknown := set(scenario or ()) - {case.scenario for case in CASES}:
        raise typer.BadParameter(f"no such scenario: {', '.join(sorted(unknown))}")
    cases = [case for case in CASES if not scenario or case.scenario in scenario]
    precisions: list[Precision] = ["fp32", "int8"] if precision == "all" else [precision]
    plan = Plan(rounds, cases, cores or [1, 2], precisions, pytorch, single, Search().max_length)
    try:
        found = [compare(directory, path, sentences, plan, console) for directory in run]
    except DifferentError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error
    report = {name: where[name] for name in ("machine", "commit", "versions")} | {"rows": list(chain(*found))}
    output.mkdir(parents=True, exist_ok=True)
    (output / "engine.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(*(table for each in found for table in tables(each, Attentive.name)))
    console.print(f"written to {output / 'engine.json'}", markup=False)


if __name__ == "__main__":
    typer.run(main)
