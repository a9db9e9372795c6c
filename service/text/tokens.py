"""Sub-words with the characters they stand for, and words made of them.

SentencePiece normalises what it reads (NFKC: a full-width letter becomes a plain one, one character can become
several sub-words), and a character outside the vocabulary becomes one sub-word per byte. Its offsets count code points
of the text as it was given; sub-words that stand for a part of a character, or for white space only, join the next one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from sentencepiece import SentencePieceProcessor

from service.text.segment import Bounds, is_punctuation, trim
from service.text.unreadable import Unreadable

SPACE_MARK = "\u2581"
CLAUSE = frozenset(",;:)—–")
"""What ends a part of a sentence."""


@dataclass(frozen=True, slots=True)
class Token:
    """``text`` stands from ``start`` up to ``end``; it is made of the sub-words from ``first`` up to ``last``."""

    text: str
    start: int
    end: int
    first: int
    last: int


class Edit(NamedTuple):
    """``text`` in place of what stands from ``start`` up to ``end``."""

    start: int
    end: int
    text: str


class Moves:
    """Where positions in a text are after its edits, which are in order and apart; inside one, they are at its ends."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self.edits = edits
        self.ends = [edit.end for edit in edits]
        growth = (len(edit.text) - (edit.end - edit.start) for edit in edits)
        self.shifts = list(accumulate(growth, initial=0))

    def start(self, position: int) -> int:
        """Of what begins there."""
        index = bisect_right(self.ends, position)
        inside = index < len(self.edits) and self.edits[index].start <= position
        return (self.edits[index].start if inside else position) + self.shifts[index]

    def end(self, position: int) -> int:
        """Of what ends there."""
        index = bisect_left(self.ends, position)
        inside = index < len(self.edits) and self.edits[index].start < position
        return self.edits[index].end + self.shifts[index + 1] if inside else position + self.shifts[index]


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text as the model sees it: ``ids[i]`` is written ``pieces[i]`` and stands for ``text[slice(*spans[i])]``."""

    text: str
    ids: list[int]
    pieces: list[str]
    spans: list[Bounds]
    atoms: Sequence[Bounds] = ()
    """Stretches of the text, in order and apart, that are one token each whatever sub-words they have."""

    def edited(self, edits: Sequence[Edit]) -> "Pieces":
        """The same sub-words for a changed text. ``edits`` are in order and apart; what they put in are atoms."""
        if not edits:
            return self
        moves = Moves(edits)
        parts, atoms, position = [], [(moves.start(start), moves.end(end)) for start, end in self.atoms], 0
        for edit in edits:
            parts += [self.text[position : edit.start], edit.text]
            position = edit.end
            if edit.text:
                atoms.append((moves.start(edit.start), moves.end(edit.end)))
        text = "".join([*parts, self.text[position:]])
        spans = [(moves.start(start), moves.end(end)) for start, end in self.spans]
        return replace(self, text=text, spans=spans, atoms=sorted(atoms))

    def subwords(self) -> list[Token]:
        """Sub-words, those of one character merged. Spans are in order and apart; together they hold every sub-word."""
        tokens: list[Token] = []
        first = 0
        for index, (begin, stop) in enumerate(self.spans):
            start, end = trim(self.text, max(begin, tokens[-1].end if tokens else 0), stop)
            atom = self._atom(begin, stop) if self.atoms else None
            if atom and tokens and atom == (tokens[-1].start, tokens[-1].end):
                tokens[-1] = replace(tokens[-1], last=index + 1)
                first = index + 1
            elif start < end:
                start, end = atom or (start, end)
                tokens.append(Token(self.text[start:end], start, end, first, index + 1))
                first = index + 1
        if first < len(self.spans) and tokens:
            tokens.append(self._merge([tokens.pop()], last=len(self.spans)))
        return tokens

    def words(self) -> list[Token]:
        """Sub-words between white space as one token; punctuation at the ends of that stands alone."""
        groups: list[list[Token]] = []
        for token in self.subwords():
            if not groups or self._begins_word(token, groups[-1][-1]):
                groups.append([])
            groups[-1].append(token)
        return [self._merge(part) for group in groups for part in _peel(group)]

    def _begins_word(self, token: Token, before: Token) -> bool:
        return (
            token.start > before.end
            or any(piece.startswith(SPACE_MARK) for piece in self.pieces[token.first : token.last])
            or any(self.atoms and self._atom(each.start, each.end) for each in (before, token))
        )

    def _atom(self, start: int, end: int) -> Bounds | None:
        """The first atom that has a part between ``start`` and ``end``."""
        index = bisect_right(self.atoms, start, key=itemgetter(1))
        return self.atoms[index] if index < len(self.atoms) and self.atoms[index][0] < end else None

    def _merge(self, tokens: Sequence[Token], last: int | None = None) -> Token:
        start, end = tokens[0].start, tokens[-1].end
        return Token(self.text[start:end], start, end, tokens[0].first, last or tokens[-1].last)


class Tokenizer:
    """The SentencePiece model of a package, or the two of its sides. Safe to use from several threads."""

    def __init__(self, path: Path, target: Path | None = None) -> None:
        self.model = SentencePieceProcessor(model_file=str(path))
        shared = target is None or target == path
        self.target_model = self.model if shared else SentencePieceProcessor(model_file=str(target))
        self.unreadable = Unreadable(self.model)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, without tag and EOS."""
        return [self.model.encode(text) for text in texts]

    def pieces(self, text: str) -> Pieces:
        """The same ids as :meth:`encode`, and where each stands in ``text``."""
        return self._pieces(self.model, text)

    def target_pieces(self, text: str) -> Pieces:
        """Of a text in the target language: what :meth:`decode` takes as a prefix."""
        return self._pieces(self.target_model, text)

    @staticmethod
    def _pieces(model: SentencePieceProcessor, text: str) -> Pieces:
        found = model.encode(text, return_type="offset_mapping")
        return Pieces(text, found["ids"], found["pieces"], found["offsets"])

    def decode(self, ids: Sequence[int], prefix: Pieces | None = None) -> Pieces:
        """The text of ``ids``, without white space at its ends, and where each id stands in it.

        Where the first ids are those of a ``prefix``, the text begins with its text as it was given, not normalised.
        """
        found = self.target_model.decode(list(ids), return_type="offset_mapping")
        text: str = found["text"]
        start, end = trim(text, 0, len(text))
        inside = [(_clamp(begin, start, end), _clamp(stop, start, end)) for begin, stop in found["offsets"]]
        whole = Pieces(text[start:end], found["ids"], found["pieces"], inside)
        return whole if prefix is None else self._restore(whole, prefix)

    def _restore(self, whole: Pieces, prefix: Pieces) -> Pieces:
        """``whole`` with the text of ``prefix`` in place of what its sub-words say."""
        written = len(self.decode(prefix.ids).text)
        # Sub-words are taken as they were chosen: were the text encoded anew, others could stand at the seam.
        shift = len(prefix.text) - written
        later = [(max(start, written), max(end, written)) for start, end in whole.spans[len(prefix.ids) :]]
        spans = [*prefix.spans, *((start + shift, end + shift) for start, end in later)]
        text = prefix.text + whole.text[written:]
        return Pieces(text, whole.ids, whole.pieces, spans[: len(whole.ids)], prefix.atoms)

    def split(self, text: str, limit: int, atoms: Sequence[Bounds] = ()) -> list[Bounds]:
        """Cut ``text`` into stretches of at most ``limit`` sub-words, where a word begins if at all possible.

        A word longer than that is cut between two characters. A single character is never cut, nor are ``atoms``.
        """
        found = replace(self.pieces(text), atoms=atoms)
        if len(found.ids) <= limit:
            return [trim(text, 0, len(text))]
        # The first sub-word of a stretch may need a mark of its own that it did not need inside the text.
        parts = list(_pack(found, limit - 1))
        if len(parts) < 2:
            return parts
        # In the middle of a word the sub-words of a stretch can be others, and more, than they were in the whole.
        return [
            (start + inner_start, start + inner_end)
            for start, end in parts
            for inner_start, inner_end in self.split(text[start:end], limit, _inside(atoms, start, end))
        ]


