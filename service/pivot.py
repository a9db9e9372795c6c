"""Through a third language: a text whose direction no model has is translated twice.

The sentences of the first translation are the texts of the second, all of them at once; the reply has those of the
first with the translations of the second. Its attention is the product of both, over the words between.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.plan import PREFIX_UNUSED, Plan
from service.registry import in_turn
from service.reply import Cells, weighted
from service.schemas.reply import Alternative, HonouredTerm, Link, Sentence, Span, TranslateReply, Translation
from service.schemas.request import TranslateRequest
from service.text import alignment
from service.text.protect import Protected

Translate = Callable[[TranslateRequest, Sequence[Sequence[Protected]]], Awaitable[TranslateReply]]
FIRST_LEG: dict[str, Any] = {
    "alternatives": 0,
    "min_length": 0,
    "max_length": None,
    "target_prefix": None,
}
"""What the options of the reply mean for a text that is not shown."""


async def translate(
    request: TranslateRequest,
    plans: Sequence[Plan],
    protected: Sequence[Sequence[Protected]],
    cells: Cells,
    plain: Translate,
) -> list[tuple[str, Translation]]:
    """The names of both models, and the translation, of each text; all are into the same language.

    ``plain`` translates in directions that a model has. Raises what it raises, and :class:`service.errors.TooLarge`
    where there are not ``cells`` enough.
    """
    found: dict[int, tuple[str, Translation]] = {}
    for source, pivot in dict.fromkeys((plan.source, plan.pivot) for plan in plans):
        same = [index for index, plan in enumerate(plans) if (plan.source, plan.pivot) == (source, pivot)]
        chosen = [plans[index] for index in same]
        spans = [protected[index] for index in same]
        found |= zip(same, await _through(request, chosen, spans, cells, plain), strict=True)
    return [found[index] for index in range(len(plans))]


async def _through(
    request: TranslateRequest,
    plans: Sequence[Plan],
    protected: Sequence[Sequence[Protected]],
    cells: Cells,
    plain: Translate,
) -> list[tuple[str, Translation]]:
    """All by the same way."""
    terms = request.glossary or {}
    attention = "none" if request.attention == "none" else "weights"
    way = {"source": plans[0].source, "target": plans[0].pivot, "attention": attention}
    begun = await plain(request.model_copy(update=FIRST_LEG | way | {"text": [plan.text for plan in plans]}), protected)
    sentences = [sentence for first in begun.translations for sentence in first.sentences]
    kept = [
        _still(sentence, spans)
        for first, spans in zip(begun.translations, protected, strict=True)
        for sentence in first.sentences
    ]
    # The first translation has put the terms where they belong; the second leaves them there.
    way = {"source": plans[0].pivot, "target": plans[0].target, "attention": attention, "split_sentences": "none"}
    onward = request.model_copy(update=way | {"glossary": {term: term for term in terms.values()} or None})
    names, second = [begun.model], []
    # Only a single text has a prefix: there its first sentence begins with it.
    for part in (slice(0, 1), slice(1, None)) if request.target_prefix else (slice(None),):
        if sentences[part]:
            texts = [sentence.target.text for sentence in sentences[part]]
            prefix = request.target_prefix if part.start == 0 else None
            reply = await plain(onward.model_copy(update={"text": texts, "target_prefix": prefix}), kept[part])
            names.append(reply.model)
            second += reply.translations
    if request.target_prefix and not sentences:
        plans[0].warnings.append(PREFIX_UNUSED)
    rest = iter(second)
    joined = [
        Joined(request, plan, first, [next(rest) for _ in first.sentences], cells)
        for plan, first in zip(plans, begun.translations, strict=True)
    ]
    translations = await asyncio.to_thread(lambda: [each.translation() for each in joined])
    name = in_turn(names)
    return [(name, translation) for translation in translations]


def in_order(translation: Translation) -> Iterator[Sentence]:
    """The sentences as a stream has them: with what stands before each."""
    position = 0
    for sentence in translation.sentences:
        yield sentence.model_copy(update={"before": translation.text[position : sentence.target.start]})
        position = sentence.target.end


def _still(sentence: Sentence, protected: Sequence[Protected]) -> list[Protected]:
    """Where what is protected in the source of a sentence stands in its translation, perhaps in another order. Each
    text is a key, which is there once.
    """
    found, text = [], sentence.target.text
    for span in protected:
        inside = sentence.source.start <= span.start and span.end <= sentence.source.end
        start = text.find(span.text) if inside and span.text else -1
        if start >= 0:
            found.append(Protected(start, start + len(span.text), span.text, span.kind))
    return sorted(found, key=lambda span: span.start)


class Joined:
    """One translation from those of a text and of its sentences."""

    def __init__(
        self,
        request: TranslateRequest,
        plan: Plan,
        first: Translation,
        second: Sequence[Translation],
        cells: Cells,
    ) -> None:
        self.request, self.plan, self.first, self.second, self.cells = request, plan, first, second, cells

    def translation(self) -> Translation:
        first, second = self.first, self.second
        text = self._text([each.text for each in second])
        sentences, offset, position = [], 0, 0
        for sentence, each in zip(first.sentences, second, strict=True):
            offset += sentence.target.start - position
            sentences.append(self._sentence(sentence, each, offset))
            offset, position = offset + len(each.text), sentence.target.end
        lengths = [max(len(each.text), 1) for each in second]
        scores = [each.score for each in sentences]
        warnings = [*self.plan.warnings, *first.warnings, *(warning for each in second for warning in each.warnings)]
        return Translation(
            text=text,
            source=self.plan.source,
            target=self.plan.target,
            pivot=self.plan.pivot,
            detected=self.plan.detected,
            score=round(weighted([*zip(lengths, scores, strict=True)]), 4),
            truncated=any(each.truncated for each in (first, *second)),
            warnings=list(dict.fromkeys(warnings)),
            alternatives=self._alternatives(text),
            sentences=sentences,
            glossary=None if self.request.glossary is None else self._glossary(),
        )

    def _text(self, translations: Sequence[str]) -> str:
        """The first translation with others in place of its sentences."""
        parts, position = [], 0
        for sentence, text in zip(self.first.sentences, translations, strict=True):
            parts += [self.first.text[position : sentence.target.start], text]
            position = sentence.target.end
        return "".join([*parts, self.first.text[position:]])

    def _sentence(self, first: Sentence, second: Translation, offset: int) -> Sentence:
        """``offset``: where it begins in the reply's text."""
        plain = Sentence(
            source=first.source,
            target=Span(text=second.text, start=offset, end=offset + len(second.text)),
            score=round(first.score + second.score, 4),
        )
        if self.request.attention == "none":
            return plain
        source = first.source_tokens or []
        target = [token for sentence in second.sentences for token in sentence.target_tokens or []]
        is_whole = self.request.attention == "weights"
        if is_whole:
            self.cells.take(len(target), len(source))
        weights = compose(first, second)
        return plain.model_copy(
            update={
                "source_tokens": source,
                "target_tokens": [_moved(token, offset) for token in target],
                "alignment": [Link(source=i, target=j, weight=weight) for i, j, weight in alignment.links(weights)],
                "weights": weights if is_whole else None,
            }
        )

    def _alternatives(self, best: str) -> list[Alternative]:
        """The n-th has the n-th alternative of every sentence, or its best translation where there are fewer."""
        longest = max((len(each.alternatives) for each in self.second), default=0)
        read: dict[str, float] = {}
        for rank in range(longest):
            chosen = [each.alternatives[rank] if rank < len(each.alternatives) else each for each in self.second]
            text = self._text([each.text for each in chosen])
            if text != best:
                score = weighted([(len(each.text), each.score) for each in chosen])
                read.setdefault(text, round(self.first.score + score, 4))
        return [Alternative(text=text, score=score) for text, score in read.items()]

    def _glossary(self) -> list[HonouredTerm]:
        """A term is honoured if both translations did so."""
        lost = {term.source for each in self.second for term in each.glossary or [] if not term.honoured}
        terms = self.first.glossary or []
        return [term.model_copy(update={"honoured": term.honoured and term.target not in lost}) for term in terms]


