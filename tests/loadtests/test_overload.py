import asyncio
import json
import time
from typing import Any

import pytest
from typer.testing import CliRunner

from loadtests import overload
from loadtests.lean import Answer
from loadtests.overload import Load, judge, normal_after
from loadtests.traffic import Question
from tests.loadtests.stub import SENTENCE, right

GOOD = json.dumps({"translations": [{"text": "mot", "sentences": [SENTENCE]}]})
QUESTION = Question("stub sentence", {"text": "word"})


def good(took: float = 0.1, body: str = GOOD) -> Answer:
    return Answer(200, took, 0.001, body=body)


def refused(took: float = 0.005, retry_after: str = "1") -> Answer:
    return Answer(429, took, 0.001, retry_after)


def after(*milliseconds: float) -> list[tuple[float, Answer]]:
    """Single requests, ten a second."""
    return [(number / 10, good(each / 1000)) for number, each in enumerate(milliseconds)]


def load(*answers: Answer | None, probes: list[tuple[float, Answer]] | None = None, factor: float = 1) -> Load:
    questions = [QUESTION] * len(answers)
    return Load(factor, 10.0, 2.0, questions, list(answers), 0.1, [probes or after(*[10] * 30)])


def row(*answers: Answer | None, **options: Any) -> dict[str, Any]:
    return load(*answers, **options).row(idle_ms=10.0)


def test_goodput_is_what_comes_within_a_second():
    found = row(good(0.2), good(1.0), good(1.01), refused(), None)
    assert (found["goodput_per_s"], found["replies_per_s"]) == (1.0, 1.5)
    assert found["statuses"] == {"200": 3, "429": 1, "no answer": 1}
    assert (found["refused"], found["unanswered"]) == (1, 1)
    assert found["reply_ms"]["p50"] == 1000


def test_a_server_that_keeps_its_promises_passes():
    verdict = judge([row(good(), good()), row(good(), good(), refused(), factor=8)])
    assert verdict == {"goodput_kept": 1.0, "missed": [], "passed": True}


@pytest.mark.parametrize(
    ("answers", "probes", "words"),
    [
        ([good()], None, "goodput at 8 times the capacity is 50% of the best"),
        ([good(), good(), refused(0.03)], None, "a refusal takes 30 ms"),
        ([good(), good(), refused(retry_after="")], None, "without retry after: 1"),
        ([good(), good(), Answer(503, 0.1, 0.0)], None, "server errors: 1"),
        ([good(), good(), Answer(0, 0.1, 0.0)], None, "unanswered: 1"),
        ([good(), good(), None], None, "unanswered: 1"),
        ([good(), good(), good(body="{}")], None, "wrong: {"),
        ([good(), good()], after(*[50] * 12, *[10] * 18), "normal after 1.2 s"),
        ([good(), good()], after(*[50] * 30), "normal after None s"),
    ],
)
def test_what_is_missed_is_said(answers, probes, words):
    verdict = judge([row(good(), good()), row(*answers, probes=probes, factor=8)])
    assert not verdict["passed"]
    assert any(words in line for line in verdict["missed"]), verdict["missed"]


def test_rounds_are_counted_together():
    quick, slow = load(good(), refused()), load(good(), good(2.0), probes=after(*[50] * 5, *[10] * 25))
    slow.cpu = 0.3
    found = (quick + slow).row(idle_ms=10.0)
    assert (found["goodput_per_s"], found["replies_per_s"], found["arrivals"]) == (0.5, 0.8, 4)
    assert found["generator"]["cpu"] == 0.2
    assert found["normal_after_s"] == 0.5
    assert (quick + load(good(), probes=after(*[50] * 30))).row(idle_ms=10.0)["normal_after_s"] is None


def test_when_latency_is_normal_again():
    assert normal_after(after(*[10] * 20), 12) == 0
    assert normal_after(after(*[50] * 5, *[10] * 20), 12) == 0.5
    assert normal_after(after(10, *[50] * 5, *[10] * 20), 12) == 0.6
    assert normal_after(after(*[50] * 20), 12) is None
    assert normal_after([(at, refused()) for at, _ in after(*[10] * 20)], 12) is None


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(overload, "WATCH", 0.3)
    monkeypatch.setattr(overload, "ROUNDS", 1)


def call(url: str, output) -> tuple[int, str, dict[str, Any]]:
    import typer

    app = typer.Typer()
    app.command()(overload.main)
    arguments = ["--url", url, "--seconds", "1", "--rounds", "2", "--clients", "2", "--output", str(output)]
    outcome = CliRunner().invoke(app, arguments)
    path = output / "overload.json"
    return outcome.exit_code, outcome.output, json.loads(path.read_text()) if path.exists() else {}


@pytest.mark.usefixtures("short")
def test_the_whole_of_it(stub_server, tmp_path):
    """A server that needs 20 ms for each request, whoever else asks, has four times the capacity of two clients."""
    refusals = 0

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        nonlocal refusals
        time.sleep(0.02)
        refusals += 1
        return (429, {}) if refusals % 10 == 0 else right(body)

    with stub_server(answer) as url:
        code, printed, report = call(url, tmp_path)
    assert code == 1
    assert "without retry after" in printed
    assert [each["factor"] for each in report["rows"]] == [1, 2, 4, 8]
    assert 20 < report["capacity_per_s"] < 100
    assert report["idle_ms"]["p50"] > 20
    for each in report["rows"]:
        assert each["statuses"]["200"] + each["refused"] == each["arrivals"] > 0
        assert each["offered_per_s"] == pytest.approx(each["factor"] * report["capacity_per_s"], abs=1)
        assert each["arrivals"] == pytest.approx(2 * each["offered_per_s"], rel=0.6)
        assert each["generator"]["late_ms"]["p50"] < 500


def test_a_server_that_is_faster_than_requests_are_prepared(stub_server, monkeypatch):
    monkeypatch.setattr(overload, "PREPARED", 3)

    async def reached(url: str) -> float:
        traffic = overload.traffic_to(url, seed=1)
        try:
            return await overload.capacity(traffic, 2, 0.5)
        finally:
            traffic.client.close()

    with stub_server() as url:
        assert asyncio.run(reached(url)) > 0


def test_without_a_server(stub_server, tmp_path):
    with stub_server(ready=503) as url:
        code, printed, _ = call(url, tmp_path)
    assert code == 2
    assert "readyz" in printed
