import json
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from loadtests import docs
from loadtests.docs import PAGES, README, Part, render, replace
from loadtests.engine_report import Case, Key, Measured, Sample, limit_report, rows
from loadtests.limit import Limit, Work
from loadtests.markdown import (
    arrivals_tables,
    companions_table,
    consistency_table,
    engine_tables,
    example,
    limit_table,
    load_table,
    overload_table,
    shapes_table,
    soak_table,
    steady_table,
    summary_table,
    timeline_caption,
)
from loadtests.tables import shown
from service.settings import markdown_table


def test_replace_changes_only_its_part() -> None:
    text = "a\n<!-- begin:x -->\nold\n<!-- end:x -->\nb\n<!-- begin:y -->\n<!-- end:y -->\n"
    assert replace(text, "x", "new\\1\n") == text.replace("old", "new\\1")


def test_replace_needs_its_part() -> None:
    with pytest.raises(ValueError, match="no part z"):
        replace("a", "z", "b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_as_generated(page: Path) -> None:
    """Nobody typed a number: what is between the marks is what the command writes from what was measured."""
    assert page.read_text(encoding="utf-8") == render(page)


def test_a_part_says_what_would_measure_it(tmp_path: Path) -> None:
    part = Part(tmp_path / "soak.json", "make soak", lambda report: f"grown by {report}")
    assert "`make soak`" in part.text()
    part.source.write_text("3", encoding="utf-8")
    assert part.text() == "grown by 3"


def test_every_report_that_a_page_shows_is_copied() -> None:
    sources = {part.source for parts in PAGES.values() for part in parts.values()}
    assert {path.name for path in sources if path.parent == docs.RESULTS} - {"example.json"} == set(docs.REPORTS)


def test_the_readme_has_every_setting() -> None:
    assert markdown_table().strip() in README.read_text(encoding="utf-8")


def test_example_keeps_small_objects_on_one_line() -> None:
    text = example({"translations": [{"text": "Je", "tokens": [{"text": "Je", "start": 0}]}]})
    assert '{"text": "Je", "start": 0}' in text
    assert text.startswith("```sh\ncurl ")


def test_load_table_survives_a_kind_without_answers() -> None:
    row = {"requests": 2, "failures": 0, "p50_ms": 1.0, "p95_ms": 2.0, "p97_ms": 2.0, "p99_ms": 2.0}
    report = {"by_kind": {"a": row, "b": {"requests": 0, "failures": 0}}, "total": row, "seconds": 60.0}
    report |= {"offered_per_s": 8.0, "achieved_per_s": 7.9, "models": [{"name": "m", "version": "1.2"}]}
    report |= {"client": {"machine": {"cpu": "c", "cores": 2}, "versions": {"locust": "1"}, "commit": "abc"}}
    text = load_table(report)
    assert "| a | 2 | 0 | 1.0 | 2.0 | 2.0 | 2.0 |" in text
    assert "m 1.2; 8 requests/s offered, 7.9 achieved" in text


def test_consistency_table_counts() -> None:
    row = {"model": "m", "version": "1.2", "precision": "int8", "set": "s", "sentences": 10}
    row |= {"source": "en", "target": "fr"}
    text = consistency_table({"rows": [row | {"identical": 9}], "list": 65, "clients": 32, "commit": "abc"})
    assert "| m | 1.2 | int8 | s | en-fr | 10 | 9 |" in text


WHERE = {"machine": {"cpu": "a cpu", "cores": 2}, "versions": {"numpy": "2.0", "torch": None}, "commit": "abc"}
NOTE = "a cpu, 2 cores; numpy 2.0; commit abc."


def test_a_printed_table_becomes_markdown() -> None:
    table = Table("a", title="t", caption="c")
    table.add_column("b", justify="right")
    table.add_row("x", "1")
    assert shown(table) == "**t**\n\n| a | b |\n|---|---:|\n| x | 1 |\n\nc"


@pytest.fixture
def engine() -> dict[str, Any]:
    """Two systems, in batches and alone; the engine takes half the time of the other."""
    samples = {
        Key(case, "int8", 1, system): Measured("", {}, [Sample(10, 300, 290, seconds, [seconds / 10] * 10)])
        for case in (Case("offline_sorted"), Case("single_stream"))
        for system, seconds in (("attentive", 1.0), ("ctranslate2", 2.0))
    }
    limit = Limit(Work(10**6, 1e-5), Work(2 * 10**6, 4e-5))
    limits = {("int8", key.case): limit for key in samples}
    found = rows("m", samples, limits, "attentive")
    return json.loads(json.dumps(WHERE | {"rows": found, "limit": {"m": limit_report(samples, limits, "attentive")}}))


def test_the_engine_is_summed_up_for_the_readme(engine: dict[str, Any]) -> None:
    text = summary_table(engine)
    assert "| m | offline sorted | 290 | 2.00 | - |" in text
    assert "| m | single stream | 290 | 2.00 | - | 0.50 |" in text
    assert "ctranslate2 |" not in text
    assert NOTE in text


def test_all_of_the_bench_is_on_the_page(engine: dict[str, Any]) -> None:
    text = engine_tables(engine)
    assert "**m: throughput**" in text
    assert "**m: latency**" in text
    assert text.endswith(NOTE)


def test_a_size_is_a_line_of_its_own(engine: dict[str, Any]) -> None:
    text = shapes_table(engine)
    ratio, latency = "2.00 (2.00-2.00)", "0.50 (0.50-0.50)"
    assert f"| m | int8 | 1 | {ratio} | - | - | - | {latency} | 29.0 | 29.0 |" in text
    assert "Medians of 1 rounds" in text
    assert text.endswith(NOTE)


def test_the_share_of_the_limit_is_that_of_its_case(engine: dict[str, Any]) -> None:
    """30 source tokens and 30 steps: 90 million multiply-accumulates, 1.5 ms of the 100 taken."""
    assert "| m | int8 | offline sorted | 100.0 | 50.0 | 90 | 1.50 | 2% |" in limit_table(engine)
    (alone,) = (row for row in engine["rows"] if row["system"] == "attentive" and row["scenario"] == "single_stream")
    alone["share_of_limit"] = 0.25
    text = limit_table(engine)
    assert "| m | int8 | offline sorted | 100.0 | 50.0 | 90 | 1.50 | 2% |" in text
    assert "| m | int8 | single stream | 100.0 | 50.0 | 90 | 1.50 | 25% |" in text


def test_arrivals_are_shown_both_ways() -> None:
    points = {"p50_ms": 1.0, "p95_ms": 2.0, "p97_ms": 3.0, "p99_ms": 4.0}
    way = {"achieved_per_s": 99.0, "tokens_per_s": 990.0, "errors": 0, "short": points, "all": points}
    row = {"model": "m", "precision": "int8", "offered_per_s": 100.0, "ways": {"continuous": way, "static": way}}
    row |= {"ratio_p95_short": 0.41, "same_throughput": True}
    text = arrivals_tables(WHERE | {"rows": [row], "short_words": 8, "sentences": 10, "rounds": 5, "slots": 32})
    assert "| continuous | 99.0 | 990 | short | 1.0 | 2.0 | 3.0 | 4.0 |" in text
    assert "p95 of sentences under 8 words: 0.41 of static batches', at the same throughput." in text
    assert text.endswith(NOTE)


def test_soak_shows_early_and_late() -> None:
    row = {"model": "m", "precision": "int8", "reference_mb": 100.0, "last_mb": 101.5, "errors": {"oops": 2}}
    row |= {"growth_percent": 1.5, "largest_growth_percent": 2.0, "checkpoints": [{"sentences": 200_000}]}
    text = soak_table(WHERE | {"rows": [row], "reference": 20_000})
    assert "MB after 20,000 | MB after 200,000" in text
    assert "| m | int8 | 100.0 | 101.5 | +1.50 % | +2.00 % | 2 |" in text


def test_companions_are_counted() -> None:
    row = {"model": "m", "precision": "int8", "sentences": 3000, "with_beam": 300, "differences": 1}
    text = companions_table(WHERE | {"rows": [row | {"largest_score_difference": 1.24e-5}]})
    assert "| m | int8 | 3000 | 300 | 1 | 1.2e-05 |" in text


def test_the_picture_comes_with_its_figures() -> None:
    found = [{"words": words, "arrived": 1.0, "left": 1.0 + took} for words, took in ((3, 5.0), (7, 7.0), (8, 40.0))]
    report = WHERE | {"sentences": found, "encoded": [{}, {}], "steps": 30, "offered_per_s": 200.0, "share": 0.9}
    report |= {"model": "m", "version": "1.2", "precision": "int8"}
    text = timeline_caption(report)
    assert text.startswith("![Sentences in their slots over time](engine-timeline.png)")
    assert "3 sentences, 200 a second on average, 90 % of what the loop can do; 2 groups encoded, 30 steps." in text
    assert "6.0 ms under 8 words, 40.0 ms from there on. m 1.2 int8." in text


def test_overload_is_shown_with_the_share_of_the_best_goodput() -> None:
    reply = {"p50": 90.0, "p95": 300.0, "p99": 400.0}
    row = {"factor": 8, "offered_per_s": 800.0, "goodput_per_s": 95.0, "reply_ms": reply, "refused": 70}
    row |= {"refused_ms": reply | {"p50": 3.5}, "server_errors": 0, "normal_after_s": 0.2}
    row |= {"generator": {"cpu": 0.31, "late_ms": reply}}
    report = {
        "capacity_per_s": 100.0,
        "rounds": 3,
        "idle_ms": reply,
        "rows": [row],
        "goodput_kept": 0.95,
        "machine": WHERE,
    }
    text = overload_table(report)
    assert "| 8 | 800 | 95 | 90 | 300 | 70 | 3.5 | 0 | 0.2 | 400 |" in text
    assert "95% of the best" in text
    assert "31% of one of the processors" in text
    assert text.endswith(NOTE)


def test_half_an_hour_is_shown_in_windows() -> None:
    row: dict[str, Any] = {"to_minute": 5, "replies": 9, "refused": 1, "errors": 0, "memory_mb": 500.5}
    row |= {"reply_ms": {"p50": 1.0, "p95": 2.0, "p97": 3.0, "p99": 4.0}}
    report = {"offered_per_s": 80.0, "share": 0.8, "rows": [row], "settle": 5, "wrong": {"empty translation": 2}}
    report |= {"memory": {"largest_growth_percent": 1.25}, "statuses": {"200": 12345, "429": 6}, "machine": WHERE}
    report["machine"] = WHERE | {"machine": {"cpu": "a cpu", "cores": 2, "load_1_min": 2.5}}
    text = steady_table(report)
    assert "when it ended: 2.5." in text
    assert "| 5 | 9 | 1 | 0 | 1 | 2 | 3 | 4 | 500.5 |" in text
    assert "Memory after minute 5: +1.25 % at most." in text
    assert "12,345 of status 200, 6 of status 429; wrong: 2." in text
    assert text.endswith(NOTE)
