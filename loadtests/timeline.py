"""A picture of rows that join and leave: ``python -m loadtests.timeline SET.en-fr.tsv --output timeline.png``.

Sentences arrive at random (Poisson) at one decode loop of a real engine, and what the loop told its trace is drawn:
every sentence as a bar in the slot it has, from when it joins until it is answered. Rows in use are always the first
slots, so whoever leaves is replaced by the last row in use; the line between two bars is such a move.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import matplotlib as mpl
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from rich.console import Console

from export.package import Package
from loadtests.arrivals import SHORT, Arrival, continuous, poisson
from loadtests.engines import Precision, Sentence, on_one_core, opened
from loadtests.machine import ROOT, describe
from loadtests.samples import read_files
from loadtests.sets import SOURCES
from service.engine import Event, Hypothesis, Job

SHIPPED = ROOT / "models" / "trained" / "transformer-en-fr-de"
PILOT = 128
"""Sentences that are there at once to find out what the engine can do."""
SHORT_COLORS, LONG_COLORS = ("#e4572e", "#f0805c"), ("#5f8cc4", "#8fb0d9", "#b9cee8")
"""Taken in turn, so that neighbours differ."""
ENCODER_COLOR, INK = "#8a8f98", "#30343b"
SHADE = "#e9ebee"
"""Behind the slots, where their rows wait for the encoder."""
SIZE = 10.4, 6.4
"""Inches; at 150 dots each, about twice the width that a page gives a picture."""


@dataclass(frozen=True)
class Plan:
    """What arrives."""

    sentences: int
    share: float
    """Of the sentences a second that the engine can do."""
    seed: int


class Stay(NamedTuple):
    """A row in one slot, until it leaves or is moved."""

    task: int
    slot: int
    start: float
    end: float
    moved: int | None
    """The slot that it was moved to."""


@dataclass(frozen=True)
class Trace:
    """What one loop did; times in milliseconds after the first arrival, sentences numbered as they arrived."""

    events: list[Event]
    arrived: list[float]
    words: list[int]

    @property
    def end(self) -> float:
        return max(event.end for event in self.events)

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def color(self, task: int) -> str:
        colors = SHORT_COLORS if self.words[task] < SHORT else LONG_COLORS
        return colors[task % len(colors)]


def stays(events: Sequence[Event]) -> list[Stay]:
    """Who was where, in the order in which they ended. Only joins and leaves are told; the moves follow from them."""
    found: list[Stay] = []
    rows: list[tuple[int, float]] = []
    for event in events:
        if event.kind == "join":
            rows += [(event.task, event.start)] * event.rows
        elif event.kind == "leave":
            left = [slot for slot, (task, _) in enumerate(rows) if task == event.task]
            for slot in reversed(left):
                found.append(Stay(event.task, slot, rows[slot][1], event.end, None))
                task, start = rows.pop()
                if slot != len(rows):
                    found.append(Stay(task, len(rows), start, event.end, slot))
                    rows[slot] = task, event.end
    return found


def active(events: Sequence[Event]) -> list[tuple[float, int]]:
    """The number of rows in use from each moment on at which it changes."""
    count, found = 0, [(0.0, 0)]
    for event in events:
        if event.kind in {"join", "leave"}:
            count += event.rows if event.kind == "join" else -event.rows
            found.append((event.end, count))
    return found


def record(
    package: Package, precision: str, slots: int, sentences: Sequence[Sentence], plan: Plan
) -> tuple[Trace, float]:
    """The trace of one loop, and how many sentences a second arrived on average.

    Raises ``RuntimeError`` where a sentence fails.
    """
    events: list[Event] = []
    submitted: list[float] = []
    with on_one_core(package, precision=precision, slots=slots, trace=events.append) as engine:

        def submit(jobs: Sequence[Job]) -> "list[Future[list[Hypothesis]]]":
            submitted.append(time.perf_counter())
            return engine.submit_all(jobs)

        pilot = [Arrival(0.0, sentence) for _, sentence in poisson(sentences, PILOT, 1.0, plan.seed)]
        capacity = [continuous(submit, pilot).rate for _ in ("cold", "warm")]
        rate = plan.share * capacity[-1]
        before = len(submitted)
        events.clear()
        due = poisson(sentences, plan.sentences, rate, plan.seed)
        if errors := continuous(submit, due).errors:
            raise RuntimeError(f"{errors} of {len(due)} sentences failed")
    zero = submitted[before]

    def ms(moment: float) -> float:
        return 1000 * (moment - zero)

    known = [e._replace(start=ms(e.start), end=ms(e.end), task=e.task - before if e.task >= 0 else -1) for e in events]
    words = [arrival.sentence.words for arrival in due]
    return Trace(known, [ms(moment) for moment in submitted[before:]], words), rate


def draw_encoder(axes: Axes, trace: Trace) -> None:
    """When sentences arrive, and when which groups are encoded."""
    for task, moment in enumerate(trace.arrived):
        axes.plot(moment, 1, marker="v", markersize=5, color=trace.color(task), markeredgewidth=0)
    for event in trace.of("encode"):
        width = event.end - event.start
        axes.barh(0, width, 0.7, event.start, color=ENCODER_COLOR, edgecolor="white", linewidth=0.4)
    axes.set_yticks([1, 0], ["arrives", "encoded"])
    axes.set_ylim(-0.55, 1.55)


def draw_slots(axes: Axes, trace: Trace, slots: int) -> None:
    """A bar for each stay, a line for each move, a dot for each answer; shaded while the encoder works."""
    for event in trace.of("encode"):
        axes.axvspan(event.start, event.end, color=SHADE, linewidth=0, zorder=0)
    for stay in stays(trace.events):
        color, duration = trace.color(stay.task), stay.end - stay.start
        axes.barh(stay.slot, duration, 0.68, stay.start, color=color, edgecolor="white", linewidth=0.8, zorder=2)
        if stay.moved is None:
            axes.plot(stay.end, stay.slot, marker="o", markersize=3.4, color=INK, markeredgewidth=0, zorder=4)
        else:
            axes.plot([stay.end] * 2, [stay.slot, stay.moved], color=color, linewidth=0.9, alpha=0.75, zorder=1)
    axes.set_ylim(-0.6, slots - 0.4)
    axes.set_yticks(range(0, slots, max(1, slots // 8)))
    axes.set_ylabel("slot")


def draw_active(axes: Axes, trace: Trace, slots: int) -> None:
    times, counts = zip(*active(trace.events), strict=True)
    axes.step(times, counts, where="post", color=INK, linewidth=1)
    axes.fill_between(times, counts, step="post", color=SHADE, linewidth=0)
    axes.set_ylim(0, slots * 1.08)
    axes.set_yticks([0, slots])
    axes.set_ylabel("active\nrows")
    axes.set_xlabel("milliseconds")


def figure(trace: Trace, slots: int, title: str) -> Figure:
    """Arrivals and the encoder above, the slots, and how many of them are in use below; one time for all."""
    with mpl.rc_context({"font.size": 11, "text.color": INK, "axes.labelcolor": INK}):
        picture = Figure(figsize=SIZE, layout="constrained")
        ratios = {"height_ratios": [1.0, 6.2, 1.3]}
        encoder, rows, below = picture.subplots(3, 1, sharex=True, gridspec_kw=ratios)
        draw_encoder(encoder, trace)
        draw_slots(rows, trace, slots)
        draw_active(below, trace, slots)
        for axes in (encoder, rows, below):
            axes.tick_params(length=0, labelcolor=INK, labelbottom=axes is below)
            for spine in axes.spines.values():
                spine.set_visible(False)
        below.set_xlim(0, trace.end * 1.005)
        encoder.set_title(title, loc="left", fontsize=12, pad=10)
        handles = [
            Patch(color=SHORT_COLORS[0], label=f"sentence of under {SHORT} words"),
            Patch(color=LONG_COLORS[0], label="longer sentence"),
            Line2D([], [], marker="o", markersize=4, linewidth=0, color=INK, label="answered"),
            Patch(color=ENCODER_COLOR, label="group encoded while rows wait"),
        ]
        picture.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return picture


def report(trace: Trace) -> dict[str, Any]:
    """What is in the picture, in milliseconds, without the single steps."""
    sentences = [{"words": words, "arrived": at} for words, at in zip(trace.words, trace.arrived, strict=True)]
    for event in trace.of("join"):
        sentences[event.task] |= {"joined": event.start, "source_tokens": event.tokens}
    for event in trace.of("leave"):
        sentences[event.task] |= {"left": event.end, "target_tokens": event.tokens}
    groups = [{"start": e.start, "end": e.end, "sentences": e.rows, "tokens": e.tokens} for e in trace.of("encode")]
    rounded = [[{k: round(v, 3) for k, v in each.items()} for each in rows] for rows in (sentences, groups)]
    return {"steps": len(trace.of("step")), "encoded": rounded[1], "sentences": rounded[0]}


def main(
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help=SOURCES)],
    package: Annotated[Path, typer.Option(help="directory of a model package")] = SHIPPED,
    precision: Precision = "int8",
    slots: Annotated[int, typer.Option(min=1, max=64)] = 16,
    sentences: Annotated[int, typer.Option(min=1, help="that arrive")] = 64,
    share: Annotated[float, typer.Option(min=0.01, help="of what the engine can do")] = 0.9,
    seed: Annotated[int, typer.Option(help="same seed, same sentences")] = 1,
    output: Annotated[Path, typer.Option(help="PNG or SVG; figures go beside it as JSON")] = Path("timeline.png"),
) -> None:
    """Draw sentences that join and leave one decode loop."""
    mpl.use("agg")
    (found,) = opened([package], precision)
    (chosen,) = read_files([found], sets)
    trace, rate = record(found, precision, slots, chosen, Plan(sentences, share, seed))
    name = f"{found.manifest.name}, {precision}"
    title = f"{name}: {sentences} sentences arrive at random at one core with {slots} slots"
    output.parent.mkdir(parents=True, exist_ok=True)
    figure(trace, slots, title).savefig(output, dpi=150)
    settings: dict[str, Any] = {"model": found.manifest.name, "version": found.manifest.version, "precision": precision}
    settings |= {"slots": slots, "offered_per_s": round(rate, 1), "share": share, "seed": seed}
    where = describe("onnxruntime", "numpy", "sentencepiece", "matplotlib")
    text = json.dumps(where | settings | report(trace), indent=1)
    output.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    Console().print(f"written to {output}", markup=False)


if __name__ == "__main__":
    typer.run(main)
