"""What was measured of quality, as tables and a plot for the pages.

Reports are those of :mod:`loadtests.evaluate` and :mod:`loadtests.robustness`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from loadtests import robustness
from loadtests.tables import grid, shown, where

SUMMARY = ("tatoeba-test", "newstest2014")
"""Sets of the short table."""
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")
MARKERS = {"int8": "o", "fp32": "s"}


class Published(NamedTuple):
    """A figure of others."""

    what: str
    direction: str
    value: str
    source: str


MULTI30K = (
    Published("Transformer-Tiny", "en-de", "41.0", "Wu et al. 2021, arXiv:2105.14462"),
    Published("Transformer-Tiny", "en-fr", "61 to 62", "Wu et al. 2021, arXiv:2105.14462"),
    Published("GRU with additive attention", "de-en", "33.5", "as commonly reported"),
)
"""Lower-cased BLEU of tokens on test2016."""
NEWSTEST = (
    Published(
        "RNNsearch-50, trained longer", "en-fr", "28.45", "Bahdanau et al. 2015, arXiv:1409.0473; 12 million pairs"
    ),
    Published("Transformer base", "en-fr", "38.1", "Vaswani et al. 2017, arXiv:1706.03762; 36 million pairs"),
)
"""BLEU of tokens on newstest2014."""
ALIGNERS = (
    ("fast_align", "16.4", "15.9", "10.5", "Zenkel et al. 2019, arXiv:1901.11359"),
    ("GIZA++", "8.0", "9.8", "5.9", "Zenkel et al. 2019, arXiv:1901.11359"),
)
"""Alignment error rates of aligners that are trained on the text they align: both directions, and symmetrised."""
HANSARDS = frozenset({"en", "fr"})
"""The languages that they aligned."""


class Point(NamedTuple):
    """One way to be served on one set: mean over its directions."""

    set: str
    model: str
    architecture: str
    precision: str
    beam_size: int
    bleu: float
    chrf: float
    sentences_per_s: float
    directions: tuple[str, ...]


def direction(row: dict[str, Any]) -> str:
    return f"{row['source']}-{row['target']}"


def greedy(rows: Iterable[dict[str, Any]], precision: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["beam_size"] == 1 and row["precision"] == precision]


def signatures(report: dict[str, Any]) -> str:
    found = {row[key] for row in report["rows"] for key in ("bleu_signature", "chrf_signature")}
    return "; ".join(f"`{signature}`" for signature in sorted(found))


def summary(report: dict[str, Any]) -> str:
    """BLEU of int8, greedy, a line for each model and set: the README's table."""
    rows = [row for row in greedy(report["rows"], "int8") if row["set"] in SUMMARY]
    ways = list(dict.fromkeys(map(direction, rows)))
    lines: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in rows:
        lines[row["set"], row["model"]][direction(row)] = row["bleu"]
    cells = [
        (model, name, *(f"{found[way]:.1f}" if way in found else "-" for way in ways))
        for (name, model), found in sorted(lines.items())
    ]
    note = f"BLEU, int8, greedy, over HTTP. {where(report)}"
    return f"{grid(('model', 'set', *ways), cells, 2)}\n\n{note}"


def served_table(report: dict[str, Any]) -> str:
    """All that was measured: quality with its loss in int8, and speed."""
    full = {
        (row["model"], row["set"], direction(row), row["beam_size"]): row
        for row in report["rows"]
        if row["precision"] == "fp32"
    }
    columns = ["model", "precision", "beam", "set", "direction", "BLEU", "against fp32", "chrF", "sentences/s"]
    cells = []
    for row in report["rows"]:
        other = full.get((row["model"], row["set"], direction(row), row["beam_size"]))
        loss = f"{row['bleu'] - other['bleu']:+.2f}" if other and other is not row else "-"
        quality = f"{row['bleu']:.2f}", loss, f"{row['chrf']:.2f}"
        speed = f"{row['sentences'] / row['seconds']:.0f}"
        cells.append([row["model"], row["precision"], row["beam_size"], row["set"], direction(row), *quality, speed])
    if not full:
        loss_at = columns.index("against fp32")
        for line in (columns, *cells):
            del line[loss_at]
    return f"{grid(columns, cells, 5)}\n\nOver HTTP. {signatures(report)}. {where(report)}"


