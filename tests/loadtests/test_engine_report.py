from typing import Any

import pytest
from rich.console import Console

from loadtests.engine_report import Case, Key, Measured, Sample, Samples, label, limit_report, rows, tables
from loadtests.limit import Limit, Work

OFFLINE, SINGLE = Case("offline_sorted"), Case("single_stream")


def rounds(*rates: float, setup: str = "", tried: dict[str, float] | None = None) -> Measured:
    samples = [Sample(sentences=2, source_tokens=20, tokens=100, seconds=100 / rate, latencies=[]) for rate in rates]
    return Measured(setup, tried or {}, samples)


def latencies(*each: list[float]) -> Measured:
    samples = [
        Sample(sentences=len(seconds), source_tokens=30, tokens=10, seconds=sum(seconds), latencies=seconds)
        for seconds in each
    ]
    return Measured("", {}, samples)


def row(samples: Samples, key: Key, **limits: Any) -> dict[str, Any]:
    """Of that key alone."""
    names = {"scenario": key.case.scenario, "attention": key.case.attention, "precision": key.precision}
    names |= {"cores": key.cores, "system": key.system}
    (found,) = [
        each for each in rows("m", samples, limits.get("limits", {}), "attentive") if names.items() <= each.items()
    ]
    return found


OURS = Key(OFFLINE, "int8", 2, "attentive")
SAMPLES: Samples = {
    OURS: rounds(300, 500, 400),
    Key(OFFLINE, "int8", 1, "attentive"): rounds(250, 200, 200),
    Key(Case("offline_sorted", attention=True), "int8", 2, "attentive"): rounds(285, 495, 388),
    Key(OFFLINE, "int8", 2, "ctranslate2"): rounds(300, 250, 160, setup="fast", tried={"slow": 100.04, "fast": 210}),
    Key(OFFLINE, "fp32", 2, "ctranslate2"): rounds(1, 1, 1),
    Key(OFFLINE, "fp32", 2, "pytorch"): rounds(50, 50, 50),
}
LIMIT = Limit(encoder=Work(macs=1000, seconds=1e-3), decoder=Work(macs=3000, seconds=2e-3))


def test_a_figure_is_the_median_of_its_rounds():
    found = row(SAMPLES, OURS)
    assert (found["tokens_per_s"], found["tokens_per_s_min"], found["tokens_per_s_max"]) == (400, 300, 500)
    assert (found["model"], found["beam"], found["sentences"], found["rounds"]) == ("m", 1, 2, 3)


def test_a_ratio_is_taken_within_each_round():
    """The medians' ratio would be 400 / 250."""
    found = row(SAMPLES, OURS)
    names = [f"ratio_to_ctranslate2{end}" for end in ("", "_min", "_max")]
    assert [found[name] for name in names] == [2, 1, 2.5]
    assert found["ratio_to_pytorch"] == 8, "PyTorch has fp32 only"
    assert found["ratio_to_one_core"] == 2
    attending = row(SAMPLES, Key(Case("offline_sorted", attention=True), "int8", 2, "attentive"))
    assert attending["ratio_to_no_attention"] == 0.97


def test_what_the_pilot_found_is_kept():
    found = row(SAMPLES, Key(OFFLINE, "int8", 2, "ctranslate2"))
    assert (found["setup"], found["setups_tried"]) == ("fast", {"slow": 100.0, "fast": 210})
    assert row(SAMPLES, OURS)["setups_tried"] == {}


def test_what_was_not_measured_is_none():
    found = row(SAMPLES, Key(OFFLINE, "int8", 1, "attentive"))
    names = ("ratio_to_ctranslate2", "ratio_to_ctranslate2_min", "ratio_to_pytorch", "latency_p50_ms", "latency_p90_ms")
    assert {found[name] for name in (*names, "latency_pytorch_share", "share_of_limit")} == {None}


