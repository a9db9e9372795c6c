import json
from pathlib import Path

import matplotlib as mpl
import pytest
import typer
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from typer.testing import CliRunner

from export.package import Package
from loadtests.arrivals import SHORT
from loadtests.engines import Sentence
from loadtests.timeline import LONG_COLORS, SHORT_COLORS, Plan, Stay, Trace, active, figure, main, record, stays
from service.engine import Event
from tests.packages import sentences

app = typer.Typer()
app.command()(main)


@pytest.fixture(autouse=True)
def headless() -> None:
    mpl.use("agg")


def join(task: int, at: float, slot: int, rows: int = 1) -> Event:
    return Event("join", 0, at, at, rows, slot, task, 5)


def leave(task: int, at: float, slot: int, rows: int = 1) -> Event:
    return Event("leave", 0, at, at, rows, slot, task, 7)


THREE = [join(0, 0.0, 0), join(1, 1.0, 1), join(2, 2.0, 2), leave(0, 3.0, 0), leave(1, 4.0, 1), leave(2, 5.0, 0)]
"""Task 2 is moved into the slot of task 0."""


def test_the_last_row_takes_the_place_of_the_one_that_leaves() -> None:
    assert stays(THREE) == [
        Stay(0, 0, 0.0, 3.0, None),
        Stay(2, 2, 2.0, 3.0, 0),
        Stay(1, 1, 1.0, 4.0, None),
        Stay(2, 0, 3.0, 5.0, None),
    ]


def test_all_rows_of_a_beam_leave_and_are_replaced() -> None:
    found = stays([join(0, 0.0, 0, 2), join(1, 1.0, 2), leave(0, 2.0, 0, 2), leave(1, 3.0, 0)])
    assert [each for each in found if each.task == 1] == [
        Stay(1, 2, 1.0, 2.0, 1),
        Stay(1, 1, 2.0, 2.0, 0),
        Stay(1, 0, 2.0, 3.0, None),
    ]
    assert [each.slot for each in found if each.task == 0] == [1, 0]


def test_active_rows_are_counted_where_they_change() -> None:
    assert active(THREE) == [(0.0, 0), (0.0, 1), (1.0, 2), (2.0, 3), (3.0, 2), (4.0, 1), (5.0, 0)]


def test_bars_are_where_the_stays_are_and_show_which_sentences_are_short() -> None:
    trace = Trace([Event("encode", 0, 0.0, 0.5, 3), *THREE], [0.0, 0.1, 0.2], [SHORT - 1, SHORT, 30])
    encoder, rows, below = figure(trace, 4, "title").axes
    shade, *drawn = [patch for patch in rows.patches if isinstance(patch, Rectangle)]
    assert (shade.get_x(), shade.get_width()) == (0.0, 0.5)
    bars = [(bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2)) for bar in drawn]
    assert bars == [(stay.start, stay.end - stay.start, stay.slot) for stay in stays(trace.events)]
    colors = [to_hex(bar.get_facecolor()) for bar in drawn]
    assert colors[0] in SHORT_COLORS
    assert set(colors[1:]) <= set(LONG_COLORS)
    assert len(encoder.lines) == 3
    assert below.get_xlabel() == "milliseconds"


@pytest.fixture(scope="module")
def trace(transformer_package: Package) -> Trace:
    special, tag = transformer_package.manifest.special, transformer_package.manifest.tags["fr"]
    found = [Sentence("w " * n, "en", "fr", [tag, *range(40, 40 + n), special.eos]) for n in range(1, 20)]
    return record(transformer_package, "int8", 4, found, Plan(24, 0.9, 1))[0]


def test_the_trace_of_an_engine_agrees_with_the_moves_that_are_drawn(trace: Trace) -> None:
    """Joins and leaves name their slots and steps their rows: both must be what the moves lead to."""
    ends = {stay.task: stay for stay in stays(trace.events) if stay.moved is None}
    assert {event.task: event.slot for event in trace.of("leave")} == {task: stay.slot for task, stay in ends.items()}
    assert sorted(ends) == list(range(24))
    rows = 0
    for event in trace.events:
        if event.kind == "step":
            assert event.rows == rows
        elif event.kind == "join":
            assert event.slot == rows
        rows += {"join": 1, "leave": -1}.get(event.kind, 0)
    assert rows == 0


def test_nobody_joins_before_it_has_arrived(trace: Trace) -> None:
    assert trace.arrived[0] == 0
    for event in trace.of("join"):
        assert event.start >= trace.arrived[event.task]


def test_the_command_writes_the_picture_and_its_figures(transformer_package: Package, tmp_path: Path) -> None:
    path = tmp_path / "set.en-fr.tsv"
    path.write_text("".join(f"{text}\t{text}\n" for text in sentences(30)), encoding="utf-8")
    output = tmp_path / "new" / "picture.png"
    options = ["--package", str(transformer_package.path), "--slots", "8", "--sentences", "20", "--output", str(output)]
    result = CliRunner().invoke(app, [str(path), *options])
    assert result.exit_code == 0, result.output
    assert output.read_bytes().startswith(b"\x89PNG")
    figures = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert len(figures["sentences"]) == sum(group["sentences"] for group in figures["encoded"]) == 20
    for each in figures["sentences"]:
        assert 0 <= each["arrived"] <= each["joined"] < each["left"]


def test_a_set_that_is_not_there_is_refused(transformer_package: Package, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "no.en-fr.tsv"), "--package", str(transformer_package.path)])
    assert result.exit_code == 2
