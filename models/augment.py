"""Changed copies of sentence pairs, so that a model handles what users write and parallel text lacks.

================  =====================================================================================================
``capitals``      Both sides in capitals.
``title``         Both sides with every word capitalised.
``unpunctuated``  Both sides without their final ``.``, ``!`` or ``?``.
``emoji``         The same emoji before or after both sides.
``joined``        Two to four pairs of the corpus in one line.
``typos``         The source alone with slips of the keyboard, without its accents or in lower case.
``placeholders``  What stands on both sides alike (addresses, numbers, names) replaced on both by a placeholder
                  symbol, a ``⟦3⟧`` that the model learns to carry over.
================  =====================================================================================================

The shares are those of :class:`models.config.AugmentConfig`; the same seed makes the same copies.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from models.config import AugmentConfig
from models.pairs import Pair
from models.tokenizer import PLACEHOLDERS

BOTH, FORWARD, BACKWARD = 0, 1, 2
MOST_JOINED = 4
LONGEST_JOINED = 240
"""Code points of the first side; longer lines would be left out of training."""
EMOJI = (
    "😀", "😂", "😉", "😊", "😍", "😎", "😢", "😭", "😡", "😱", "🤔", "🙄", "😅", "🙂", "👍", "👎",
    "👏", "🙏", "💪", "🎉", "🎂", "🎁", "❤️", "💔", "🔥", "⭐", "✅", "❌", "⚠️", "🚀", "📷", "📌",
    "🐶", "🐱", "🌞", "🌧️", "☕", "🍕", "🍺", "🏠", "🚗", "✈️", "⚽", "🎵", "👀", "👋", "🤷", "🇫🇷",
    "🇩🇪", "💡",
)  # fmt: skip
COPIED = re.compile(
    r"""(?:https?://|www\.)[^\s<>"]*[^\s<>".,;:!?)»]     # an address
      | [\w.+-]+@\w[\w-]*(?:\.\w[\w-]*)+                 # an e-mail address
      | (?<![\w.,])\d+(?:[.,:/-]\d+)*(?!\w)              # a number, a date, a version
      | (?<!\w)[A-ZÀ-Ý][\w'’-]*\w(?!\w)                  # a name or the like
    """,
    re.VERBOSE,
)
FALSE_FRIENDS = {
    "Also", "Am", "Bald", "But", "Comment", "Die", "Dire", "Hat", "In", "Man", "Men", "Nun", "On", "Or",
    "Pour", "So", "Son", "War", "Was", "Will",
}  # fmt: skip
"""Words that begin sentences of two of the languages and mean something else in each."""
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
BESIDE = {key: row[max(i - 1, 0) : i] + row[i + 1 : i + 2] for row in KEYS for i, key in enumerate(row)}


class Example(NamedTuple):
    """A pair to learn from, and which way: BOTH, or FORWARD or BACKWARD alone."""

    pair: Pair
    way: int = BOTH


def title(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def unpunctuated(text: str) -> str:
    """Without final punctuation; the same text where there is none, or where an ellipsis ends it."""
    bare = text[:-1].rstrip()
    return bare if text.endswith((".", "!", "?")) and bare and bare[-1].isalnum() else text


def slip(text: str, draw: random.Random) -> str:
    """One slip within a word of four letters or more; the same text where there is none."""
    places = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 3].isalpha()]
    if not places:
        return text
    i = draw.choice(places)
    swapped, dropped, doubled = text[i + 1] + text[i], text[i + 1], text[i] * 2 + text[i + 1]
    beside = draw.choice(BESIDE.get(text[i], text[i])) + text[i + 1]
    return text[:i] + draw.choice((swapped, dropped, doubled, beside)) + text[i + 2 :]


def plain(text: str) -> str:
    """Without accents, as from a keyboard that has none."""
    return unicodedata.normalize("NFC", "".join(c for c in unicodedata.normalize("NFD", text) if not is_accent(c)))


def is_accent(char: str) -> bool:
    return unicodedata.category(char) == "Mn"


def misspelt(text: str, draw: random.Random) -> str:
    """A slip or two, or no accents, or no capitals."""
    kind = draw.random()
    if kind < 0.6:
        return slip(slip(text, draw), draw) if len(text) > 40 else slip(text, draw)
    return text.lower() if kind < 0.85 else plain(text)


def with_placeholders(pair: Pair, draw: random.Random) -> Pair:
    """What stands on both sides once alike becomes a placeholder; the same pair where there is nothing of the kind."""
    sides = [COPIED.findall(text) for text in (pair.first, pair.second)]
    same = [text for text in sides[0] if text in sides[1] and text not in FALSE_FRIENDS]
    same = [text for text in same if pair.first.count(text) == pair.second.count(text) == 1]
    chosen = [text for text in same if draw.random() < 0.8][: len(PLACEHOLDERS)]
    symbols = list(PLACEHOLDERS[: len(chosen)])
    if draw.random() < 0.5:
        symbols = draw.sample(PLACEHOLDERS, len(chosen))
    symbol_of = dict(zip(chosen, symbols, strict=True))
    return pair._replace(first=replaced(pair.first, symbol_of), second=replaced(pair.second, symbol_of))


def replaced(text: str, symbol_of: Mapping[str, str]) -> str:
    """``text`` with a symbol for each of the keys, in one pass: a symbol has a digit, which may be a key too."""
    if not symbol_of:
        return text
    keys = sorted(symbol_of, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, keys)), lambda found: symbol_of[found[0]], text)


def on_both(change: Callable[[str], str], pair: Pair) -> Pair:
    """Changed on both sides, or on none where one would stay as it is."""
    first, second = change(pair.first), change(pair.second)
    if first == pair.first or second == pair.second:
        return pair
    return pair._replace(first=first, second=second)


@dataclass
class Augmenter:
    """Makes the changed copies of the pairs of one corpus."""

    shares: AugmentConfig
    draw: random.Random

    def examples(self, pairs: Sequence[Pair]) -> Iterator[Example]:
        """Every pair, and behind it its changed copies."""
        for pair in pairs:
            yield Example(pair)
            for copy, way in self.copies(pair, pairs):
                if copy != pair:
                    yield Example(copy, way)

    def copies(self, pair: Pair, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, int]]:
        for share, change in (
            (self.shares.capitals, str.upper),
            (self.shares.title, title),
            (self.shares.unpunctuated, unpunctuated),
            (self.shares.emoji, self.emoji()),
        ):
            if self.draw.random() < share:
                yield on_both(change, pair), BOTH
        if self.draw.random() < self.shares.joined:
            yield self.joined(pair, pairs), BOTH
        if self.draw.random() < self.shares.placeholders:
            yield with_placeholders(pair, self.draw), BOTH
        if self.draw.random() < self.shares.typos:
            yield pair._replace(first=misspelt(pair.first, self.draw)), FORWARD
        if self.draw.random() < self.shares.typos:
            yield pair._replace(second=misspelt(pair.second, self.draw)), BACKWARD

    def emoji(self) -> Callable[[str], str]:
        emoji = self.draw.choice(EMOJI) * self.draw.choice((1, 1, 1, 2))
        return (lambda text: f"{emoji} {text}") if self.draw.random() < 0.3 else (lambda text: f"{text} {emoji}")

    def joined(self, pair: Pair, pairs: Sequence[Pair]) -> Pair:
        """``pair`` with one to three others behind it, as far as they fit."""
        for _ in range(self.draw.randint(1, MOST_JOINED - 1)):
            other = self.draw.choice(pairs)
            if len(pair.first) + len(other.first) < LONGEST_JOINED:
                pair = pair._replace(first=f"{pair.first} {other.first}", second=f"{pair.second} {other.second}")
        return pair
