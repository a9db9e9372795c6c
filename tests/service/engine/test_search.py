"""Rules of the search, on models whose next token depends on the last one only, so that a test can write them down."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.package import Package
from service.engine import Hypothesis, Job
from service.engine.job import LOOP_LENGTH, LOOP_MARGIN, LOOP_TIMES, LOOP_UNIT, loop_in
from tests.packages import markov_package
from tests.service.engine.helpers import running, translate, translate_alone
from tests.service.engine.reference import assert_same, first_turn, oracles, repeats, search

BOS, EOS, SIZE = 2, 3, 70
SOURCE = [4, 9, EOS]
FILLERS = range(40, SIZE)
Follow = dict[int, dict[int, float]]
Make = Callable[[Follow], Package]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A model from token to what follows it with which probability; the rest is shared by many that do not matter."""

    def package(follow: Follow) -> Package:
        probability = np.full((SIZE, SIZE), 1e-20)
        for token in range(SIZE):
            following = follow.get(token, {})
            probability[token, FILLERS] = max(1 - sum(following.values()), 1e-12) / len(FILLERS)
            probability[token, list(following)] = list(following.values())
        table = np.log(probability)
        return markov_package(tmp_path, table)

    return package


def ask(package: Package, *jobs: Job) -> list[list[Hypothesis]]:
    with running(package) as engine:
        return translate(engine, jobs)


GARDEN: Follow = {BOS: {10: 0.6, 11: 0.4}, 10: {20: 0.3, 21: 0.2, 22: 0.1}, 11: {30: 0.9}, 20: {EOS: 1}, 30: {EOS: 0.9}}
"""The likelier first word leads into a dead end."""


def test_a_beam_finds_what_greedy_misses(make: Make) -> None:
    (greedy,), (best,) = ask(make(GARDEN), Job(SOURCE), Job(SOURCE, beam_size=2))
    assert greedy.token_ids == [10, 20]
    assert best.token_ids == [11, 30]
    assert best.log_prob == pytest.approx(np.log(0.4 * 0.9 * 0.9), abs=1e-4)
    assert best.score == pytest.approx(best.log_prob / 3)
    assert best.whole


SHORT_OR_LONG: Follow = {
    BOS: {10: 0.5, 11: 0.5},
    10: {EOS: 0.5},
    11: {12: 0.7},
    12: {13: 0.7},
    13: {14: 0.9},
    14: {EOS: 0.9},
}


@pytest.mark.parametrize(("penalty", "first"), [(0.0, [10]), (1.0, [11, 12, 13, 14]), (2.0, [11, 12, 13, 14])])
def test_the_length_penalty_ranks(make: Make, penalty: float, first: list[int]) -> None:
    """Without any, the shorter hypothesis has the higher log-probability."""
    ((best, other),) = ask(make(SHORT_OR_LONG), Job(SOURCE, beam_size=2, n_best=2, length_penalty=penalty))
    assert best.token_ids == first
    assert sorted([best.token_ids, other.token_ids]) == [[10], [11, 12, 13, 14]]
    assert best.score == pytest.approx(best.log_prob / (len(first) + 1) ** penalty)


def test_an_end_ranked_below_the_beam_does_not_count(make: Make) -> None:
    follow: Follow = {BOS: {10: 0.5, 11: 0.4, EOS: 0.1}, 10: {12: 0.9}, 11: {13: 0.9}, 12: {EOS: 0.9}, 13: {EOS: 0.9}}
    ((*hypotheses,),) = ask(make(follow), Job(SOURCE, beam_size=2, n_best=2))
    assert [hypothesis.token_ids for hypothesis in hypotheses] == [[10, 12], [11, 13]]


def test_an_immediate_end_is_an_empty_translation(make: Make) -> None:
    jobs = [Job(SOURCE, attention=True, beam_size=beam) for beam in (1, 2)]
    for (best,) in ask(make({BOS: {EOS: 1.0}}), *jobs):
        assert best.token_ids == []
        assert best.whole
        assert best.attention is not None
        assert best.attention.shape == (0, len(SOURCE))


