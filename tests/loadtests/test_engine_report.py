from typing import Any

import pytest
from rich.console import Console

from loadtests.engine_report import Case, Key, Sample, Samples, rows, tables

OFFLINE, SINGLE = Case("offline_sorted"), Case("single_stream")


def rounds(*rates: float) -> list[Sample]:
    return [Sample(sentences=2, tokens=100, seconds=100 / rate, latencies=[]) for rate in rates]


def latencies(*seconds: float) -> list[Sample]:
    return [Sample(sentences=len(seconds), tokens=10, seconds=sum(seconds), latencies=list(seconds))]


def row(samples: Samples, key: Key) -> dict[str, Any]:
    """Of that key alone."""
    names = {"scenario": key.case.scenario, "attention": key.case.attention, "precision": key.precision}
    names |= {"cores": key.cores, "system": key.system}
    (found,) = [each for each in rows("m", samples) if names.items() <= each.items()]
    return found


OURS = Key(OFFLINE, "int8", 2, "attentive")
SAMPLES: Samples = {
    OURS: {"": rounds(300, 500, 400)},
    Key(OFFLINE, "int8", 1, "attentive"): {"": rounds(250)},
    Key(Case("offline_sorted", attention=True), "int8", 2, "attentive"): {"": rounds(380)},
    Key(OFFLINE, "int8", 2, "ctranslate2"): {"slow": rounds(900, 100, 100), "fast": rounds(200, 200, 800)},
    Key(OFFLINE, "fp32", 2, "ctranslate2"): {"fast": rounds(1)},
    Key(OFFLINE, "fp32", 2, "pytorch"): {"": rounds(50)},
}


def test_a_figure_is_the_median_of_its_rounds():
    found = row(SAMPLES, OURS)
    assert (found["tokens_per_s"], found["tokens_per_s_min"], found["tokens_per_s_max"]) == (400, 300, 500)
    assert (found["model"], found["beam"], found["sentences"], found["rounds"]) == ("m", 1, 2, 3)


def test_a_peer_is_taken_at_its_best_setup():
    found = row(SAMPLES, Key(OFFLINE, "int8", 2, "ctranslate2"))
    assert (found["setup"], found["tokens_per_s"], found["ratio_to_ctranslate2"]) == ("fast", 200, 1)


def test_ratios_are_over_one_where_ours_is_faster():
    found = row(SAMPLES, OURS)
    assert found["ratio_to_ctranslate2"] == 2
    assert found["ratio_to_pytorch"] == 8, "PyTorch has fp32 only"
    assert found["ratio_to_one_core"] == 1.6
    attending = row(SAMPLES, Key(Case("offline_sorted", attention=True), "int8", 2, "attentive"))
    assert attending["ratio_to_no_attention"] == 0.95


def test_what_was_not_measured_is_none():
    found = row(SAMPLES, Key(OFFLINE, "int8", 1, "attentive"))
    names = ("ratio_to_ctranslate2", "ratio_to_pytorch", "latency_p50_ms", "latency_p90_ms", "latency_pytorch_share")
    assert {found[name] for name in names} == {None}


def test_latencies_are_compared_by_their_medians():
    ours, theirs = Key(SINGLE, "fp32", 1, "attentive"), Key(SINGLE, "fp32", 1, "ctranslate2")
    found = row({ours: {"": latencies(0.01, 0.02, 0.06)}, theirs: {"": latencies(0.03, 0.04, 0.05)}}, ours)
    assert found["latency_p50_ms"] == 20
    assert found["latency_p90_ms"] == pytest.approx(52)
    assert found["latency_ctranslate2_share"] == 0.5
    assert found["ratio_to_ctranslate2"] == pytest.approx(0.12 / 0.09, abs=1e-3)


def test_the_tables_fit_a_terminal_and_show_the_ratios():
    single = {Key(SINGLE, "int8", 2, "attentive"): {"": latencies(0.01, 0.02, 0.06)}}
    console = Console(width=80, record=True, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(*tables(rows("m", {**SAMPLES, **single}), "attentive"))
    text = captured.get()
    assert "…" not in text
    (line,) = [line.split() for line in text.splitlines() if "400" in line]
    assert line == ["sorted", "int8", "2", "400", "50%", "2.00", "8.00", "1.60", "-"]
    assert [line for line in text.splitlines() if "52.0" in line]
