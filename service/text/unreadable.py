"""What a vocabulary has no sub-words for: letters of other scripts, currencies, other signs, raised digits, icons.

A model sees the bytes of such characters, or less, and has hardly ever seen them: it writes whatever comes, often bytes
that are no character. So they are kept, with the words and numbers that they belong to.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sentencepiece import SentencePieceProcessor

from service.text.protect import NUMBER, Protected
from service.text.segment import Bounds, in_word

LETTERS = "letters"
SYMBOL = "symbol"
UNSEEN = "unseen"
KEPT = frozenset({LETTERS, SYMBOL})
AND = "&"
"""By itself it is a word, which models know; in AT&T it is none."""
SIGNS = frozenset("§¶†‡•‰‱′″@#\\{}、・「」『』【】《》〈〉" + AND)
"""What Unicode counts as punctuation, and no sentence is punctuated with in the languages of Latin letters."""
APOSTROPHE = re.compile(r"(?<=[^\W\d_])[´`](?=[^\W\d_])")
"""What is typed for one, an accent between two letters. Models read the one that is meant."""
ALIKE = str.maketrans("‐‑‹›‚", "--«»„")
"""Hyphens and quotation marks that few texts have, and what models have learnt in their place."""
READ_OVER = "\x7f"
"""SentencePiece's usual normalisation drops it."""
JOINERS = frozenset("-'’\"‐‑·\u05be\u05f3\u05f4\u200c\u200d")
"""What stands inside words in other letters."""
SPACES = frozenset(" \u00a0\u202f")
LONGEST_UNIT = 3
"""Characters of what may have a space between itself and its number: €, °C, km², US$."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Words, numbers and signs that touch. Its kind is that of what the vocabulary lacks, if there is any."""

    start: int
    end: int
    kind: str
    is_number: bool
    """It has digits and no letters."""


class Unreadable:
    """Finds it for one vocabulary. Safe to use from several threads."""

    def __init__(self, model: SentencePieceProcessor) -> None:
        self.model = model
        self._kinds: dict[str, str] = {}

    def find(self, text: str, start: int, end: int) -> list[Protected]:
        """What is to be kept between ``start`` and ``end``, in order and apart.

        Its kind is ``letters`` (neighbours are one stretch), else ``amount`` where there is a number, ``word`` where
        there is a letter and ``symbol`` where there is neither.
        """
        odd = {each: kind for each in set(text[start:end]) if (kind := self._kind(each)) in KEPT}
        if not odd:
            return []
        clusters = list(_clusters(text, start, end, odd))
        found: list[Protected] = []
        for index, cluster in enumerate(clusters):
            first, last = cluster.start, cluster.end
            if cluster.kind == LETTERS and found and _are_one(text, found[-1], cluster):
                first = found.pop().start
            elif cluster.kind == SYMBOL:
                first, last = _with_number(text, clusters, index)
                if found and first < found[-1].end:
                    first = found.pop().start
            if cluster.kind:
                kind = cluster.kind if cluster.kind == LETTERS else _kind(text[first:last])
                found.append(Protected(first, last, text[first:last], kind))
        return found

    def as_read(self, text: str) -> str:
        """``text`` as the model is to read it, as long as before: with the usual apostrophes, hyphens and quotation
        marks. What nobody sees, as a soft hyphen, is read over.
        """
        text = APOSTROPHE.sub("'", text).translate(ALIKE)
        unseen = () if text.isprintable() else [each for each in set(text) if self._kind(each) == UNSEEN]
        return text.translate(dict.fromkeys(map(ord, unseen), READ_OVER)) if unseen else text

    def _kind(self, character: str) -> str:
        """``letters``, ``symbol``, ``unseen`` or, of what the vocabulary has, nothing."""
        if (kind := self._kinds.get(character)) is None:
            kind = self._kinds[character] = self._find_kind(character)
        return kind

    def _find_kind(self, character: str) -> str:
        category = unicodedata.category(character)
        is_symbol = category.startswith("S") or category in {"Co", "No"} or character in SIGNS
        # Of a Latin letter that is missing it has an idea: French has enough words such as maïs.
        is_letter = character.isalpha() and not unicodedata.name(character, "").startswith("LATIN ")
        is_unseen = category in {"Cc", "Cf"}
        if not (is_symbol or is_letter or is_unseen):
            return ""
        ids = self.model.encode(character)
        is_missing = any(self.model.is_unknown(each) or self.model.is_byte(each) for each in ids)
        # A raised 6 is read as a plain one: 10⁶ as 106, which is no number of the text.
        is_changed = category == "No" and self.model.decode(ids) != character
        if not (is_missing or is_changed):
            return ""
        if is_unseen:
            return UNSEEN
        return SYMBOL if is_symbol else LETTERS


def _clusters(text: str, start: int, end: int, odd: Mapping[str, str]) -> Iterator[Cluster]:
    """All between ``start`` and ``end``; ``odd`` has the kinds of the characters that the vocabulary lacks."""
    numbers = (found.span() for found in NUMBER.finditer(text, start, end))
    joined: list[Bounds] = []
    for first, last in sorted([*_words(text, start, end, odd), *numbers]):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    for first, last in joined:
        cluster = text[first:last]
        seen = "" if cluster == AND else APOSTROPHE.sub("'", cluster)
        kind = min((odd[each] for each in seen if each in odd), default="")
        is_number = any(map(str.isdecimal, cluster)) and not any(map(str.isalpha, cluster))
        yield Cluster(first, last, kind, is_number)


def _words(text: str, start: int, end: int, odd: Mapping[str, str]) -> Iterator[Bounds]:
    for is_word, group in groupby(range(start, end), lambda place: in_word(text[place]) or text[place] in odd):
        if is_word:
            places = list(group)
            yield places[0], places[-1] + 1


def _are_one(text: str, before: Protected, cluster: Cluster) -> bool:
    between = text[before.end : cluster.start]
    return before.kind == LETTERS and (not between.strip(" ") or between in JOINERS)


def _with_number(text: str, clusters: Sequence[Cluster], index: int) -> Bounds:
    """A cluster with the number before it or, where there is none, after it, if it has none itself."""
    start, end = clusters[index].start, clusters[index].end
    if end - start > LONGEST_UNIT or any(map(str.isdecimal, text[start:end])):
        return start, end
    for before in clusters[index - 1 : index]:
        if before.is_number and text[before.end : start] in SPACES:
            return before.start, end
    for after in clusters[index + 1 : index + 2]:
        if after.is_number and text[end : after.start] in SPACES:
            return start, after.end
    return start, end


def _kind(text: str) -> str:
    if any(map(str.isdecimal, text)):
        return "amount"
    return "word" if any(map(in_word, text)) else SYMBOL
