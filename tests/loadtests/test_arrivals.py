import json
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from export.package import Package
from loadtests.arrivals import CONTINUOUS, STATIC, Arrival, Sample, continuous, judge, main, poisson, static
from loadtests.engines import Sentence
from loadtests.peers import BATCH
from service.engine import Job
from tests.packages import sentences

app = typer.Typer()
app.command()(main)

QUICK, SLOW, BROKEN = 1, 2, 3
PAUSE = 0.05


class Fake:
    """An engine that answers at once, or after ``PAUSE`` seconds, or with an error, as the first id says."""

    def __init__(self, block: float = 0.0) -> None:
        """``block``: seconds that handing over takes."""
        self.block = block
        self.batches: list[int] = []

    def submit_all(self, jobs: Sequence[Job]) -> list[Any]:
        self.batches.append(len(jobs))
        time.sleep(self.block)
        futures: list[Future[Any]] = []
        for job in jobs:
            future: Future[Any] = Future()
            answer = [SimpleNamespace(token_ids=list(job.source_ids))]
            if job.source_ids[0] == BROKEN:
                future.set_exception(RuntimeError("broken"))
            elif job.source_ids[0] == SLOW:
                Timer(PAUSE, future.set_result, [answer]).start()
            else:
                future.set_result(answer)
            futures.append(future)
        return futures


def due(*times: float, kind: int = QUICK) -> list[Arrival]:
    return [Arrival(at, Sentence("one two", "en", "fr", [kind, 0])) for at in times]


def test_continuous_answers_each_and_static_the_whole_batch() -> None:
    arrivals = [*due(0.0), *due(0.0, kind=SLOW)]
    each = sorted(continuous(Fake().submit_all, arrivals).latencies)
    assert each[0] < each[1]
    assert each[1] >= PAUSE
    together = static(Fake().submit_all, arrivals).latencies
    assert together[0] == together[1] >= PAUSE


def test_a_static_batch_is_what_waits_up_to_the_capacity() -> None:
    fake = Fake()
    sample = static(fake.submit_all, due(*[0.0] * (2 * BATCH + 3)))
    assert fake.batches == [BATCH, BATCH, 3]
    assert (len(sample.latencies), sample.tokens, sample.errors) == (2 * BATCH + 3, 2 * (2 * BATCH + 3), 0)


@pytest.mark.parametrize("way", [continuous, static])
def test_latency_counts_from_when_a_sentence_was_due(way: Any) -> None:
    sample = way(Fake(block=PAUSE).submit_all, due(0.0, 0.02))
    assert min(sample.latencies) >= PAUSE - 0.02
    assert sample.seconds >= max(sample.latencies)


@pytest.mark.parametrize("way", [continuous, static])
def test_nothing_is_handed_over_before_it_is_due(way: Any) -> None:
    sample = way(Fake().submit_all, due(0.0, 0.03))
    assert sample.seconds >= 0.03
    assert min(sample.latencies) >= 0


@pytest.mark.parametrize("way", [continuous, static])
def test_a_failure_is_counted_and_has_a_latency(way: Any) -> None:
    sample = way(Fake().submit_all, [*due(0.0, kind=BROKEN), *due(0.0)])
    assert (sample.errors, sample.tokens, len(sample.latencies)) == (1, 2, 2)


def test_the_seed_decides_and_the_rate_only_scales() -> None:
    pool = [Sentence(str(i), "en", "fr", [i]) for i in range(50)]
    slow, fast, other = poisson(pool, 2000, 10, 1), poisson(pool, 2000, 20, 1), poisson(pool, 2000, 10, 2)
    assert [arrival.sentence for arrival in slow] == [arrival.sentence for arrival in fast]
    assert [arrival.at for arrival in slow] == pytest.approx([2 * arrival.at for arrival in fast])
    assert [arrival.sentence for arrival in slow] != [arrival.sentence for arrival in other]
    gaps = np.diff([arrival.at for arrival in slow])
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(0.1, rel=0.1)
    assert gaps.std() == pytest.approx(0.1, rel=0.1)