def compose(first: Sentence, second: Translation) -> NDArray[np.float64]:
    """Attention through the pivot: ``[target tokens, source tokens]``, rows summing to 1.

    What both translations have between them is the same text in other tokens: one looks at another by the characters
    that they share.
    """
    starts, ends = _bounds([token for sentence in second.sentences for token in sentence.source_tokens or []])
    first_starts, first_ends = _bounds(first.target_tokens or []) - first.target.start
    shared = np.minimum(ends[:, None], first_ends) - np.maximum(starts[:, None], first_starts)
    between = _rows(np.maximum(shared, 0.0))
    weights = alignment.diagonal([_matrix(sentence) for sentence in second.sentences]) @ between @ _matrix(first)
    return alignment.rounded(_rows(weights))


def _bounds(tokens: Sequence[Span]) -> NDArray[np.int64]:
    """[starts and ends, tokens]"""
    return np.array([[token.start for token in tokens], [token.end for token in tokens]], np.int64)


def _matrix(sentence: Sentence) -> NDArray[np.float64]:
    assert sentence.weights is not None
    return sentence.weights


def _rows(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each summing to 1; one that has nothing is uniform."""
    weights = np.where(weights.sum(axis=1, keepdims=True) > 1e-9, weights, 1.0)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)


def _moved(token: Span, by: int) -> Span:
    return Span(text=token.text, start=token.start + by, end=token.end + by)
