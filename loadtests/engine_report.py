"""Figures of ``make bench``: medians over rounds, how systems compare, as plain rows and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

CTRANSLATE2, PYTORCH = "ctranslate2", "pytorch"
FLOOR_PRECISION = "fp32"
"""What PyTorch runs in, whatever it is compared with."""


@dataclass(frozen=True)
class Case:
    """What is measured; everything is greedy and without attention unless stated."""

    scenario: str
    beam_size: int = 1
    attention: bool = False


@dataclass(frozen=True)
class Key:
    """What one figure belongs to."""

    case: Case
    precision: str
    cores: int
    system: str


@dataclass(frozen=True)
class Sample:
    """One round of one system in one case."""

    sentences: int
    tokens: int
    """Sub-words of the translations, without EOS."""
    seconds: float
    latencies: list[float]
    """Seconds of each sentence; empty where all were translated at once."""

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


Samples = Mapping[Key, Mapping[str, Sequence[Sample]]]
"""For each way that a system may use the cores, its rounds."""


def rate(samples: Sequence[Sample]) -> float:
    """Tokens per second, the median of the rounds."""
    return median(sample.rate for sample in samples)


def percentile(samples: Sequence[Sample], percent: int) -> float | None:
    """Milliseconds, the median of the rounds' percentiles."""
    if not samples[0].latencies:
        return None
    return 1000 * median(float(np.percentile(sample.latencies, percent)) for sample in samples)


def rows(model: str, samples: Samples) -> list[dict[str, Any]]:
    """One for each key. A system with a choice of setups is shown, and compared with, at its fastest.

    ``ratio_*`` are tokens per second over the other's, ``latency_*_share`` median latencies over the other's; both
    are None where the other was not measured.
    """
    chosen = {key: max(setups, key=lambda setup: rate(setups[setup])) for key, setups in samples.items()}
    best = {key: samples[key][setup] for key, setup in chosen.items()}

    def ratio(key: Key, **other: Any) -> float | None:
        peer = best.get(replace(key, **other))
        return None if peer is None else round(rate(best[key]) / rate(peer), 3)

    def share(key: Key, **other: Any) -> float | None:
        ours, peer = percentile(best[key], 50), best.get(replace(key, **other))
        theirs = None if peer is None else percentile(peer, 50)
        return None if ours is None or theirs is None else round(ours / theirs, 3)

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 3)

    found = []
    for key, rounds in best.items():
        rates = [sample.rate for sample in rounds]
        floor = {"system": PYTORCH, "precision": FLOOR_PRECISION}
        plain = replace(key.case, attention=False)
        row = {
            "scenario": key.case.scenario,
            "model": model,
            "system": key.system,
            "precision": key.precision,
            "cores": key.cores,
            "beam": key.case.beam_size,
            "attention": key.case.attention,
            "tokens_per_s": round(rate(rounds), 1),
            "tokens_per_s_min": round(min(rates), 1),
            "tokens_per_s_max": round(max(rates), 1),
            "latency_p50_ms": rounded(percentile(rounds, 50)),
            "latency_p90_ms": rounded(percentile(rounds, 90)),
            "ratio_to_ctranslate2": ratio(key, system=CTRANSLATE2),
            "ratio_to_pytorch": ratio(key, **floor),
            "ratio_to_one_core": ratio(key, cores=1),
            "ratio_to_no_attention": ratio(key, case=plain),
            "latency_ctranslate2_share": share(key, system=CTRANSLATE2),
            "latency_pytorch_share": share(key, **floor),
            "setup": chosen[key],
            "sentences": rounds[0].sentences,
            "rounds": len(rounds),
        }
        found.append(row)
    return found


def numbered(title: str, caption: str, columns: Sequence[str]) -> Table:
    """A table whose first two columns are text."""
    shown = Table(title=title, caption=caption, box=SIMPLE_HEAD, padding=0)
    for number, column in enumerate(columns):
        shown.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    return shown


def times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def tables(found: Sequence[Mapping[str, Any]], system: str) -> list[Table]:
    """``system`` beside its peers: how much it does, and how soon it answers a single sentence."""
    ours = [row for row in found if row["system"] == system]
    model = ours[0]["model"]
    names = ["case", "", "cores", "tokens/s", "spread", "CTranslate2", "PyTorch", "1 core", "off"]
    caption = (
        "Times the tokens/s of each peer, of itself on one core, and with attention off. "
        "Spread: the fastest round less the slowest, of the median."
    )
    rates = numbered(f"{model}: throughput", caption, names)
    names = ["case", "", "cores", "p50 ms", "p90 ms", "of CTranslate2's", "of PyTorch's"]
    latencies = numbered(f"{model}: latency", "Share of the peers' p50.", names)
    for row in ours:
        case = row["scenario"].removeprefix("offline_") + (f" beam {row['beam']}" if row["beam"] > 1 else "")
        start = case + (" attention" if row["attention"] else ""), row["precision"], str(row["cores"])
        width = (row["tokens_per_s_max"] - row["tokens_per_s_min"]) / row["tokens_per_s"]
        ratios = [row["ratio_to_ctranslate2"], row["ratio_to_pytorch"]]
        ratios += [row["ratio_to_one_core"] if row["cores"] > 1 else None]
        ratios += [row["ratio_to_no_attention"] if row["attention"] else None]
        rates.add_row(*start, f"{row['tokens_per_s']:.0f}", f"{width:.0%}", *map(times, ratios))
        if row["latency_p50_ms"] is not None:
            milliseconds = f"{row['latency_p50_ms']:.1f}", f"{row['latency_p90_ms']:.1f}"
            shares = row["latency_ctranslate2_share"], row["latency_pytorch_share"]
            latencies.add_row(*start, *milliseconds, *map(times, shares))
    return [rates, *([latencies] if latencies.row_count else [])]
