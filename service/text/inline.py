"""The tags of a block, put around the words of its translation.

An element goes around the stretch of words that looks at what it enclosed: of all stretches the one in which the
shares of attention that the words give to that text, each less :data:`PRICE`, have the greatest sum. So a word that
looks elsewhere is taken in only where others around it make up for it; what enclosed a whole sentence encloses all of
its translation; and where no word is worth its price, one is enclosed, the one that looks most. Elements stay within
those they were in and never overlap: a word is for the one it looks at most, and one with a greater sum is first to
choose.

What has no text stands behind the translation of the word that it stood behind.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.text.markup import KEY_LENGTH, KEY_START, Block, Mark, every
from service.text.segment import Bounds, is_punctuation, trim

PRICE = 0.4
"""Where words were aligned by hand, 0.3 to 0.5 found nearly the same stretches, and the nearest to those."""
LEAST = 0.1
"""An element is left empty where no word gives its text this share of its attention."""
TAKEN = -1e6
"""Less than the sum of any stretch."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation, with where they stand in the text of a block and in its translation.

    ``source_words [source words, 2]``, ``target_words [target words, 2]`` and ``weights [target words, source words]``.
    """

    source: Bounds
    target: Bounds
    source_words: Ints
    target_words: Ints
    weights: Floats


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mark goes in the translation, and the first and the last word in it; none where it goes between words."""

    start: int
    end: int
    mark: Mark
    words: Bounds | None = None


def write(block: Block, translation: str, pairs: Sequence[Pair]) -> str:
    """The block's HTML with ``translation`` in place of its text; ``pairs`` are in order."""
    if translation == block.text:
        return block.html
    if not block.marks:
        return block.before + block.escape(translation) + block.after
    return block.before + _Writer(block, translation, pairs).write() + block.after