def test_what_was_cut_comes_behind_what_ended(make: Make) -> None:
    """However likely it is."""
    follow: Follow = {BOS: {10: 0.99, 11: 0.01}, 10: {12: 1.0}, 12: {14: 1.0}, 14: {12: 1.0}, 11: {EOS: 1.0}}
    ((first, second),) = ask(make(follow), Job(SOURCE, beam_size=2, n_best=2, max_length=5))
    assert first.token_ids == [11]
    assert (second.token_ids, second.truncated) == ([10, 12, 14, 12, 14], True)
    assert second.score > first.score


def test_a_whole_hypothesis_and_its_cut_twin_are_one(make: Make) -> None:
    """At the longest length, a hypothesis may end and go on in the same step."""
    follow: Follow = {BOS: {10: 1.0}, 10: {11: 1.0}, 11: {EOS: 0.4, 12: 0.35, 13: 0.25}}
    ((*hypotheses,),) = ask(make(follow), Job(SOURCE, beam_size=3, n_best=3, max_length=2))
    assert [hypothesis.token_ids for hypothesis in hypotheses].count([10, 11]) == 1
    assert hypotheses[0].whole


@pytest.mark.parametrize(
    "after", [{14: 1.0}, {14: 0.5, 15: 0.5}], ids=["both go on", "one takes the whole beam in the step for EOS"]
)
def test_what_was_cut_is_ranked_without_the_step_for_eos(make: Make, after: dict[int, float]) -> None:
    """However likely that one goes on; and whoever asks for an alternative gets the same best."""
    follow: Follow = {BOS: {10: 0.9, 11: 0.1}, 10: {12: 1.0}, 11: {13: 1.0}, 13: after}
    (best,), both = ask(make(follow), *(Job(SOURCE, beam_size=2, n_best=n_best, max_length=2) for n_best in (1, 2)))
    assert [each.token_ids for each in both] == [[10, 12], [11, 13]]
    assert [each.score for each in both] == pytest.approx([np.log(0.9) / 2, np.log(0.1) / 2], abs=1e-4)
    assert best.token_ids == [10, 12]
    assert best.truncated


def test_an_alternative_to_a_loop_changes_nothing(make: Make) -> None:
    """What is cut at the longest length is better than what was cut as a loop before."""
    likely: Follow = {token: {token + 1: 0.999} for token in range(10, 35)}
    follow: Follow = {BOS: {10: 0.9, 38: 0.1}, 38: {38: 1.0}, **likely}
    jobs = [Job(SOURCE, beam_size=2, n_best=n_best) for n_best in (1, 2)]
    (best,), both = ask(make(follow), *jobs)
    assert [each.repeated for each in both] == [False, True]
    assert_same([best], both[:1])


def test_a_whole_hypothesis_and_its_loop_are_one(make: Make) -> None:
    follow: Follow = {BOS: {10: 1.0}, 10: {11: 1.0}, 11: {12: 1.0}, 12: {13: 1.0}, 13: {10: 0.8, EOS: 0.2}}
    (found,) = ask(make(follow), Job([EOS], beam_size=4, n_best=4))
    assert [each.whole for each in found if each.token_ids == [10, 11, 12, 13]] == [True]


LOOPS = {
    1: {BOS: {10: 1.0}, 10: {20: 1.0}, 20: {20: 1.0}},
    2: {BOS: {10: 1.0}, 10: {20: 1.0}, 20: {21: 1.0}, 21: {20: 1.0}},
}


@pytest.mark.parametrize("unit", LOOPS)
@pytest.mark.parametrize("beam", [1, 2])
def test_a_loop_is_cut_to_one_turn_and_told(make: Make, unit: int, beam: int) -> None:
    jobs = [Job(SOURCE, beam_size=beam, attention=True, repetition_guard=guard) for guard in (True, False)]
    (guarded, *_), (free, *_) = ask(make(LOOPS[unit]), *jobs)
    assert guarded.token_ids == [10, 20, 21][: 1 + unit]
    assert (guarded.repeated, guarded.truncated, guarded.whole) == (True, False, False)
    assert guarded.attention is not None
    assert guarded.attention.shape == (1 + unit, len(SOURCE))
    assert len(free.token_ids) == 2 * len(SOURCE) + 10
    assert (free.repeated, free.truncated) == (False, True)


def test_a_source_may_be_followed_in_its_repetitions(make: Make) -> None:
    """What is not much longer than its source is no loop, whatever it looks like."""
    package = make(LOOPS[1])
    source = [4, *[9] * 20, EOS]
    ((short,), (long,)) = ask(package, *(Job(source, max_length=len(source) + more) for more in (LOOP_MARGIN - 1, 9)))
    assert (short.repeated, short.truncated) == (False, True)
    assert (long.repeated, long.truncated) == (True, False)