def points(report: dict[str, Any]) -> list[Point]:
    """Means over the directions that all models have been measured in, set by set."""
    ways: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    groups: dict[tuple[str, str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in report["rows"]:
        ways[row["set"]][row["model"]].add(direction(row))
        groups[row["set"], row["model"], row["precision"], row["beam_size"]].append(row)
    found = []
    for (name, model, precision, beam_size), rows in groups.items():
        common = set.intersection(*ways[name].values())
        chosen = [row for row in rows if direction(row) in common]
        if not chosen:
            continue
        speed = sum(row["sentences"] for row in chosen) / sum(row["seconds"] for row in chosen)
        architecture = chosen[0].get("architecture", model)
        means = mean(row["bleu"] for row in chosen), mean(row["chrf"] for row in chosen)
        order = tuple(sorted(map(direction, chosen)))
        found.append(Point(name, model, architecture, precision, beam_size, *means, speed, order))
    return found


def speed_table(report: dict[str, Any]) -> str:
    """Quality against speed, and the picture of it."""
    columns = "set", "model", "precision", "beam", "BLEU", "chrF", "sentences/s", "mean of"
    cells = [
        (
            *(point.set, point.model, point.precision, point.beam_size),
            *(f"{point.bleu:.2f}", f"{point.chrf:.2f}", f"{point.sentences_per_s:.0f}", ", ".join(point.directions)),
        )
        for point in sorted(points(report), key=lambda point: (point.set, -point.bleu))
    ]
    picture = "![BLEU over sentences per second](quality.png)"
    return f"{picture}\n\n{grid(columns, cells)}\n\n{load(report)} {where(report)}"


def load(report: dict[str, Any]) -> str:
    """Older reports have the load at the end alone, most of which is the measurement's own."""
    if "load_before" in report:
        return f"Load of the machine when it began: {report['load_before']}."
    return f"Load of the machine when it ended: {report['machine'].get('load_1_min', '-')}."


def draw(report: dict[str, Any], output: Path) -> None:
    """One picture, a panel for each set: BLEU over sentences per second of every model, precision and beam."""
    found = points(report)
    names = list(dict.fromkeys(point.set for point in found))
    colours = dict(zip(dict.fromkeys(point.model for point in found), COLOURS, strict=False))
    figure = Figure(figsize=(4.2 * max(1, len(names)), 3.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
        for point in (point for point in found if point.set == name):
            marker = MARKERS.get(point.precision, "^")
            axes.plot(point.sentences_per_s, point.bleu, marker, color=colours.get(point.model, "black"), markersize=7)
            note = f"{point.precision}, beam {point.beam_size}" if point.beam_size > 1 else point.precision
            place = point.sentences_per_s, point.bleu
            axes.annotate(note, place, textcoords="offset points", xytext=(5, 4), fontsize=7)
        axes.set(title=name, xlabel="sentences per second", ylabel="BLEU, mean of the directions")
        axes.margins(0.25)
        axes.grid(alpha=0.3)
    handles = [figure.axes[0].plot([], [], "o", color=colour, label=model)[0] for model, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, len(handles)), frameon=False)
    figure.savefig(output, dpi=130)


def alignment_table(report: dict[str, Any]) -> str:
    """Alignment error rates of every model and precision, a table for each two languages, beside aligners."""
    rates: dict[frozenset[str], dict[tuple[str, str, str, str], list[str]]] = {}
    ways: dict[frozenset[str], list[str]] = defaultdict(list)
    for row in report.get("alignment", []):
        for score in row["scores"]:
            pair, key = frozenset(score["direction"]), (row["model"], score["precision"], score["set"], row["links"])
            rates.setdefault(pair, {}).setdefault(key, []).append(f"{score['value']:.1f}")
            ways[pair].append("-".join(score["direction"]))
    if not rates:
        return "Not measured yet: `make evaluate EVAL=...` does it where the directory has alignments."
    tables = []
    for pair, found in rates.items():
        columns = "model", "precision", "set", "links", *ways[pair][:2], "symmetrised"
        others = [(name, "-", "Hansards test", "its own", *values) for name, *values, _ in ALIGNERS if pair == HANSARDS]
        tables.append(grid(columns, [*((*key, *values) for key, values in found.items()), *others], 4))
    sources = ", ".join(dict.fromkeys(source for *_, source in ALIGNERS))
    given = f" fast_align and GIZA++ as given by {sources}." if HANSARDS in rates else ""
    return "\n\n".join([*tables, f"In percent, less is better.{given} {where(report)}"])


def robustness_table(report: dict[str, Any]) -> str:
    """Inputs that came out unharmed, by kind, and what was wrong with the others."""
    rows = report["rows"]
    inputs = sum(row["inputs"] for row in rows)
    note = f"Percentage passed; {inputs} translations in all. {where(report)}"
    parts = [shown(robustness.table(rows)), shown(robustness.checks_table(rows))]
    return "\n\n".join([*parts, note])


def multi30k_table(report: dict[str, Any]) -> str:
    """Models of Multi30k alone, beside what was published."""
    columns = "model", "direction", "precision", "beam", "tokens, lower-cased", "sacrebleu", "chrF", "published"
    cells = []
    for row in report["rows"]:
        kind = "Transformer" if row["architecture"] == "transformer" else "GRU"
        others = [each for each in MULTI30K if each.what.startswith(kind) and each.direction == direction(row)]
        if others:
            quality = f"{row['tokenised_bleu']:.1f}", f"{row['bleu']:.1f}", f"{row['chrf']:.1f}"
            published = f"{others[0].value} ({others[0].what}; {others[0].source})"
            cells.append((row["model"], direction(row), row["precision"], row["beam_size"], *quality, published))
    found = sorted({row["tokenised_signature"] for row in report["rows"]})
    tokens = "; ".join(f"`{signature}`" for signature in found)
    return f"{grid(columns, cells)}\n\nTokens: {tokens}. Plain: {signatures(report)}. {where(report)}"


def newstest_table(report: dict[str, Any]) -> str:
    """newstest2014, greedy in int8, beside the papers that the models are from."""
    columns = "model", "direction", "BLEU", "source"
    ours = [row for row in greedy(report["rows"], "int8") if row["set"] == "newstest2014"]
    cells: Sequence[tuple[str, ...]] = [
        *((row["model"], direction(row), f"{row['bleu']:.2f}", "served, int8, greedy, sacrebleu") for row in ours),
        *((each.what, each.direction, each.value, f"{each.source}; BLEU of tokens") for each in NEWSTEST),
    ]
    return grid(columns, cells)


def full_tables(report: dict[str, Any]) -> str:
    """What a command that measured quality writes beside its JSON."""
    return f"{served_table(report)}\n\n{alignment_table(report)}\n"