class _Writer:
    def __init__(self, block: Block, translation: str, pairs: Sequence[Pair]) -> None:
        self.block = block
        self.translation = translation
        self.kept = self._find_kept()
        self.found = {place.mark.key for place in self.kept}
        self.pairs = pairs = self._look_at_kept(pairs)
        self.starts = [pair.source[0] for pair in pairs]
        self.behind = [_behind(pair) for pair in self.pairs]
        self.words = np.concatenate([np.empty((0, 2), np.int64), *(pair.target_words for pair in pairs)])
        self.firsts = np.cumsum([0, *(len(pair.target_words) for pair in pairs)]).tolist()
        """The number of each pair's first word among all of the translation."""

    def write(self) -> str:
        source = trim(self.block.text, 0, len(self.block.text))
        return self._inside(self.block.marks, source, (0, len(self.translation)), (0, len(self.words)))

    def _find_kept(self) -> list[Place]:
        """Where that which may not be translated stands in the translation, in order; what stands there twice counts
        once."""
        marks = {mark.key: mark for mark in every(self.block.marks) if mark.key}
        found = []
        start = self.translation.find(KEY_START) if marks else -1
        while start >= 0:
            key = self.translation[start : start + KEY_LENGTH]
            if key in marks:
                found.append(Place(start, start + KEY_LENGTH, marks[key]))
                marks[key] = Mark("", 0)
            start = self.translation.find(KEY_START, start + 1)
        return found

    def _look_at_kept(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs with what is kept looking at itself, since there is no doubt where it comes from; between sentences
        it is a pair of its own."""
        changed, starts = list(pairs), [pair.source[0] for pair in pairs]
        for place in filter(lambda place: place.mark.key, self.kept):
            source, target = (place.mark.start, place.mark.end), (place.start, place.end)
            number = bisect_right(starts, source[0]) - 1
            if number < 0 or source[0] >= pairs[number].source[1]:
                before = pairs[number].target[1] if number >= 0 else 0
                after = pairs[number + 1].target[0] if number + 1 < len(pairs) else len(self.translation)
                if before <= place.start and place.end <= after:
                    changed.append(Pair(source, target, np.array([source]), np.array([target]), np.ones((1, 1))))
                continue
            pair = changed[number]
            looked_at, looking = _overlap(pair.source_words, *source), _overlap(pair.target_words, *target)
            if looked_at.any():
                weights = np.where(looking[:, None], looked_at / looked_at.sum(), pair.weights)
                changed[number] = replace(pair, weights=weights)
        return sorted(changed, key=lambda pair: pair.source)

    def _inside(self, marks: Sequence[Mark], source: Bounds, target: Bounds, words: Bounds) -> str:
        """The HTML of ``target``, which is the translation of ``source`` and has ``words``, with ``marks`` in it."""
        parts, written = [], target[0]
        places = self._places(marks, source, target, words)
        for place in sorted(places, key=lambda place: (place.start, place.mark.start, place.words is not None)):
            start = max(place.start, written)
            parts.append(self._plain(written, start))
            written = max(place.end, start)
            if place.words is None:
                parts.append(self._tags(place.mark))
            else:
                mark = place.mark
                inside = self._inside(mark.inside, (mark.start, mark.end), (start, written), place.words)
                parts += [mark.open, inside, mark.close]
        return "".join([*parts, self._plain(written, target[1])])

    def _tags(self, mark: Mark) -> str:
        """``mark`` with all in it, but without text."""
        if mark.key and mark.key in self.found:
            return ""
        return "".join([mark.open, *map(self._tags, mark.inside), mark.close, mark.after])

    def _plain(self, start: int, end: int) -> str:
        """A stretch without marks, but with what is kept."""
        parts = []
        number = bisect_right(self.kept, start, key=_end)
        while number < len(self.kept) and self.kept[number].start < end:
            place = self.kept[number]
            parts += [self._escaped(start, place.start), place.mark.open]
            start, number = place.end, number + 1
        return "".join([*parts, self._escaped(start, end)])

    def _escaped(self, start: int, end: int) -> str:
        """Without line breaks: each is a mark too."""
        return self.block.escape(self.translation[start:end].replace("\n", ""))

    def _places(self, marks: Sequence[Mark], source: Bounds, target: Bounds, words: Bounds) -> list[Place]:
        """Of all marks but those that are kept and have been found."""
        around = [mark for mark in marks if mark.start < mark.end and not mark.key]
        between = [mark for mark in marks if mark.start == mark.end or (mark.key and mark.key not in self.found)]
        if len(around) == 1 and (around[0].start, around[0].end) == source:
            places = [Place(*trim(self.translation, *target), around[0], words)]
        else:
            stretches = self._share_out(around, words)
            places = [self._around(mark, *words) for mark, words in zip(around, stretches, strict=True) if words]
            between += [mark for mark, words in zip(around, stretches, strict=True) if not words]
        return places + [self._between(mark, target) for mark in between]

    def _around(self, mark: Mark, first: int, last: int) -> Place:
        """``mark`` around the words from ``first`` up to ``last``, but around punctuation at an end only if it had
        some: a full stop can look at any word of its sentence."""
        if not is_punctuation(self.block.text[mark.end - 1]):
            while last - first > 1 and is_punctuation(self._word(last - 1)):
                last -= 1
        if not is_punctuation(self.block.text[mark.start]):
            while last - first > 1 and is_punctuation(self._word(first)):
                first += 1
        start, end = int(self.words[first][0]), int(self.words[last - 1][1])
        before, after = self._kept_at(start), self._kept_at(end)
        return Place(before.start if before else start, after.end if after else end, mark, (first, last))

    def _word(self, number: int) -> str:
        start, end = self.words[number].tolist()
        return self.translation[start:end]

    def _between(self, mark: Mark, target: Bounds) -> Place:
        position = min(max(self._position(mark.start), target[0]), target[1])
        kept = self._kept_at(position)
        position = kept.end if kept else position
        return Place(position, position, mark)

    def _kept_at(self, position: int) -> Place | None:
        """What is kept on both sides of ``position``."""
        number = bisect_right(self.kept, position, key=_end)
        inside = number < len(self.kept) and self.kept[number].start < position
        return self.kept[number] if inside else None

    def _share_out(self, marks: Sequence[Mark], words: Bounds) -> list[Bounds | None]:
        """For each mark the stretch of ``words`` that it goes around, if there is one."""
        found: list[Bounds | None] = [None] * len(marks)
        shares = [self._shares(mark, words) for mark in marks]
        most = np.zeros(words[1] - words[0])
        for first, share in shares:
            np.maximum(most[first : first + len(share)], share, out=most[first : first + len(share)])
        # A word is for the mark that it looks at most.
        values = [np.where(share < most[first : first + len(share)], TAKEN, share - PRICE) for first, share in shares]
        best = [_best(value) for value in values]
        free = np.ones(len(most), dtype=bool)
        for number in sorted(range(len(marks)), key=lambda number: -best[number][0]):
            first, share = shares[number]
            mine = free[first : first + len(share)]
            total, start, end = best[number]
            if not mine[start:end].all():
                total, start, end = _best(np.where(mine, values[number], TAKEN))
            if total > TAKEN / 2 and share[start:end].max() >= LEAST:
                mine[start:end] = False
                found[number] = (words[0] + first + start, words[0] + first + end)
        return found

    def _shares(self, mark: Mark, words: Bounds) -> tuple[int, Floats]:
        """Of those of the ``words`` that are in sentences that ``mark`` has a part of: which one is the first, and how
        much of its attention each of them gives to what is in ``mark``."""
        begin = bisect_right(self.starts, mark.start) - 1
        begin += begin < 0 or self.pairs[begin].source[1] <= mark.start
        stop = bisect_left(self.starts, mark.end)
        found = [np.empty(0)]
        for pair in self.pairs[begin:stop]:
            inside = _overlap(pair.source_words, mark.start, mark.end)
            found.append(np.ones(len(pair.weights)) if inside.all() else pair.weights[:, inside].sum(axis=1))
        first = self.firsts[begin]
        low, high = max(first, words[0]), min(self.firsts[max(begin, stop)], words[1])
        return low - words[0], np.concatenate(found)[low - first : max(high, low) - first]

    def _position(self, position: int) -> int:
        """Where in the translation that stands which stands at ``position`` in the text."""
        number = bisect_right(self.starts, position) - 1
        pair = self.pairs[number] if number >= 0 else None
        if pair is not None and position < pair.source[1]:
            found = int(self.behind[number][np.searchsorted(pair.source_words[:, 1], position, side="right")])
            spaced = self.block.text[position - 1 : position] == " " == self.translation[found : found + 1]
            return found + spaced
        # What lies between sentences is the same in both texts.
        found = pair.target[1] + position - pair.source[1] if pair is not None else position
        following = self.pairs[number + 1].target[0] if number + 1 < len(self.pairs) else len(self.translation)
        return min(found, following)


def _end(place: Place) -> int:
    return place.end


def _overlap(words: Ints, start: int, end: int) -> NDArray[np.bool_]:
    """Which of the words have a character between ``start`` and ``end``."""
    return (words[:, 0] < end) & (words[:, 1] > start)


def _best(values: Floats) -> tuple[float, int, int]:
    """The greatest sum of a stretch that is not empty, and where it begins and ends. None is as bad as one taken."""
    if not len(values):
        return TAKEN, 0, 0
    sums = np.concatenate([[0.0], np.cumsum(values)])
    gains = sums[1:] - np.minimum.accumulate(sums[:-1])
    last = int(gains.argmax())
    return float(gains[last]), int(sums[: last + 1].argmin()), last + 1


def _behind(pair: Pair) -> Ints:
    """``[source words + 1]``: where the translation of so many words of the sentence ends."""
    count = len(pair.source_words)
    last = np.full(count, -1)
    np.maximum.at(last, pair.weights.argmax(axis=1), np.arange(len(pair.weights)))
    # A word that no other looks at ends where the one before it does.
    known = np.maximum.accumulate(np.where(last >= 0, np.arange(count), -1))
    ends = [pair.target_words[last[index]][1] if index >= 0 else pair.target[0] for index in known]
    return np.array([pair.target[0], *ends[:-1], pair.target[1]], dtype=np.int64)
