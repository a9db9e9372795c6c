"""Sub-words with the characters they stand for, and words made of them.

SentencePiece normalises what it reads (NFKC: a full-width letter becomes a plain one, one character can become
several sub-words), and a character outside the vocabulary becomes one sub-word per byte. Its offsets count code points
of the text as it was given; sub-words that stand for a part of a character, or for white space only, join the next one.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from service.text.segment import Bounds, trim

SPACE_MARK = "\u2581"


@dataclass(frozen=True, slots=True)
class Token:
    """``text`` stands from ``start`` up to ``end``; it is made of the sub-words from ``first`` up to ``last``."""

    text: str
    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text as the model sees it: ``ids[i]`` is written ``pieces[i]`` and stands for ``text[slice(*spans[i])]``."""

    text: str
    ids: list[int]
    pieces: list[str]
    spans: list[Bounds]

    def subwords(self) -> list[Token]:
        """Sub-words, those of one character merged. Spans are in order and apart; together they hold every sub-word."""
        tokens: list[Token] = []
        first = 0
        for index, (begin, stop) in enumerate(self.spans):
            start, end = trim(self.text, max(begin, tokens[-1].end if tokens else 0), stop)
            if start < end:
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
        return token.start > before.end or any(
            piece.startswith(SPACE_MARK) for piece in self.pieces[token.first : token.last]
        )

    def _merge(self, tokens: Sequence[Token], last: int | None = None) -> Token:
        start, end = tokens[0].start, tokens[-1].end
        return Token(self.text[start:end], start, end, tokens[0].first, last or tokens[-1].last)


class Tokenizer:
    """The SentencePiece model of a package. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.model = SentencePieceProcessor(model_file=str(path))

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, without tag and EOS."""
        return [self.model.encode(text) for text in texts]

    def pieces(self, text: str) -> Pieces:
        """The same ids as :meth:`encode`, and where each stands in ``text``."""
        found = self.model.encode(text, return_type="offset_mapping")
        return Pieces(text, found["ids"], found["pieces"], found["offsets"])

    def decode(self, ids: Sequence[int], prefix: Pieces | None = None) -> Pieces:
        """The text of ``ids``, without white space at its ends, and where each id stands in it.

        Where the first ids are those of a ``prefix``, the text begins with its text as it was given, not normalised.
        """
        found = self.model.decode(list(ids), return_type="offset_mapping")
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
        return Pieces(prefix.text + whole.text[written:], whole.ids, whole.pieces, spans[: len(whole.ids)])

    def split(self, text: str, limit: int) -> list[Bounds]:
        """Cut ``text`` into stretches of at most ``limit`` sub-words, where a word begins if at all possible.

        A word longer than that is cut between two characters. A single character is never cut.
        """
        found = self.pieces(text)
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
            for inner_start, inner_end in self.split(text[start:end], limit)
        ]


def _pack(found: Pieces, limit: int) -> Iterator[Bounds]:
    """The longest stretches of at most ``limit`` sub-words, cut at the last word that begins in their second half."""
    tokens = found.subwords()
    words = {word.first for word in found.words()}
    start = 0
    while start < len(tokens):
        first = tokens[start].first
        stop, cut = start + 1, None
        while stop < len(tokens) and tokens[stop].last - first <= limit:
            if tokens[stop].first in words and tokens[stop].first - first > limit // 2:
                cut = stop
            stop += 1
        if stop < len(tokens):
            stop = stop if tokens[stop].first in words or cut is None else cut
        yield tokens[start].start, tokens[stop - 1].end
        start = stop


def _clamp(position: int, start: int, end: int) -> int:
    return min(max(position, start), end) - start


def _peel(group: Sequence[Token]) -> list[Sequence[Token]]:
    """The punctuation before a word, the word, and the punctuation after it."""
    solid = [index for index, token in enumerate(group) if not _is_punctuation(token.text)]
    if not solid:
        return [group]
    bounds = [0, solid[0], solid[-1] + 1, len(group)]
    return [group[start:end] for start, end in pairwise(bounds) if start < end]


def _is_punctuation(text: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in text)
