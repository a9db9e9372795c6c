"""Figures of ``make bench``: medians over rounds, how systems compare, as plain rows and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from loadtests.limit import Limit

CTRANSLATE2, PYTORCH = "ctranslate2", "pytorch"
FLOOR_PRECISION = "fp32"
"""What PyTorch runs in, whatever it is compared with."""


@dataclass(frozen=True)
class Case:
    """What is measured; everything is greedy and without attention unless stated."""

    scenario: str
    beam_size: int = 1
    attention: bool = False

    @property
    def alone(self) -> bool:
        """One sentence at a time."""
        return self.scenario == "single_stream"


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
    source_tokens: int
    """Tag and EOS included."""
    tokens: int
    """Sub-words of the translations, without EOS."""
    seconds: float
    latencies: list[float]
    """Seconds of each sentence; empty where all were translated at once."""

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


@dataclass
class Measured:
    """One system in one case; rounds of the same number in all of them are those that were measured together."""

    setup: str
    """How it used the cores, where it has a choice: its fastest way in the pilot."""
    tried: Mapping[str, float]
    """Tokens per second of each setup in the pilot."""
    rounds: list[Sample] = field(default_factory=list)


Samples = Mapping[Key, Measured]
Limits = Mapping[tuple[str, Case], Limit]
"""By precision and case without attention."""


def percentile(sample: Sample, percent: int) -> float | None:
    """Milliseconds; None where sentences were not timed one by one."""
    return 1000 * float(np.percentile(sample.latencies, percent)) if sample.latencies else None


def per_sentence(sample: Sample, case: Case) -> tuple[float, float]:
    """Source tokens, and steps of all hypotheses together; EOS takes a step too."""
    return sample.source_tokens / sample.sentences, (sample.tokens / sample.sentences + 1) * case.beam_size


def share_of_limit(sample: Sample, key: Key, limit: Limit) -> float:
    """The least time over the time taken. A sentence alone is decoded by one thread, however many cores there are."""
    least = limit.seconds(*per_sentence(sample, key.case)) / (1 if key.case.alone else key.cores)
    return least * sample.sentences / sample.seconds


def middle(values: Sequence[float | None], digits: int = 3) -> float | None:
    """The median, rounded; None where a round has no value."""
    known = [value for value in values if value is not None]
    return round(median(known), digits) if known and len(known) == len(values) else None


def paired(name: str, ours: Sequence[float | None], theirs: Sequence[float | None] | None) -> dict[str, float | None]:
    """The median of the rounds' ratios, the smallest and the largest; None where there is nothing to compare."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True) if a and b] if theirs else []
    figures = (median(ratios), min(ratios), max(ratios)) if ratios else (None, None, None)
    names = name, f"{name}_min", f"{name}_max"
    return {each: None if value is None else round(value, 3) for each, value in zip(names, figures, strict=True)}


def comparisons(key: Key, samples: Samples) -> dict[str, float | None]:
    """``ratio_*`` are tokens per second over the other's, ``latency_*_share`` median latencies over the other's."""

    def compared(name: str, latency: bool, **other: Any) -> dict[str, float | None]:
        def values(rounds: Sequence[Sample]) -> list[float | None]:
            return [percentile(sample, 50) if latency else sample.rate for sample in rounds]

        peer = samples.get(replace(key, **other))
        return paired(name, values(samples[key].rounds), None if peer is None else values(peer.rounds))

    pytorch: dict[str, Any] = {"system": PYTORCH, "precision": FLOOR_PRECISION}
    return {
        **compared("ratio_to_ctranslate2", False, system=CTRANSLATE2),
        **compared("ratio_to_pytorch", False, **pytorch),
        **compared("ratio_to_one_core", False, cores=1),
        **compared("ratio_to_no_attention", False, case=replace(key.case, attention=False)),
        **compared("latency_ctranslate2_share", True, system=CTRANSLATE2),
        **compared("latency_pytorch_share", True, **pytorch),
    }


