import asyncio
import json
from collections import Counter
from random import Random

import pytest

from loadtests import steady
from loadtests.lean import Answer, Client
from loadtests.overload import Traffic
from loadtests.steady import Tally, arrivals, arrive, judge, windows
from loadtests.traffic import Model, Question
from tests.loadtests.stub import SENTENCE

GOOD = json.dumps({"translations": [{"text": "mot", "sentences": [SENTENCE]}]})
QUESTION = Question("stub sentence", {"text": "word"})


def minute(*answers, memory=100.0):
    tally = Tally(memory=[memory])
    for answer in answers or [Answer(200, 0.1, 0.001, body=GOOD)]:
        tally.add(QUESTION, answer)
    return tally


@pytest.fixture
def traffic():
    return Traffic(Client("http://127.0.0.1:1"), [Model("stub", [("en", "fr")])], {"en": ["One.", "Two."]}, seed=3)


def test_a_server_that_stays_what_it_is_passes():
    verdict = judge([minute(memory=80), minute(memory=100), minute(memory=103)], settle=2)
    assert verdict["passed"]
    assert verdict["missed"] == []
    assert verdict["memory"] == {
        "reference_mb": 100,
        "last_mb": 103,
        "last_growth_percent": 3.0,
        "largest_growth_percent": 3.0,
    }
    assert verdict["reply_ms"]["p50"] == 100


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (minute(memory=103.1), "memory grew by 3.1 %"),
        (minute(Answer(500, 0.1, 0.0)), "1 of status 500"),
        (minute(Answer(0, 0.1, 0.0)), "1 of status connection lost"),
        (minute(Answer(200, 0.1, 0.0, body='{"translations": []}')), "1 replies: wrong number of translations"),
    ],
)
def test_what_is_missed_is_named(last, words):
    verdict = judge([minute(), last], settle=1)
    assert not verdict["passed"]
    assert verdict["missed"] == [words]


def test_memory_that_comes_back_has_grown_all_the_same():
    verdict = judge([minute(memory=100), minute(memory=110), minute(memory=100)], settle=1)
    assert verdict["missed"] == ["memory grew by 10.0 %"]
    assert verdict["memory"]["last_growth_percent"] == 0


def test_refusals_are_counted_apart_from_errors():
    tallies = [minute(), minute(Answer(429, 0.01, 0.0, "1"), Answer(502, 0.01, 0.0))]
    [row] = windows(tallies, 5)
    assert (row["replies"], row["refused"], row["errors"]) == (1, 1, 1)
    assert judge(tallies, 1)["missed"] == ["1 of status 502"]


def test_a_row_for_each_window():
    rows = windows([minute(memory=each) for each in (1, 2, 3, 4, 5)], 2)
    assert [row["to_minute"] for row in rows] == [2, 4, 5]
    assert [row["memory_mb"] for row in rows] == [1.5, 3.5, 5]


def test_arrivals_come_at_the_rate_and_are_the_same_again(traffic):
    first, second = (list(arrivals(traffic, 100, 20)) for _ in range(2))
    assert first == second
    assert len(first) == pytest.approx(2000, rel=0.1)
    assert all(0 < at < 20 for at, _, _ in first)
    assert len(Counter(request for _, _, request in first)) > 10


def count(traffic, rate, seconds):
    return len(list(arrivals(traffic, rate, seconds)))


def test_every_arrival_ends_in_a_tally(traffic, monkeypatch):
    random = Random(1)

    def answer(request, due):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(random.random() / 10, future.set_result, Answer(200, 0.01, 0.0, body=GOOD))
        return future

    monkeypatch.setattr(traffic.client, "ask", answer)
    passed: list[float] = []
    tallies = asyncio.run(arrive(traffic, 200, 1.0, lambda: 5.0, passed.append))
    assert [tally.statuses for tally in tallies] == [{"200": count(traffic, 200, 1.0)}]
    assert tallies[0].memory == [5.0]
    assert len(passed) == 1


def test_what_is_never_answered_is_counted(traffic, monkeypatch):
    monkeypatch.setattr(steady, "PATIENCE", 0.0)
    monkeypatch.setattr(traffic.client, "ask", lambda request, due: asyncio.get_running_loop().create_future())
    [tally] = asyncio.run(arrive(traffic, 200, 0.1, lambda: 5.0, lambda _: None))
    assert tally.statuses == {"no answer": count(traffic, 200, 0.1)}