def sample(short: float, long: float = 1.0, seconds: float = 10.0, errors: int = 0) -> Sample:
    """As many sentences of seven words as of eight, each group with one latency."""
    return Sample(seconds, [7] * 50 + [8] * 50, [short] * 50 + [long] * 50, 1000, errors)


def test_figures_are_medians_over_the_rounds() -> None:
    rounds = {
        CONTINUOUS: [sample(0.1, 1), sample(0.2, 2), sample(0.9, 3)],
        STATIC: [sample(0.4, 9), sample(0.5, 8), sample(0.6, 7)],
    }
    found = judge(rounds, 0.5)
    assert found["ways"][CONTINUOUS]["short"] == {"p50_ms": 200, "p95_ms": 200, "p97_ms": 200, "p99_ms": 200}
    assert found["ways"][STATIC]["long"]["p95_ms"] == 8000
    assert found["ways"][STATIC]["all"]["p99_ms"] == 8000
    assert (found["ways"][STATIC]["achieved_per_s"], found["ways"][STATIC]["tokens_per_s"]) == (10, 100)
    assert found["ratio_p95_short"] == 0.4
    assert found["ratio_p95_short_of_rounds"] == [0.25, 0.4, 1.5]


@pytest.mark.parametrize(
    ("ours", "theirs", "same", "passed"),
    [
        (sample(0.2), sample(0.5), True, True),
        (sample(0.3), sample(0.5), True, False),
        (sample(0.2), sample(0.5, seconds=11), False, False),
        (sample(0.2), sample(0.5, seconds=10.3), True, True),
        (sample(0.2, errors=1), sample(0.5), True, False),
    ],
)
def test_what_passes(ours: Sample, theirs: Sample, same: bool, passed: bool) -> None:
    found = judge({CONTINUOUS: [ours], STATIC: [theirs]}, 0.5)
    assert (found["same_throughput"], found["passed"]) == (same, passed)


def test_both_ways_of_a_real_engine_are_reported(transformer_package: Package, tmp_path: Path) -> None:
    pairs = tmp_path / "invented.en-fr.tsv"
    pairs.write_text("".join(f"{text}\t{text}\n" for text in sentences(40, seed=3)), encoding="utf-8")
    options = ["--package", transformer_package.path, "--rounds", 2, "--sentences", 40, "--rate", 400]
    arguments = [str(each) for each in (*options, "--output", tmp_path / "out", pairs)]
    result = CliRunner().invoke(app, arguments)
    report = json.loads((tmp_path / "out" / "arrivals.json").read_text())
    (row,) = report["rows"]
    assert result.exit_code == (0 if row["passed"] else 1), result.output
    assert report["versions"]["onnxruntime"]
    assert (row["model"], row["precision"], row["offered_per_s"]) == ("tiny-transformer", "int8", 400)
    assert row["capacity_per_s"].keys() == row["ways"].keys() == {CONTINUOUS, STATIC}
    for way in row["ways"].values():
        assert 0 < way["achieved_per_s"] < 800
        assert way["errors"] == 0
        assert 0 < way["short"]["p50_ms"] <= way["short"]["p95_ms"] <= way["short"]["p99_ms"]
    assert len(row["ratio_p95_short_of_rounds"]) == 2
    assert "p95 of short sentences" in result.output


def test_a_set_without_short_sentences_is_refused(transformer_package: Package, tmp_path: Path) -> None:
    pairs = tmp_path / "long.en-fr.tsv"
    pairs.write_text("ba ti ko lu sa mi ré du ba\tba ti ko lu sa mi ré du ba\n", encoding="utf-8")
    options = ["--package", transformer_package.path, "--rounds", 1, "--sentences", 4, "--output", tmp_path / "out"]
    result = CliRunner().invoke(app, [str(each) for each in (*options, pairs)])
    assert result.exit_code == 2, result.output
    assert not (tmp_path / "out").exists()
