"""Text to sentences without losing a character: what no span covers is white space, and comes back as it was."""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Literal

import sentencex

Mode = Literal["default", "newlines", "punctuation", "none"]
Bounds = tuple[int, int]

WINDOW = 1000
"""Longest stretch in code points that is searched for sentence ends, so the longest sentence: the time the search
takes can grow with the square of the length, and one stray quote can hide every end that follows."""

LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
SPACE = re.compile(r"\s")
SPACES = re.compile(r"\s+")


def segment(text: str, language: str, mode: Mode = "default", whole: Sequence[Bounds] = ()) -> list[Bounds]:
    """Start and end of each sentence of ``text``, in order, without the white space around it; none is empty.

    No sentence ends inside one of the ``whole`` stretches, which are in order and apart.
    """
    if mode == "none":
        spans: Iterator[Bounds] = iter([(0, len(text))])
    elif mode == "newlines":
        spans = (line.span() for line in LINE.finditer(text))
    elif mode == "punctuation":
        spans = _sentences(text, 0, len(text), language)
    else:
        spans = (
            sentence
            for line in LINE.finditer(text)
            for sentence in _sentences(text, line.start(), line.end(), language)
        )
    trimmed = (trim(text, start, end) for start, end in spans)
    return _join([(start, end) for start, end in trimmed if start < end], whole)


def trim(text: str, start: int, end: int) -> Bounds:
    """The span without the white space at its ends."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, max(start, start + len(part.strip()))


def in_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")


def is_punctuation(text: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in text)


def _join(sentences: list[Bounds], whole: Sequence[Bounds]) -> list[Bounds]:
    """Sentences made longer by what reaches over their ends; those that meet by that are one."""
    if not whole:
        return sentences
    joined: list[Bounds] = []
    ends = [end for _, end in whole]
    for sentence in sentences:
        first = bisect_right(ends, sentence[0])
        last = bisect_left(whole, sentence[1], lo=first, key=itemgetter(0))
        reach = [sentence, *whole[first:last]]
        if joined and min(reach)[0] < joined[-1][1]:
            reach.append(joined.pop())
        joined.append((min(reach)[0], max(end for _, end in reach)))
    return joined


def _sentences(text: str, start: int, end: int, language: str) -> Iterator[Bounds]:
    """Sentences of a stretch whose line breaks are white space like any other.

    The last one of a window is looked at again, with what follows it.
    """
    while start < end:
        stop = min(end, start + WINDOW)
        lengths = _split(text[start:stop], language)
        if stop < end:
            lengths = lengths[:-1] or [_soft_cut(text, start, stop) - start]
        for length in lengths:
            yield start, start + length
            start += length


def _split(text: str, language: str) -> list[int]:
    """Lengths of the sentences.

    sentencex fails on wide white space after an initial, so it gets a plain space for each: lengths stay. Its
    failures are Rust panics, which are no ``Exception``; should one be left, the stretch counts as one sentence.
    """
    try:
        found = sentencex.segment(language, SPACE.sub(" ", text))
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return [len(text)]
    lengths = [len(sentence) for sentence in found]
    return lengths if sum(lengths) == len(text) else [len(text)]


def _soft_cut(text: str, start: int, stop: int) -> int:
    """The last white space in the second half of the window, or its end where there is none."""
    cuts = [space.end() for space in SPACES.finditer(text, start + WINDOW // 2, stop)]
    return cuts[-1] if cuts else stop
