"""The conditions of a request on its translations, on the way to the engine and in the reply."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from service import errors, plan, reply
from service.core import Translator
from service.engine import Hypothesis, Job
from service.text.tokens import Tokenizer
from tests.service.fakes import EchoEngine, model, started, translate


class ChangingEngine(EchoEngine):
    """Begins with the prefix; ``change`` makes of a job, a rank and a hypothesis what is answered."""

    def __init__(self, change: Callable[[int, Hypothesis], Hypothesis] = lambda rank, found: found) -> None:
        super().__init__()
        self.change = change

    def hypothesis(self, job: Job, rank: int) -> Hypothesis:  # type: ignore[override]
        found = super().hypothesis(job, rank)
        ids = [*job.prefix, *found.token_ids]
        attention = np.full((len(ids), len(job.source_ids)), 1 / len(job.source_ids), np.float32)
        found = replace(found, token_ids=ids, attention=attention if job.attention else None)
        return self.change(rank, found)


def test_what_is_not_asked_for_is_left_to_the_engine(translator: Translator, engine: EchoEngine) -> None:
    translate(translator, "the cat")
    job = engine.jobs[-1]
    assert job == Job(job.source_ids, deadline=job.deadline, prefix=[])


def test_conditions_reach_the_engine(translator: Translator, engine: EchoEngine) -> None:
    translate(translator, "the cat", length_penalty=0.5, no_repeat_ngram_size=3, min_length=2, max_length=39)
    job = engine.jobs[-1]
    assert (job.length_penalty, job.no_repeat_ngram, job.min_length, job.max_length) == (0.5, 3, 2, 39)
    assert job.repetition_guard


def test_what_is_forced_leaves_room_for_a_translation(translator: Translator, engine: EchoEngine) -> None:
    manifest = translator.registry.models[0].manifest
    for options in ({"min_length": 30}, {"target_prefix": "le chat dort sur une table"}):
        translate(translator, "milk", **options)
        job = engine.jobs[-1]
        forced = max(job.min_length, len(job.prefix))
        assert forced > 0
        assert job.longest(manifest) == min(Job(job.source_ids).longest(manifest) + forced, manifest.max_length - 1)
        assert job.longest(manifest) > forced


def test_the_parts_of_a_sentence_share_its_least_length(translator: Translator, engine: EchoEngine) -> None:
    translate(translator, "the cat sleeps on a red table " * 10 + ".", min_length=20)
    shares = [job.min_length for job in engine.jobs if job.min_length]
    assert len(shares) > 2
    assert 20 <= sum(shares) < 20 + len(shares)
    translate(translator, "the cat. milk.", min_length=20)
    assert [job.min_length for job in engine.jobs[-2:]] == [20, 20]


@pytest.mark.parametrize("prefix", ["le chat", "  le chat\n", "le  ch", "ｌｅ\u00a0ﬁ", "😀", "\x01"])
def test_the_first_sentence_begins_with_the_prefix(tokenizer: Tokenizer, prefix: str) -> None:
    engine = ChangingEngine()
    translator = started([model(tokenizer, engine)])
    text = "\n the cat drinks. It sleeps!"
    found = translate(translator, text, target_prefix=prefix, attention="weights", tokens="subwords", alternatives=1)
    first, second = found.sentences
    assert first.target.text.startswith(prefix.strip())
    assert found.text.startswith("\n " + prefix.strip())
    assert found.text.endswith("the cat drinks. It sleeps!")
    assert found.alternatives[0].text.startswith("\n " + prefix.strip())
    assert second.target.text == "It sleeps!"
    assert [list(job.prefix) for job in engine.jobs[-2:]] == [tokenizer.encode([prefix.strip()])[0], []]
    for sentence in found.sentences:
        assert sentence.weights is not None
        assert len(sentence.weights) == len(sentence.target_tokens or [])
        for span in [sentence.target, *(sentence.target_tokens or [])]:
            assert found.text[span.start : span.end] == span.text


@pytest.mark.parametrize(("text", "source"), [("", "en"), ("\n \x01", "en"), ("le chat boit du lait.", None)])
def test_a_prefix_that_was_not_used_is_told(translator: Translator, text: str, source: str | None) -> None:
    found = translate(translator, text, source=source, target_prefix="le chat")
    assert found.text == text
    assert found.warnings[-1] == plan.PREFIX_UNUSED


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"min_length": 40}, "min_length"),
        ({"max_length": 40}, "max_length"),
        ({"target_prefix": "x " * 30}, "target_prefix"),
        ({"target_prefix": "le chat dort", "max_length": 2}, "target_prefix"),
    ],
)
def test_what_the_model_cannot_write_is_refused(
    translator: Translator, engine: EchoEngine, options: dict[str, object], field: str
) -> None:
    sent = len(engine.jobs)
    with pytest.raises(errors.InvalidRequest, match=f"^{field}: .* [0-9]+ sub-words|at most") as caught:
        translate(translator, "the cat", **options)
    assert caught.value.field == field
    assert len(engine.jobs) == sent


def test_a_text_that_is_not_translated_has_no_lengths(translator: Translator) -> None:
    found = translate(translator, "Le chat boit du lait.", source=None, min_length=40)
    assert found.warnings == [plan.UNCHANGED]


@pytest.mark.parametrize(("cut", "warning"), [("truncated", reply.TRUNCATED), ("repeated", reply.REPEATED)])
def test_what_was_cut_says_so(tokenizer: Tokenizer, cut: str, warning: str) -> None:
    def end(rank: int, found: Hypothesis) -> Hypothesis:
        return replace(found, truncated=cut == "truncated", repeated=cut == "repeated")

    translator = started([model(tokenizer, ChangingEngine(end))])
    found = translate(translator, "the cat. milk", alternatives=1)
    assert found.truncated
    assert found.warnings == [warning]
    assert len(found.alternatives) == 1


def test_what_was_cut_is_no_alternative_to_what_was_not(tokenizer: Tokenizer) -> None:
    translator = started([model(tokenizer, ChangingEngine(lambda rank, found: replace(found, repeated=rank > 0)))])
    found = translate(translator, "the cat. milk", alternatives=1)
    assert (found.truncated, found.warnings, found.alternatives) == (False, [], [])


def test_scores_are_what_the_search_ranked_by(tokenizer: Tokenizer) -> None:
    def punish(rank: int, found: Hypothesis) -> Hypothesis:
        return replace(found, score=found.log_prob / (len(found.token_ids) + 1) ** 0.5)

    translator = started([model(tokenizer, ChangingEngine(punish))])
    one = translate(translator, "the cat drinks", alternatives=1, length_penalty=0.5)
    assert one.score == one.sentences[0].score < -0.5
    assert one.alternatives[0].score == pytest.approx(2 * one.score, abs=1e-3)
    two = translate(translator, "the cat drinks. milk", length_penalty=0.5)
    scores = [sentence.score for sentence in two.sentences]
    lengths = [len(tokenizer.encode([sentence.source.text])[0]) + 1 for sentence in two.sentences]
    assert two.score == pytest.approx(np.average(scores, weights=lengths), abs=1e-3)
