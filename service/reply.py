"""From the sentences of a text and their hypotheses to the reply."""

from collections.abc import Sequence

from service.engine import Hypothesis
from service.plan import Piece, Plan
from service.schemas import Alternative, Link, Sentence, Span, TranslateRequest, Translation
from service.text import alignment
from service.text.tokens import Pieces, Token

TRUNCATED = "the translation of a sentence was ended at its longest length"
REPEATED = "repetition: the translation of a sentence had become a loop and was cut after its first turn"


def translation(plan: Plan, results: Sequence[list[Hypothesis]], request: TranslateRequest) -> Translation:
    """``results`` has the hypotheses of each piece, best first. One that was cut does not stand beside whole ones."""
    results = [[each for each in found if each.whole or not found[0].whole] for found in results]
    shown = [hypothesis for found in results for hypothesis in found]
    cut = {TRUNCATED: any(each.truncated for each in shown), REPEATED: any(each.repeated for each in shown)}
    text, sentences = _best(plan, [found[0] for found in results], request)
    return Translation(
        text=text,
        source=plan.source,
        target=plan.target,
        score=_score([found[0] for found in results]),
        truncated=any(cut.values()),
        warnings=[*plan.warnings, *(warning for warning, found in cut.items() if found)],
        alternatives=_alternatives(plan, results, request.alternatives, text),
        sentences=sentences,
    )


def _best(plan: Plan, best: Sequence[Hypothesis], request: TranslateRequest) -> tuple[str, list[Sentence]]:
    parts: list[str] = []
    sentences = []
    position = length = 0
    for piece, hypothesis in zip(plan.pieces, best, strict=True):
        assert plan.model is not None
        gap = plan.text[position : piece.start]
        target = plan.model.tokenizer.decode(hypothesis.token_ids, piece.prefix)
        sentences.append(_sentence(plan, piece, hypothesis, target, length + len(gap), request))
        parts += [gap, target.text]
        length += len(gap) + len(target.text)
        position = piece.end
    parts.append(plan.text[position:])
    return "".join(parts), sentences


def _sentence(
    plan: Plan, piece: Piece, hypothesis: Hypothesis, target: Pieces, offset: int, request: TranslateRequest
) -> Sentence:
    """``offset``: where the sentence's translation begins in the reply's text."""
    text = plan.text[piece.start : piece.end]
    plain = Sentence(
        source=Span(text=text, start=piece.start, end=piece.end),
        target=Span(text=target.text, start=offset, end=offset + len(target.text)),
        score=round(hypothesis.score, 4),
    )
    if hypothesis.attention is None or plan.model is None:
        return plain
    source = plan.model.tokenizer.pieces(text)
    words = request.tokens == "words"
    # A text of characters that nobody sees can have sub-words and no token: then it is one.
    source_tokens = (source.words() if words else source.subwords()) or [Token(text, 0, len(text), 0, len(source.ids))]
    target_tokens = target.words() if words else target.subwords()
    weights = alignment.merge(hypothesis.attention, source_tokens, target_tokens)
    return plain.model_copy(
        update={
            "source_tokens": _spans(source_tokens, piece.start),
            "target_tokens": _spans(target_tokens, offset),
            "alignment": [Link(source=i, target=j, weight=weight) for i, j, weight in alignment.links(weights)],
            "weights": weights.tolist() if request.attention == "weights" else None,
        }
    )


def _spans(tokens: Sequence[Token], offset: int) -> list[Span]:
    return [Span(text=token.text, start=token.start + offset, end=token.end + offset) for token in tokens]


def _alternatives(plan: Plan, results: Sequence[list[Hypothesis]], count: int, best: str) -> list[Alternative]:
    """The n-th alternative has the n-th hypothesis of every sentence, or the best of those that have fewer.

    One that reads like a better one, as when only the sub-words differ, is left out.
    """
    found: dict[str, float] = {}
    for rank in range(1, min(count, max(map(len, results), default=1) - 1) + 1):
        chosen = [hypotheses[rank] if rank < len(hypotheses) else hypotheses[0] for hypotheses in results]
        text = _join(plan, chosen)
        if text != best:
            found.setdefault(text, _score(chosen))
    return [Alternative(text=text, score=score) for text, score in found.items()]


def _join(plan: Plan, chosen: Sequence[Hypothesis]) -> str:
    parts, position = [], 0
    for piece, hypothesis in zip(plan.pieces, chosen, strict=True):
        assert plan.model is not None
        target = plan.model.tokenizer.decode(hypothesis.token_ids, piece.prefix)
        parts += [plan.text[position : piece.start], target.text]
        position = piece.end
    return "".join([*parts, plan.text[position:]])


def _score(chosen: Sequence[Hypothesis]) -> float:
    """Mean of the sentences' scores, each weighted by its sub-words, EOS included."""
    lengths = [len(hypothesis.token_ids) + hypothesis.whole for hypothesis in chosen]
    total = sum(length * hypothesis.score for length, hypothesis in zip(lengths, chosen, strict=True))
    return round(total / max(sum(lengths), 1), 4)