def _pack(found: Pieces, limit: int) -> Iterator[Bounds]:
    """The longest stretches of at most ``limit`` sub-words, cut where the last clause that begins in their second half
    does, or else the last word.
    """
    tokens = found.subwords()
    words = {word.first for word in found.words()}
    start = 0
    while start < len(tokens):
        first = tokens[start].first
        stop = start + 1
        while stop < len(tokens) and tokens[stop].last - first <= limit:
            stop += 1
        if stop < len(tokens):
            late = range(stop, start, -1)
            cuts = [cut for cut in late if tokens[cut].first in words and tokens[cut].first - first > limit // 2]
            clauses = (cut for cut in cuts if tokens[cut - 1].text[-1] in CLAUSE)
            stop = next(clauses, cuts[0] if cuts else stop)
        yield tokens[start].start, tokens[stop - 1].end
        start = stop


def _inside(spans: Sequence[Bounds], start: int, end: int) -> list[Bounds]:
    """Those between ``start`` and ``end``, counted from ``start``."""
    return [(first - start, last - start) for first, last in spans if start <= first and last <= end]


def _clamp(position: int, start: int, end: int) -> int:
    return min(max(position, start), end) - start


def _peel(group: Sequence[Token]) -> list[Sequence[Token]]:
    """The punctuation before a word, the word, and the punctuation after it."""
    solid = [index for index, token in enumerate(group) if not is_punctuation(token.text)]
    if not solid:
        return [group]
    bounds = [0, solid[0], solid[-1] + 1, len(group)]
    return [group[start:end] for start, end in pairwise(bounds) if start < end]