def rows(model: str, samples: Samples, limits: Limits, system: str) -> list[dict[str, Any]]:
    """One for each key; ``system`` is the one that the limits are for."""
    found = []
    for key, measured in samples.items():
        rounds, case = measured.rounds, key.case
        rates = [sample.rate for sample in rounds]
        limit = limits.get((key.precision, replace(case, attention=False))) if key.system == system else None
        row = {
            "scenario": case.scenario,
            "model": model,
            "system": key.system,
            "precision": key.precision,
            "cores": key.cores,
            "beam": case.beam_size,
            "attention": case.attention,
            "tokens_per_s": middle(rates, 1),
            "tokens_per_s_min": round(min(rates), 1),
            "tokens_per_s_max": round(max(rates), 1),
            "latency_p50_ms": middle([percentile(sample, 50) for sample in rounds]),
            "latency_p90_ms": middle([percentile(sample, 90) for sample in rounds]),
            **comparisons(key, samples),
            "share_of_limit": limit and middle([share_of_limit(sample, key, limit) for sample in rounds]),
            "setup": measured.setup,
            "setups_tried": {setup: round(rate, 1) for setup, rate in measured.tried.items()},
            "sentences": rounds[0].sentences,
            "tokens_per_sentence": round(rounds[0].tokens / rounds[0].sentences, 1),
            "rounds": len(rounds),
        }
        found.append(row)
    return found


def limit_report(samples: Samples, limits: Limits, system: str) -> dict[str, dict[str, Any]]:
    """What a sentence costs at least, by precision and case, for the sentences that ``system`` translated."""
    found: dict[str, dict[str, Any]] = {}
    for key, measured in samples.items():
        limit = limits.get((key.precision, key.case))
        if limit is None or key.system != system:
            continue
        work = per_sentence(measured.rounds[0], key.case)
        found.setdefault(key.precision, {})[label(key.case)] = {
            "encoder_gmacs_per_s": round(limit.encoder.gmacs_per_s, 1),
            "decoder_gmacs_per_s": round(limit.decoder.gmacs_per_s, 1),
            "gmacs_per_s": round(limit.macs(*work) / limit.seconds(*work) / 1e9, 1),
            "macs_per_sentence": round(limit.macs(*work)),
            "seconds_per_sentence": limit.seconds(*work),
        }
    return found


def label(case: Case) -> str:
    beam = f" beam {case.beam_size}" if case.beam_size > 1 else ""
    return case.scenario + beam + (" attention" if case.attention else "")


def numbered(title: str, caption: str, columns: Sequence[str]) -> Table:
    """A table whose first two columns are text."""
    shown = Table(title=title, caption=caption, box=SIMPLE_HEAD, padding=0)
    for number, column in enumerate(columns):
        shown.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    return shown


def times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def between(row: Mapping[str, Any], name: str) -> str:
    """Smallest and largest of the rounds."""
    return "-" if row[name] is None else f"{row[f'{name}_min']:.2f}-{row[f'{name}_max']:.2f}"


def tables(found: Sequence[Mapping[str, Any]], system: str) -> list[Table]:
    """``system`` beside its peers: how much it does, and how soon it answers a single sentence."""
    ours = [row for row in found if row["system"] == system]
    model = ours[0]["model"]
    names = ["case", "", "cores", "tokens/s", "CT2", "of rounds", "PyTorch", "1 core", "off", "limit"]
    caption = (
        "Times the tokens/s of CTranslate2 (and in which round least and most), of PyTorch, of itself on one core, "
        "and with attention off. Limit: the share of the time that the products with the weights take at least."
    )
    rates = numbered(f"{model}: throughput", caption, names)
    names = ["case", "", "cores", "p50 ms", "p90 ms", "of CT2's", "of rounds", "of PyTorch's", "limit"]
    latencies = numbered(
        f"{model}: latency",
        "Share of the p50 of CTranslate2 (and in which round least and most) and of PyTorch.",
        names,
    )
    for row in ours:
        case = label(Case(row["scenario"], row["beam"], row["attention"])).removeprefix("offline_")
        start = case, row["precision"], str(row["cores"])
        limit = "-" if row["share_of_limit"] is None else f"{row['share_of_limit']:.0%}"
        ratios = [row["ratio_to_pytorch"]]
        ratios += [row["ratio_to_one_core"] if row["cores"] > 1 else None]
        ratios += [row["ratio_to_no_attention"] if row["attention"] else None]
        peer = times(row["ratio_to_ctranslate2"]), between(row, "ratio_to_ctranslate2")
        rates.add_row(*start, f"{row['tokens_per_s']:.0f}", *peer, *map(times, ratios), limit)
        if row["latency_p50_ms"] is not None:
            milliseconds = f"{row['latency_p50_ms']:.1f}", f"{row['latency_p90_ms']:.1f}"
            peer = times(row["latency_ctranslate2_share"]), between(row, "latency_ctranslate2_share")
            latencies.add_row(*start, *milliseconds, *peer, times(row["latency_pytorch_share"]), limit)
    return [rates, *([latencies] if latencies.row_count else [])]
