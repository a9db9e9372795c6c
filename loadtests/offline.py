"""``make bench``: the engine beside CTranslate2 and PyTorch, with the same weights, in one run.

``python -m loadtests.offline [--run RUN] [--shape opus-mt] [--rounds 5] [--sentences 384] SET.en-fr.tsv``

Both options may be repeated. A shape is a model with random weights (:mod:`loadtests.shapes`).

CTranslate2 and PyTorch can use the cores, and CTranslate2 its kernels, in several ways. A pilot measures each way in
each case, with fewer sentences, and the rounds measure the fastest; the report has what the pilot found. Every round
measures every system in every case, in turn. Tokens per second are medians over the rounds; a ratio is taken within a
round, so that what slows the machine slows both, and the median of these is reported beside the smallest and the
largest. A ratio is how many times the tokens per second of the peer: over 1 is faster. PyTorch is the floor of both
precisions and runs in fp32; ``--pytorch 0`` checks it, but does not time it. CTranslate2 cannot run the recurrent
model. The limit (:mod:`loadtests.limit`) is measured before the rounds.
"""

import json
import tempfile
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
from loadtests import limit, shapes
from loadtests.engine_report import Case, Key, Limits, Measured, Sample, limit_report, rows, tables
from loadtests.machine import describe, processor_flags
from loadtests.peers import BATCH, Search, System, pinned
from loadtests.peers.attentive import Attentive
from loadtests.peers.child import ChildError
from loadtests.peers.convert import convert, pieces
from loadtests.peers.ctranslate2 import environments, in_child
from loadtests.peers.pytorch import PyTorch
from loadtests.sets import read_sets
from models.checkpoint import Run
from models.tokenizer import Tokenizer
from models.transformer import Transformer
from models.translator import Translator

Sources = list[list[int]]
IDENTICAL = 0.995
"""Least share of fp32 translations that each peer must have in common with the engine."""
PILOT = 4 * BATCH
"""Sentences with which a system's setups are compared: two batches for each of two cores."""
BUSY = 0.5
"""Load average from which on the machine has something else to do."""
CASES = {
    Case("offline_sorted"): 2,
    Case("offline_sorted", attention=True): 2,
    Case("offline_sorted", beam_size=4): 3,
    Case("offline_unsorted"): 1,
    Case("single_stream"): 1,
}
"""What is measured, and which part of the sentences in each round: one in so many.

Unsorted ones need the most, or the end of the set, where a batch cannot be refilled any more, weighs too much.
"""


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
        texts = read_texts(path, run.config.data)
        model, package = build(run, directory, "bench", texts)
        tokenizer = Tokenizer(package.tokenizer_path)
        if isinstance(model, Transformer):
            convert(model, tokenizer, converted)
        yield Weights(model, tokenizer, package, converted if converted.exists() else None)


@contextmanager
def systems(weights: Weights, precisions: Sequence[Precision], cores: Sequence[int]) -> Iterator[list[System]]:
    """The engine, and each peer once for each of its setups; closed afterwards.

    Raises ``ValueError`` where there are fewer cores.
    """
    built: list[System] = []
    with ExitStack() as stack:
        for count in cores:
            with pinned(count):
                for system in on(count, weights, precisions):
                    stack.callback(system.close)
                    built.append(system)
        yield built


def on(count: int, weights: Weights, precisions: Sequence[Precision]) -> Iterator[System]:
    """Systems that compare stand next to each other."""
    vocabulary = pieces(weights.tokenizer, weights.model.config.vocab_size)
    for precision in precisions:
        yield Attentive(weights.package, precision, count)
        if weights.converted is not None:
            for inter, intra in sorted({(count, 1), (1, count)}):
                for environment in environments(processor_flags()):
                    yield in_child(weights.converted, vocabulary, precision, inter, intra, environment)
    for threads in sorted({1, count}):
        yield PyTorch(weights.model, count, threads)


def check(weights: Weights, sources: Sources, max_length: int) -> dict[str, float]:
    """Share of greedy fp32 translations that each peer, in its worst setup, has in common with the engine."""
    search = Search(max_length=max_length)
    with systems(weights, ["fp32"], [1]) as built, pinned(1):
        ours, *peers = [[found.token_ids for found in system.translate(sources, search)] for system in built]
        names = [system.name for system in built[1:]]
    shares: dict[str, float] = {}
    for name, peer in zip(names, peers, strict=True):
        share = float(np.mean([a == b for a, b in zip(ours, peer, strict=True)]))
        shares[name] = min(share, shares.get(name, 1.0))
    return shares


