"""A sentence as stretches for a model, and what comes through without one.

A model sees each protected span as a mark: one of its placeholder symbols or, where it has none, a number, which every
model copies better than anything else. Where that cannot be, the sentence is cut at the span.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

from service.parts import Item, Kept, Part, Piece, Stretch, written
from service.prefix import begin
from service.registry import Model
from service.text import capitals
from service.text.protect import LOOSE, Protected, gaps, numbers, overlapping, words_with_numbers
from service.text.segment import Bounds, in_word, trim
from service.text.tokens import Edit, Moves

STAND_INS = ("36", "25", "64", "17", "84", "96", "48", "72")
"""Marks where a model has no symbols. With numbers it writes the best sentences around them, and such as these come
through most often: far more so than made-up words, letters or figures of three digits."""
FAR_LONGER = 2
"""Times the longest source: what is longer is no sentence, and is not answered as one."""
CHUNK = re.compile(r"\S+")
START = attrgetter("start")


@dataclass
class Cutter:
    """Cuts the sentences of one text. ``spans`` and ``terms`` are in order, and all of them apart."""

    text: str
    language: str
    model: Model
    spans: Sequence[Protected]
    terms: Sequence[Protected]
    was_long: bool = False
    """Was a sentence longer than the model can read?"""

    def pieces(self, start: int, end: int, min_length: int) -> list[Piece]:
        """Of a sentence: several where it is too long, none where there is nothing to translate."""
        spans = overlapping(self.spans, start, end)
        is_capital = capitals.is_capitals("".join(self.text[a:b] for a, b in gaps(start, end, spans)))
        cut = Cut(self, start, end, spans, overlapping(self.terms, start, end), is_capital)
        groups = cut.at(cut.stops())
        self.was_long |= len(groups) > 1
        found = [Piece(parts[0].start, parts[-1].end, parts, is_capital) for parts in groups if parts]
        found = [piece for piece in found if piece.stretches]
        if not min_length:
            return found
        total = sum(piece.size for piece in found)
        # What is asked of a sentence is not asked of each of its pieces: one of two words cannot have fifty.
        return [replace(piece, min_length=math.ceil(min_length * piece.size / total)) for piece in found]

    def again(self, piece: Piece, lost: Sequence[Item]) -> Piece:
        """The piece for its second attempt: what the model has lost as it was becomes a mark, and the sentence is cut
        at the marks that it has lost. For the third, it is cut at everything: nothing can be lost any more.
        """
        start, end = piece.start, piece.end
        spans, terms = overlapping(self.spans, start, end), overlapping(self.terms, start, end)
        known = sorted([*spans, *terms], key=START)
        words = [word for a, b in gaps(start, end, known) for word in words_with_numbers(self.text, a, b)]
        stops = everything = sorted([*known, *words], key=START)
        cut = Cut(self, start, end, everything, (), piece.is_capital)
        if piece.attempt == 1:
            read = sorted((item.span for item in lost if item.mark is None), key=START)
            marked = [item.span for item in lost if item.mark]
            spans = [span for span in everything if span in spans or overlapping(read, span.start, span.end)]
            cut = Cut(self, start, end, spans, [term for term in terms if term not in spans], piece.is_capital)
            stops = cut.stops(marked)
        parts = [part for parts in cut.at(stops) for part in parts]
        return begin(replace(piece, parts=parts, attempt=piece.attempt + 1), self.text, self.model.tokenizer)


class Cut:
    """One way to cut a sentence, which stands from ``start`` up to ``end`` in the text: with ``spans`` as marks."""

    def __init__(
        self,
        cutter: Cutter,
        start: int,
        end: int,
        spans: Sequence[Protected],
        terms: Sequence[Protected],
        is_capital: bool,
    ) -> None:
        self.text, self.language, self.model = cutter.text, cutter.language, cutter.model
        self.start, self.end = start, end
        self.spans, self.terms = spans, terms
        self.is_capital = is_capital

    @cached_property
    def marks(self) -> list[str]:
        """What may stand for spans."""
        if symbols := self.model.manifest.placeholders:
            return [self.model.tokenizer.model.id_to_piece(symbol) for symbol in symbols]
        return [number for number in STAND_INS if number not in self.text[self.start : self.end]]

    def stops(self, lost: Sequence[Protected] = ()) -> list[Protected]:
        """Spans at which the sentence has to be cut: those that are ``lost``; at its ends those that no sentence is
        built around; those that touch a word; and those for which no mark is left.
        """
        if not self.spans:
            return []
        before, after = self._loose(self.start, self.spans), self._loose(self.end, self.spans[::-1])
        stops, marked = [], 0
        for index, span in enumerate(self.spans):
            is_loose = index < before or index >= len(self.spans) - after
            if is_loose or span in lost or self._is_glued(span) or marked == len(self.marks):
                stops.append(span)
                marked = 0
            else:
                marked += 1
        return stops

    def at(self, stops: Sequence[Protected]) -> list[list[Part]]:
        """The parts of the sentence, ``stops`` included. There are several lists of them where a model cannot read what
        stands between two stops at once, or where the sentence is far longer than it can read.
        """
        groups: list[list[Part]] = [[]]
        size = 0
        for part, continues in self._parts(stops):
            length = len(part.ids) if isinstance(part, Stretch) else 1
            if continues or size + length > FAR_LONGER * self.model.max_subwords:
                groups.append([])
                size = 0
            groups[-1].append(part)
            size += length
        return groups

    def _parts(self, stops: Sequence[Protected]) -> Iterator[tuple[Part, bool]]:
        """Each with whether it continues a stretch that the model cannot read at once."""
        position, begins = self.start, True
        for stop in [*stops, None]:
            until = stop.start if stop else self.end
            first, last = self._core(position, until, position > self.start, stop is not None)
            stretches = self._fit(first, last, begins)
            begins &= not stretches
            yield from ((kept, False) for kept in self._kept(position, first))
            yield from ((stretch, index > 0) for index, stretch in enumerate(stretches))
            yield from ((kept, False) for kept in self._kept(last if stretches else first, until))
            if stop:
                yield self._keep(stop), False
                position = stop.end

    def _loose(self, position: int, spans: Sequence[Protected]) -> int:
        """How many ``spans`` stand next to ``position`` and to each other, without a word between."""
        for count, span in enumerate(spans):
            between = self.text[min(position, span.end) : max(position, span.start)]
            if span.kind not in LOOSE or any(map(in_word, between)):
                return count
            position = span.start if position >= span.end else span.end
        return len(spans)

    def _is_glued(self, span: Protected) -> bool:
        around = self.text[max(span.start - 1, 0) : span.start] + self.text[span.end : span.end + 1]
        return any(map(in_word, around))

    def _core(self, start: int, end: int, after_stop: bool, before_stop: bool) -> Bounds:
        """What a model is to see: not the punctuation next to a stop, unless it is a term's, and nothing where there is
        no letter.
        """
        spans, fixed = overlapping(self.spans, start, end), self._fixed(start, end)
        first, last = trim(self.text, start, end)
        latest, earliest = (fixed[0].start, fixed[-1].end) if fixed else (last, first)
        first, last = min(first, latest), max(last, earliest)
        while after_stop and first < latest and not in_word(self.text[first]):
            first += 1
        while before_stop and last > max(first, earliest) and not in_word(self.text[last - 1]):
            last -= 1
        letters = any(any(map(str.isalpha, self.text[a:b])) for a, b in gaps(first, last, spans))
        return (first, last) if letters else (end, end)

    def _kept(self, start: int, end: int) -> list[Part]:
        """All that is not white space."""
        if start == end:
            return []
        fixed = self._fixed(start, end)
        chunks = [each for a, b in gaps(start, end, fixed) for each in CHUNK.finditer(self.text, a, b)]
        kept = [Kept(*chunk.span(), chunk[0]) for chunk in chunks]
        return sorted([*kept, *map(self._keep, fixed)], key=START)

    def _keep(self, span: Protected) -> Kept:
        return Kept(span.start, span.end, written(span, self.is_capital))

    def _fixed(self, start: int, end: int) -> list[Protected]:
        """Spans and terms."""
        return sorted([*overlapping(self.spans, start, end), *overlapping(self.terms, start, end)], key=START)

    def _fit(self, start: int, end: int, begins: bool) -> list[Stretch]:
        """Stretches that the model can read; none where it would see nothing. Does the sentence begin here?"""
        if start == end:
            return []
        spans = overlapping(self.spans, start, end)
        marked = list(zip(spans, self.marks[: len(spans)], strict=True)) if spans else []
        read, back = self._read(start, end, [Edit(span.start, span.end, mark) for span, mark in marked])
        if self.is_capital and begins:
            read = capitals.capitalise(read)
        [ids] = self.model.tokenizer.encode([read])
        limit = self.model.max_subwords
        if len(ids) > limit:
            bounds = self.model.tokenizer.split(read, limit, [(edit.start, edit.end) for edit in back])
            if len(bounds) > 1:
                moves = Moves(back)
                places = [(start + moves.start(a), start + moves.end(b)) for a, b in bounds]
                return [each for a, b in places for each in self._fit(a, b, begins and a == start)]
        items = [*(Item(span, mark) for span, mark in marked), *self._free(start, end)]
        return [Stretch(start, end, self.text[start:end], read, ids, items, back)] if ids else []

    def _read(self, start: int, end: int, marks: Sequence[Edit]) -> tuple[str, list[Edit]]:
        """What the model reads, and the way back from there."""
        as_read = self.model.tokenizer.unreadable.as_read
        parts: list[str] = []
        back = []
        position, length = start, 0
        for mark in [*marks, Edit(end, end, "")]:
            plain = as_read(self.text[position : mark.start])
            parts += [capitals.lower(plain, self.language) if self.is_capital else plain, mark.text]
            length += len(plain)
            if mark.text:
                back.append(Edit(length, length + len(mark.text), self.text[mark.start : mark.end]))
            position, length = mark.end, length + len(mark.text)
        return "".join(parts), back

    def _free(self, start: int, end: int) -> Iterator[Item]:
        """Terms and numbers."""
        terms = overlapping(self.terms, start, end)
        yield from (Item(term) for term in terms if start <= term.start and term.end <= end)
        for a, b in gaps(start, end, self._fixed(start, end)):
            yield from map(Item, numbers(self.text, a, b))
