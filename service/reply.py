"""From the translations of a text's sentences to the reply."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import TooLarge
from service.parts import Kept, Piece, Stretch
from service.plan import Plan
from service.render import Rendering
from service.schemas.reply import Alternative, HonouredTerm, Link, Sentence, Span, Translation
from service.schemas.request import TranslateRequest
from service.text import alignment
from service.text.segment import trim
from service.text.tokens import Pieces, Token

TRUNCATED = "the translation of a sentence was ended at its longest length"
REPEATED = "repetition: the translation of a sentence had become a loop and was cut after its first turn"
BROKEN = "characters that the model did not write to the end were left out"
LOST = "in parts: a sentence was translated around what its translation had lost ({kinds})"

Found = Sequence[Sequence[Rendering]]
"""The translations of each stretch of a piece, best first."""


class Block(NamedTuple):
    """The tokens of a part of a sentence, and the attention between them."""

    source: list[Span]
    target: list[Span]
    weights: NDArray[np.float64]
    """[target tokens, source tokens]"""


class Cells:
    """Cells that the attention matrices of a request may still have."""

    def __init__(self, most: int) -> None:
        self.most = self.left = most

    def take(self, target: int, source: int) -> None:
        """Those of a matrix between so many tokens. Raises :class:`service.errors.TooLarge` if fewer are left."""
        self.left -= target * source
        if self.left < 0:
            raise TooLarge(f"the attention matrices of a request have at most {self.most} cells", field="text")


class Reply:
    """The reply to one text: add each piece of the plan, in order, then finish. Texts of a request share ``cells``."""

    def __init__(self, plan: Plan, request: TranslateRequest, cells: Cells) -> None:
        self.plan = plan
        self.request = request
        self.cells = cells
        self.pieces: list[tuple[Piece, Found]] = []
        self.sentences: list[Sentence] = []
        self.texts: list[str] = []
        self.position = 0
        """Of the plan's text."""
        self.length = 0
        """Of the reply's text."""

    def add(self, piece: Piece, found: Found) -> Sentence:
        """The sentence, with what stands before it. A translation that was cut does not stand beside whole ones.

        Raises :class:`service.errors.TooLarge` where there is no cell left for its attention.
        """
        found = [
            [each for each in ranked if each.hypothesis.whole or not ranked[0].hypothesis.whole] for ranked in found
        ]
        before = self.plan.kept(self.position, piece.start)
        sentence = self._sentence(piece, [ranked[0] for ranked in found], self.length + len(before))
        self.pieces.append((piece, found))
        self.texts += [before, sentence.target.text]
        self.sentences.append(sentence)
        self.position, self.length = piece.end, sentence.target.end
        return sentence.model_copy(update={"before": before})

    def finish(self) -> Translation:
        text = "".join([*self.texts, self._rest()])
        shown = [rendering for _, found in self.pieces for ranked in found for rendering in ranked]
        cut = {
            TRUNCATED: any(each.hypothesis.truncated for each in shown),
            REPEATED: any(each.hypothesis.repeated for each in shown),
        }
        warnings = [*self.plan.warnings, *(warning for warning, is_so in cut.items() if is_so)]
        if any(each.is_broken for each in shown):
            warnings.append(BROKEN)
        if self.plan.lost:
            warnings.append(LOST.format(kinds=", ".join(sorted(self.plan.lost))))
        return Translation(
            text=text,
            source=self.plan.source,
            target=self.plan.target,
            detected=self.plan.detected,
            score=_score([ranked[0] for _, found in self.pieces for ranked in found]),
            truncated=any(cut.values()),
            warnings=warnings,
            alternatives=self._alternatives(text),
            sentences=self.sentences,
            glossary=None if self.request.glossary is None else self._glossary(),
        )

    def _rest(self) -> str:
        return self.plan.kept(self.position, len(self.plan.text))

    def _sentence(self, piece: Piece, chosen: Sequence[Rendering], offset: int) -> Sentence:
        """``offset``: where the sentence's translation begins in the reply's text."""
        source, target = self.plan.text[piece.start : piece.end], _text(self.plan.text, piece, chosen)
        plain = Sentence(
            source=Span(text=source, start=piece.start, end=piece.end),
            target=Span(text=target, start=offset, end=offset + len(target)),
            score=_score(chosen),
        )
        if self.request.attention == "none":
            return plain
        blocks = list(self._blocks(piece, chosen, offset))
        read = [token for block in blocks for token in block.source]
        written = [token for block in blocks for token in block.target]
        is_whole = self.request.attention == "weights"
        if is_whole:
            self.cells.take(len(written), len(read))
        weights = alignment.diagonal([block.weights for block in blocks])
        return plain.model_copy(
            update={
                "source_tokens": read,
                "target_tokens": written,
                "alignment": [Link(source=i, target=j, weight=weight) for i, j, weight in alignment.links(weights)],
                "weights": weights if is_whole else None,
            }
        )

    def _blocks(self, piece: Piece, chosen: Sequence[Rendering], offset: int) -> Iterator[Block]:
        """Of each part; what was kept looks at itself."""
        renderings = iter(chosen)
        position = piece.start
        for part in piece.parts:
            offset += part.start - position
            if isinstance(part, Kept):
                start, end = trim(self.plan.text, part.start, part.end)
                source = Span(text=self.plan.text[start:end], start=start, end=end)
                text = part.text.rstrip()
                target = [Span(text=text, start=offset, end=offset + len(text))] if text else []
                yield Block([source], target, np.ones((len(target), 1)))
                offset += len(part.text)
            else:
                rendering = next(renderings)
                yield self._block(part, rendering, offset)
                offset += len(rendering.target.text)
            position = part.end

    def _block(self, stretch: Stretch, rendering: Rendering, offset: int) -> Block:
        assert self.plan.model is not None
        assert rendering.hypothesis.attention is not None
        pieces = stretch.source(self.plan.model)
        # A text of characters that nobody sees can have sub-words and no token: then it is one.
        source = self._tokens(pieces) or [Token(stretch.text, 0, len(stretch.text), 0, len(pieces.ids))]
        target = self._tokens(rendering.target)
        weights = alignment.merge(rendering.hypothesis.attention, source, target)
        return Block(_spans(source, stretch.start), _spans(target, offset), weights)

    def _tokens(self, pieces: Pieces) -> list[Token]:
        return pieces.words() if self.request.tokens == "words" else pieces.subwords()

    def _alternatives(self, best: str) -> list[Alternative]:
        """The n-th alternative has the n-th translation of every stretch, or the best of those that have fewer.

        One that reads like a better one, as when only the sub-words differ, is left out.
        """
        longest = max((len(ranked) for _, found in self.pieces for ranked in found), default=1)
        read: dict[str, float] = {}
        for rank in range(1, min(self.request.alternatives, longest - 1) + 1):
            chosen = [[ranked[rank if rank < len(ranked) else 0] for ranked in found] for _, found in self.pieces]
            text = self._join(chosen)
            if text != best:
                read.setdefault(text, _score([rendering for renderings in chosen for rendering in renderings]))
        return [Alternative(text=text, score=score) for text, score in read.items()]

    def _join(self, chosen: Sequence[Sequence[Rendering]]) -> str:
        """``self.texts`` with other translations."""
        texts = [_text(self.plan.text, piece, each) for (piece, _), each in zip(self.pieces, chosen, strict=True)]
        before = self.texts[::2]
        return "".join([*(part for pair in zip(before, texts, strict=True) for part in pair), self._rest()])

    def _glossary(self) -> list[HonouredTerm]:
        """Every term that stands in the text. It is honoured if it was wherever it stands."""
        parts = [part for piece, _ in self.pieces for part in piece.parts]
        placed = {item.span.start for part in parts if isinstance(part, Stretch) for item in part.items}
        placed |= {part.start for part in parts if isinstance(part, Kept)}
        honoured: dict[str, bool] = {}
        for term, span in self.plan.terms:
            honoured[term] = honoured.get(term, True) and span.start in placed
        targets = {term: span.text for term, span in self.plan.terms}
        return [HonouredTerm(source=term, target=targets[term], honoured=is_so) for term, is_so in honoured.items()]


def _text(text: str, piece: Piece, chosen: Sequence[Rendering]) -> str:
    """The translation of a piece of ``text``: white space between its parts stays."""
    renderings, parts, position = iter(chosen), [], piece.start
    for part in piece.parts:
        parts += [text[position : part.start], part.text if isinstance(part, Kept) else next(renderings).target.text]
        position = part.end
    return "".join(parts)


def _spans(tokens: Sequence[Token], offset: int) -> list[Span]:
    return [Span(text=token.text, start=token.start + offset, end=token.end + offset) for token in tokens]


def _score(chosen: Sequence[Rendering]) -> float:
    """Mean of the scores, each weighted by its sub-words, EOS included."""
    return round(weighted([(rendering.length, rendering.hypothesis.score) for rendering in chosen]), 4)


def weighted(parts: Sequence[tuple[int, float]]) -> float:
    """Mean of the scores of parts, ``(length, score)`` each; 0 where there is nothing."""
    return sum(length * score for length, score in parts) / max(sum(length for length, _ in parts), 1)