def measure(system: System, case: Case, sources: Sources, max_length: int) -> Sample:
    """Translate all at once, or one at a time."""
    search = Search(case.beam_size, case.attention, max_length)
    with pinned(system.cores):
        seconds, tokens = system.timed([[source] for source in sources] if case.alone else [sources], search)
    return Sample(len(sources), sum(map(len, sources)), tokens, sum(seconds), seconds if case.alone else [])


def spread(sources: Sources, count: int) -> Sources:
    """At most ``count`` of them, evenly spaced, in their order."""
    count = min(count, len(sources))
    return [sources[i * len(sources) // count] for i in range(count)]


def batches(sources: Sources, count: int) -> Sources:
    """About ``count`` of them, whole batches, evenly spaced, in their order: at least one, the last may be shorter."""
    found = [sources[start : start + BATCH] for start in range(0, len(sources), BATCH)]
    wanted = max(1, min(count // BATCH, len(found)))
    return list(chain.from_iterable(found[(2 * i + 1) * len(found) // (2 * wanted)] for i in range(wanted)))


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    cases: Sequence[Case]
    cores: Sequence[int]
    precisions: Sequence[Precision]
    pytorch: int
    """Sentences for PyTorch; half as many with a beam. It is not timed where there are none."""
    single: int
    """Sentences one at a time, the same for every system, so that their latencies compare."""
    max_length: int

    def part(self, sources: Sources, case: Case, system: System, most: int) -> Sources:
        """What ``system`` translates in one round, at most ``most`` sentences; longest first where sorted.

        It is made of whole batches of the set in that order, so that the batches of who gets fewer are like the others.
        """
        if case.alone:
            return spread(sources, min(self.single, most))
        count = len(sources) // CASES[case]
        if system.name == PyTorch.name:
            count = min(count, self.pytorch if case.beam_size == 1 else self.pytorch // 2)
        ordered = sorted(sources, key=len, reverse=True) if case.scenario == "offline_sorted" else sources
        return batches(ordered, min(count, most))


def bench(weights: Weights, sources: Sources, plan: Plan, console: Console) -> dict[Key, Measured]:
    """Every second round runs backwards, so that a machine that becomes slower treats all alike."""
    samples: dict[Key, Measured] = {}
    columns = *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with systems(weights, plan.precisions, plan.cores) as built, Progress(*columns, console=console) as progress:
        timed = [system for system in built if plan.pytorch or system.name != PyTorch.name]
        rivals: dict[Key, list[System]] = {}
        for case in plan.cases:
            for system in timed:
                rivals.setdefault(Key(case, system.precision, system.cores, system.name), []).append(system)
        for system in progress.track(timed, description="warming up"):
            measure(system, plan.cases[0], plan.part(sources, plan.cases[0], system, BATCH), plan.max_length)
        chosen: dict[Key, System] = {}
        for key, setups in progress.track(rivals.items(), description="pilot"):
            chosen[key], tried = fastest(setups, key.case, sources, plan)
            samples[key] = Measured(chosen[key].setup, tried)
        for number in progress.track(range(plan.rounds), description="rounds"):
            order = list(chosen.items())
            for key, system in order[::-1] if number % 2 else order:
                part = plan.part(sources, key.case, system, len(sources))
                samples[key].rounds.append(measure(system, key.case, part, plan.max_length))
    return samples


def fastest(setups: Sequence[System], case: Case, sources: Sources, plan: Plan) -> tuple[System, dict[str, float]]:
    """One of a system's setups, and the tokens per second of each where there are several; warms them up."""
    most = PILOT if len(setups) > 1 else BATCH
    rates = [measure(system, case, plan.part(sources, case, system, most), plan.max_length).rate for system in setups]
    tried = {system.setup: rate for system, rate in zip(setups, rates, strict=True)} if len(setups) > 1 else {}
    return setups[int(np.argmax(rates))], tried


def limits_of(package: Package, sources: Sources, plan: Plan) -> Limits:
    """Of every precision in every case, for as many rows at once as the engine has."""
    length = int(np.median([len(source) for source in sources]))
    cases = dict.fromkeys(replace(case, attention=False) for case in plan.cases)
    full = {case: limit.FULL._replace(decoder=BATCH * case.beam_size) for case in cases}
    wanted = {case: limit.Rows(length, 1, case.beam_size) if case.alone else full[case] for case in cases}
    found: dict[tuple[str, Case], limit.Limit] = {}
    for precision in plan.precisions:
        rates = limit.measure(package, precision, list(wanted.values()))
        found |= {(precision, case): limit.limit(rates, rows) for case, rows in wanted.items()}
    return found


def read(weights: Weights, path: Path, count: int) -> Sources:
    """At most ``count`` sources of the set's first direction; those that the model is too short for are left out.

    Raises ``ValueError`` for a file of another form.
    """
    texts = read_sets(path)[0]
    sources = (weights.tokenizer.source(sentence, texts.target) for sentence in texts.sentences)
    return spread([ids for ids in sources if len(ids) <= weights.package.manifest.max_length], count)


def compare(run: Run, path: Path, sentences: int, plan: Plan, console: Console) -> dict[str, Any]:
    """``rows`` and ``limit`` of one run, checked first. Raises :class:`DifferentError` before anything is timed."""
    with prepared(run, path) as weights:
        sources = read(weights, path, sentences)
        plan = replace(plan, max_length=min(plan.max_length, weights.package.manifest.max_length - 1))
        identical = check(weights, sources, plan.max_length)
        shares = ", ".join(f"{name} {share:.2%}" for name, share in identical.items())
        name = run.config.name
        console.print(f"{name}: {len(sources)} sentences, identical in fp32: {shares}", soft_wrap=True)
        if min(identical.values()) < IDENTICAL:
            raise DifferentError(f"{name}: under {IDENTICAL:.1%} of the translations are identical; nothing is timed")
        limits = limits_of(weights.package, sources, plan)
        samples = bench(weights, sources, plan, console)
        ours = Attentive.name
        return {"rows": rows(name, samples, limits, ours), "limit": {name: limit_report(samples, limits, ours)}}


def main(
    path: Annotated[Path, typer.Argument(metavar="SET", help="file named like newstest2013.en-fr.tsv")],
    run: Annotated[
        list[Path] | None, typer.Option(help="directory of a finished training run; several in turn")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="opus-mt, student or a TOML file: random weights; several in turn")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    sentences: Annotated[int, typer.Option(min=1, help="of the set, evenly spaced")] = 384,
    pytorch: Annotated[int, typer.Option(min=0, help="sentences for PyTorch, in whole batches; 0: none")] = 64,
    single: Annotated[int, typer.Option(min=1, help="sentences one at a time")] = 32,
    cores: Annotated[list[int] | None, typer.Option(min=1, help="1 and 2 unless given")] = None,
    precision: Annotated[Literal["fp32", "int8", "all"], typer.Option()] = "all",
    scenario: Annotated[list[str] | None, typer.Option(help="all unless given")] = None,
    output: Annotated[Path, typer.Option(help="directory of the report")] = Path("reports"),
    name: Annotated[str | None, typer.Option(help="of the report; engine, or shapes where there is no run")] = None,
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
    if not run and not shape:
        raise typer.BadParameter("nothing to measure: no --run, no --shape")
    plan = Plan(rounds, cases, cores or [1, 2], precisions, pytorch, single, Search().max_length)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            runs = [Run.open(directory) for directory in run or ()]
            runs += [shapes.write_run(Path(scratch) / str(i), each, path) for i, each in enumerate(shape or ())]
            found = [compare(each, path, sentences, plan, console) for each in runs]
    except (DifferentError, ChildError) as error:
        console.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error
    report = {name: where[name] for name in ("machine", "commit", "versions")}
    report["limit"] = {name: each for one in found for name, each in one["limit"].items()}
    report["rows"] = list(chain(*(one["rows"] for one in found)))
    output.mkdir(parents=True, exist_ok=True)
    written = output / f"{name or ('engine' if run else 'shapes')}.json"
    written.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(*(table for one in found for table in tables(one["rows"], Attentive.name)))
    console.print(f"written to {written}", markup=False)


if __name__ == "__main__":
    typer.run(main)