def test_latencies_are_compared_by_the_medians_of_each_round():
    ours, theirs = Key(SINGLE, "fp32", 1, "attentive"), Key(SINGLE, "fp32", 1, "ctranslate2")
    samples = {
        ours: latencies([0.01, 0.02, 0.06], [0.03, 0.03, 0.03], [0.02, 0.02, 0.02]),
        theirs: latencies([0.03, 0.04, 0.05], [0.05, 0.05, 0.05], [0.08, 0.08, 0.08]),
    }
    found = row(samples, ours)
    assert found["latency_p50_ms"] == 20
    assert found["latency_p90_ms"] == pytest.approx(30)
    assert [found[f"latency_ctranslate2_share{end}"] for end in ("", "_min", "_max")] == [0.5, 0.25, 0.6]
    assert found["ratio_to_ctranslate2"] == pytest.approx(0.15 / 0.09, abs=1e-3)


def test_the_share_of_the_limit_is_the_least_time_over_the_time_taken():
    """10 source tokens and 50 + 1 steps take 112 ms at least; on two cores half of it."""
    limits = {("int8", OFFLINE): LIMIT}
    assert row(SAMPLES, OURS, limits=limits)["share_of_limit"] == pytest.approx(0.112 / 2 / (0.25 / 2), abs=1e-3)
    attending = Key(Case("offline_sorted", attention=True), "int8", 2, "attentive")
    assert row(SAMPLES, attending, limits=limits)["share_of_limit"], "attention has the same limit"
    assert row(SAMPLES, Key(OFFLINE, "int8", 2, "ctranslate2"), limits=limits)["share_of_limit"] is None


def test_a_beam_takes_the_steps_of_all_its_hypotheses():
    case = Case("offline_sorted", beam_size=4)
    key, limits = Key(case, "int8", 1, "attentive"), {("int8", case): LIMIT}
    (found,) = rows("m", {key: rounds(100)}, limits, "attentive")
    assert found["share_of_limit"] == pytest.approx((0.010 + 4 * 51 * 0.002) / 0.5)
    report = limit_report({key: rounds(100)}, limits, "attentive")
    assert report["int8"]["offline_sorted beam 4"]["macs_per_sentence"] == 10 * 1000 + 4 * 51 * 3000


def test_a_sentence_alone_has_one_thread():
    key, limits = Key(SINGLE, "int8", 2, "attentive"), {("int8", SINGLE): LIMIT}
    (found,) = rows("m", {key: latencies([0.1, 0.1])}, limits, "attentive")
    assert found["share_of_limit"] == pytest.approx((15 * 0.001 + 6 * 0.002) / 0.1)


def test_the_limit_is_reported_by_precision_and_case():
    report = limit_report(SAMPLES, {("int8", OFFLINE): LIMIT}, "attentive")
    assert report.keys() == {"int8"}
    assert report["int8"].keys() == {"offline_sorted"}
    found = report["int8"]["offline_sorted"]
    assert found["seconds_per_sentence"] == pytest.approx(0.112)
    assert found["macs_per_sentence"] == 10 * 1000 + 51 * 3000


def test_a_case_is_named_by_what_is_not_usual():
    assert [label(OFFLINE), label(Case("single_stream", 4, True))] == [
        "offline_sorted",
        "single_stream beam 4 attention",
    ]


def test_the_tables_fit_a_terminal_and_show_the_ratios():
    single = {Key(SINGLE, "int8", 2, "attentive"): latencies([0.01, 0.02, 0.06])}
    console = Console(width=80, record=True, quiet=True)
    found = rows("m", {**SAMPLES, **single}, {("int8", OFFLINE): LIMIT}, "attentive")
    with console.capture() as captured:
        console.quiet = False
        console.print(*tables(found, "attentive"))
    text = captured.get()
    assert "…" not in text
    (line,) = [line.split() for line in text.splitlines() if " 400 " in line]
    assert line == ["sorted", "int8", "2", "400", "2.00", "1.00-2.50", "8.00", "2.00", "-", "45%"]
    assert [line for line in text.splitlines() if "52.0" in line]
