"""From a hypothesis to the translation of a stretch, with everything in it that must come through."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter

from service.engine import Hypothesis
from service.parts import Item, Piece, Stretch, written
from service.registry import Model
from service.text import alignment, capitals
from service.text.protect import WRITTEN_MINUS, Protected, ascii_digits, number_pattern, numbers
from service.text.segment import Bounds
from service.text.tokens import Edit, Pieces

SYMBOL = r"⟦\d+⟧"
WORD = re.compile(
    r"[^\W\d_]{1,2}['’](?=[^\W\d_])"
    rf"|(?P<word>(?:(?<!\S)[{WRITTEN_MINUS}])?\d+(?:[.,:]\d+)*|[^\W\d_]+(?:[-'’][^\W\d_]+)*)"
)
"""Words of a translation; in "l'eau" it is "eau", without what is elided before it."""
BROKEN = re.compile(r"\A(?:\ufffd\s*)+|(?:\s*\ufffd)++(?!\w)|\ufffd+")
"""What bytes are read as that are no character. The model has made it up: none is given one to read."""
FINAL = re.compile(r"\s*[.!?…]+\Z")
COUNTED = frozenset({"number", "amount"})
"""Kinds whose numbers must be there as such."""
MORE_WORDS = 2
"""Than a term has: that many more may have looked at it, and still they are its translation."""
NOUNS_CAPITALISED = frozenset({"de"})
"""Languages in which a capital is no sign that a sentence begins."""


@dataclass(frozen=True)
class Rendering:
    """A hypothesis as text."""

    hypothesis: Hypothesis
    target: Pieces
    is_broken: bool = False
    """Has it lost bytes that were no character?"""

    @property
    def length(self) -> int:
        """Sub-words that its score is the mean of, EOS included."""
        return len(self.hypothesis.token_ids) + self.hypothesis.whole


@dataclass(frozen=True)
class Lost:
    """A hypothesis in which something has not come through."""

    items: list[Item]


def render(model: Model, piece: Piece, stretch: Stretch, hypothesis: Hypothesis, language: str) -> Rendering | Lost:
    """``language``: that of the translation."""
    prefix = piece.prefix if stretch is piece.stretches[0] else None
    target = model.tokenizer.decode(hypothesis.token_ids, prefix)
    fixed = len(prefix.text) if prefix else 0
    placing = Placing(model, piece, stretch, hypothesis, target, fixed, taken=list(target.atoms))
    if lost := [item for item in stretch.items if not item.is_begun and not placing.place(item)]:
        return Lost(lost)
    placing.drop_marks()
    is_broken = placing.drop_broken()
    target = target.edited(sorted(placing.edits))
    if placing.edits and (lost := _without_number(stretch.items, target.text)):
        return Lost(lost)
    if len(piece.parts) > 1:
        target = _as_part(target, piece, stretch, language, fixed)
    if piece.is_capital:
        target = _in_capitals(target, fixed)
    return Rendering(hypothesis, target, is_broken)


@dataclass
class Placing:
    """Finds the items of a stretch in its translation."""

    model: Model
    piece: Piece
    stretch: Stretch
    hypothesis: Hypothesis
    target: Pieces
    fixed: int = 0
    """Characters at the beginning that stay as the caller has given them."""
    edits: list[Edit] = field(default_factory=list)
    taken: list[Bounds] = field(default_factory=list)
    """Where the items are that have been found."""

    def place(self, item: Item) -> bool:
        """Find the place of an item, and put there what is wanted. False where there is no place for it."""
        present = None if item.mark else self._present(item)
        place = self._marked(item.mark) if item.mark else present or self._aligned(item)
        if place is None:
            return False
        self.taken.append(place)
        # A number that is there already may have the separators of its new language.
        if place[0] >= self.fixed and (present is None or item.span.kind == "term"):
            self.edits.append(Edit(*place, self._wanted(item.span, place)))
        return True

    def drop_marks(self) -> None:
        """Remove those of items that stand in the beginning, and symbols that the model has made up."""
        marks = [rf"(?<!\w){item.mark}(?!\w)" for item in self.stretch.items if item.is_begun]
        if self.model.manifest.placeholders:
            marks.append(SYMBOL)
        for found in re.finditer(rf"\s*(?:{'|'.join(marks)})", self.target.text) if marks else ():
            if found.start() >= self.fixed and self._is_free(found.span()):
                self.edits.append(Edit(*found.span(), ""))

    def drop_broken(self) -> bool:
        """Remove what is no character, if there is any."""
        broken = [found.span() for found in BROKEN.finditer(self.target.text, self.fixed)]
        self.edits += [Edit(*place, "") for place in filter(self._is_free, broken)]
        return bool(broken)

    def _marked(self, mark: str) -> Bounds | None:
        found = re.compile(rf"(?<!\w){mark}(?!\w)").finditer(self.target.text, self.fixed)
        places = [each.span() for each in found]
        return places[0] if len(places) == 1 == self.target.text.count(mark, self.fixed) else None

    def _present(self, item: Item) -> Bounds | None:
        """Where it has been written already."""
        if item.span.kind == "number":
            found = number_pattern(item.span.text).finditer(ascii_digits(self.target.text))
        else:
            words = r"\s+".join(map(re.escape, item.span.text.split()))
            found = re.finditer(rf"(?<!\w){words}(?!\w)", self.target.text, re.IGNORECASE)
        return next(filter(self._is_free, (each.span() for each in found)), None)

    def _aligned(self, item: Item) -> Bounds | None:
        """The words that looked at it most, where they stand together."""
        words, looks = self._looks
        start, end = item.span.start - self.stretch.start, item.span.end - self.stretch.start
        found = sorted({word for word, place in looks if place[0] < end and start < place[1]})
        most = len(item.span.text.split()) + MORE_WORDS
        if not found or found[-1] - found[0] >= len(found) or len(found) > most:
            return None
        place = (words[found[0]][0], words[found[-1]][1])
        around = self.target.text[max(place[0] - 1, 0) : place[0]] + self.target.text[place[1] : place[1] + 1]
        joins = str.isdecimal if item.span.kind == "number" else str.isalnum
        return place if place[0] >= self.fixed and self._is_free(place) and not any(map(joins, around)) else None

    @cached_property
    def _looks(self) -> tuple[list[Bounds], list[tuple[int, Bounds]]]:
        """The words of the translation; and for each sub-word the word it is in and the place it looked at most."""
        words = [found.span() for found in WORD.finditer(self.target.text) if found["word"]]
        source, target = self.stretch.source(self.model).subwords(), self.target.subwords()
        if self.hypothesis.attention is None or not source or not words:
            return words, []
        weights = alignment.merge(self.hypothesis.attention, source, target)
        looks = []
        for source_index, target_index, _ in alignment.links(weights):
            word = bisect_right(words, target[target_index].start, key=itemgetter(1))
            if word < len(words) and words[word][0] < target[target_index].end:
                looks.append((word, (source[source_index].start, source[source_index].end)))
        return words, looks

    def _wanted(self, span: Protected, place: Bounds) -> str:
        text = written(span, self.piece.is_capital)
        begins = place[0] == 0 and self.target.text[:1].isupper()
        return capitals.capitalise(text) if span.kind == "term" and begins and text.islower() else text

    def _is_free(self, place: Bounds) -> bool:
        return all(place[1] <= start or end <= place[0] for start, end in self.taken)


def _without_number(items: Sequence[Item], text: str) -> list[Item]:
    """Those with a number that is not in ``text``: what was put in or left out beside it has become a part of it."""
    digits = ascii_digits(text)
    counted = ((item, item.span.text) for item in items if item.span.kind in COUNTED)
    return [
        item
        for item, written in counted
        if not all(number_pattern(each.text).search(digits) for each in numbers(written, 0, len(written)))
    ]


def _as_part(target: Pieces, piece: Piece, stretch: Stretch, language: str, fixed: int) -> Pieces:
    """What is only a part of a sentence neither ends like one nor, after another part, begins like one. The first
    ``fixed`` characters stay."""
    final = FINAL.search(target.text)
    ends = max(fixed, target.atoms[-1][1] if target.atoms else 0)
    if stretch is not piece.parts[-1] and final and final.start() >= ends and not FINAL.search(stretch.text):
        target = target.edited([Edit(final.start(), final.end(), "")])
    begins = not fixed and (target.atoms[0][0] if target.atoms else 1)
    continues = stretch is not piece.parts[0] and stretch.text[:1].islower()
    if continues and begins and language not in NOUNS_CAPITALISED:
        target = replace(target, text=capitals.lower(target.text[:1], language) + target.text[1:])
    return target


def _in_capitals(target: Pieces, start: int) -> Pieces:
    """``target`` from ``start`` on in capitals, but for its atoms."""
    parts, position = [target.text[:start]], start
    for first, last in [*target.atoms, (len(target.text), len(target.text))]:
        if first >= position:
            parts += [capitals.upper(target.text[position:first]), target.text[first:last]]
            position = last
    return replace(target, text="".join(parts))