def test_a_lone_row_is_decoded_as_among_others(make: Make) -> None:
    """Whatever is asked for; to the bit, since this model's numbers are the same in any company."""
    follow: Follow = {BOS: {10: 0.6}, 10: {11: 0.7}, 11: {12: 0.8}, 12: {10: 0.5, EOS: 0.4}}
    jobs = [
        Job(SOURCE, attention=True),
        Job(SOURCE, max_length=3),
        Job(SOURCE, repetition_guard=False),
        Job(SOURCE, min_length=9, attention=True),
        Job(SOURCE, prefix=(20, 11), attention=True),
        Job(SOURCE, no_repeat_ngram=1),
        Job([4, *[9] * 9, EOS], max_length=30),
    ]
    with running(make(follow), slots=len(jobs)) as engine:
        alone, together = translate_alone(engine, jobs), translate(engine, jobs)
    for (one,), (other,) in zip(alone, together, strict=True):
        assert replace(one, attention=None) == replace(other, attention=None)
        assert np.array_equal(one.attention, other.attention)  # type: ignore[arg-type]
    ways = {(one.whole, one.truncated, one.repeated) for (one,) in alone}
    assert len(ways) == 3, "they should end in every way there is"


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        ([], 0),
        ([1], 1),
        ([1] * (LOOP_LENGTH - 1), LOOP_LENGTH - 1),
        ([1] * LOOP_LENGTH, 1),
        ([5, 6, *[1] * LOOP_LENGTH], 3),
        ([1, 2] * 4, 8),
        ([1, 2] * 5, 2),
        ([7, *[1, 2] * 4, 1], 3),
        ([1, 2, 3] * LOOP_TIMES, 3),
        ([1, 2, 3, 4] * (LOOP_TIMES - 1), 8),
        ([1, 2, 3, 4] * LOOP_TIMES, 4),
        ([*[1] * 20, 2], 21),
        ([*range(LOOP_UNIT)] * LOOP_TIMES, LOOP_UNIT),
        ([*range(LOOP_UNIT + 1)] * LOOP_TIMES, LOOP_TIMES * (LOOP_UNIT + 1)),
    ],
)
def test_a_loop_is_a_unit_three_times_and_nine_tokens(tokens: list[int], kept: int) -> None:
    assert loop_in(np.array(tokens, np.int32)) == kept


@given(
    st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), min_size=1, max_size=18), st.integers(0, 40)
)
def test_loop_in_is_its_definition(before: list[int], unit: list[int], length: int) -> None:
    tokens = before + [unit[i % len(unit)] for i in range(length)]
    assert loop_in(np.array(tokens, np.int32)) == first_turn(tokens)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.5, 2.0, 6.0]),
    st.lists(st.integers(4, SIZE - 1), max_size=9),
    st.integers(1, 4),
    st.integers(0, 4),
    st.booleans(),
)
def test_any_model_is_searched_by_the_rules(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    spread: float,
    words: list[int],
    beam: int,
    size: int,
    guard: bool,
) -> None:
    random = np.random.default_rng(seed)
    table = random.normal(size=(SIZE, SIZE)) * spread
    table[:, EOS] += random.uniform(0, 2 * spread)
    package = markov_package(tmp_path_factory.mktemp("markov"), table)
    job = Job([4, *words, EOS], beam_size=beam, n_best=beam, no_repeat_ngram=size, repetition_guard=guard)
    (found,) = ask(package, job)
    assert not size or not any(repeats(hypothesis.token_ids, size) for hypothesis in found)
    assert len(found) >= 1
    expected = search(oracles(package, "fp32", SIZE, [job.source_ids])[0], job)
    # Two ways through the same pairs of tokens are equally probable: which comes first, rounding decides.
    for number, (one, other) in enumerate(zip(found, expected, strict=False)):
        if pairs(one) == pairs(other):
            expected[number] = replace(other, token_ids=one.token_ids)
    assert_same(found, expected)


def pairs(hypothesis: Hypothesis) -> list[tuple[int, int]]:
    return sorted(pairwise([BOS, *hypothesis.token_ids]))
