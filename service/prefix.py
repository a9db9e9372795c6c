"""A translation that begins as its caller wants: what must come through may stand there already."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from service.parts import Kept, Part, Piece, Stretch, written
from service.text.segment import Bounds, in_word, is_punctuation
from service.text.tokens import Edit, Moves, Pieces, Tokenizer


@dataclass
class Found:
    """Places in a beginning of what must come through, each for one item."""

    text: str
    places: list[Bounds] = field(default_factory=list)

    def place(self, wanted: str) -> Bounds | None:
        """Where it stands as a whole, if it does and that is no other's place."""
        if not (words := wanted.split()):
            return None
        before = r"(?<!\w)" if in_word(words[0][0]) else ""
        after = r"(?!\w)" if in_word(words[-1][-1]) else ""
        pattern = before + r"\s+".join(map(re.escape, words)) + after
        for found in re.finditer(pattern, self.text):
            if all(found.end() <= start or end <= found.start() for start, end in self.places):
                self.places.append(found.span())
                return found.span()
        return None


def begin(piece: Piece, text: str, tokenizer: Tokenizer) -> Piece:
    """A piece of ``text`` with what its translation begins with, as the model is to see it.

    What is kept before its first stretch is taken off the beginning. Whatever else must come through and stands in the
    beginning, once for each, is not written again.
    """
    if not piece.beginning or not piece.stretches:
        return piece
    beginning, taken = _take_off(piece.beginning, piece.parts, text)
    parts = [*taken, *piece.parts[len(taken) :]]
    found, marks = Found(beginning), []
    for index, part in enumerate(parts[len(taken) :], len(taken)):
        if isinstance(part, Stretch):
            parts[index], places = _begun(part, found, piece.is_capital)
            if part is piece.stretches[0]:
                marks = places
        elif not is_punctuation(part.text) and found.place(part.text):
            parts[index] = _silent(parts, index)
    return replace(piece, parts=parts, prefix=_read(beginning, marks, tokenizer) if beginning else None)


def _take_off(beginning: str, parts: Sequence[Part], text: str) -> tuple[str, list[Part]]:
    """``beginning`` without what is kept before the first stretch, and these parts, each with the white space that
    the beginning has behind it. Where it has other things, or in another order, none is taken off.
    """
    rest = beginning
    taken: list[Part] = []
    for part, following in pairwise(parts):
        if isinstance(part, Stretch) or not rest:
            break
        if not rest.startswith(part.text):
            return beginning, []
        behind = rest[len(part.text) :]
        rest = behind.lstrip()
        space = behind[: len(behind) - len(rest)]
        is_same = not rest or space == text[part.end : following.start]
        taken.append(part if is_same else Kept(part.start, following.start, part.text + space))
    return rest, taken


def _begun(stretch: Stretch, found: Found, is_capital: bool) -> tuple[Stretch, list[Edit]]:
    """The stretch with its items looked up, and the marks of those that were found, where they were."""
    items, marks = [], []
    for item in stretch.items:
        place = found.place(written(item.span, is_capital)) if item.mark else None
        items.append(replace(item, is_begun=place is not None))
        if place and item.mark:
            marks.append(Edit(*place, item.mark))
    return replace(stretch, items=items), sorted(marks)


def _silent(parts: Sequence[Part], index: int) -> Kept:
    """Without its text, and without the white space on one side of it."""
    part = parts[index]
    if index:
        return Kept(parts[index - 1].end, part.end, "")
    return Kept(part.start, parts[index + 1].start, "")


def _read(beginning: str, marks: Sequence[Edit], tokenizer: Tokenizer) -> Pieces:
    """The beginning's sub-words, with ``marks`` in place of what must come through."""
    read, position = [], 0
    for mark in marks:
        read += [beginning[position : mark.start], mark.text]
        position = mark.end
    moves = Moves(marks)
    back = [Edit(moves.start(mark.start), moves.end(mark.end), beginning[mark.start : mark.end]) for mark in marks]
    return tokenizer.target_pieces("".join([*read, beginning[position:]])).edited(back)
