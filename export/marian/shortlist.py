"""Lexical shortlists, ``lex.*.bin``: for each source sub-word those of the target that its translations are made of."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.marian.reader import Reader

MAGIC = 0xF11A48D5013417F5


@dataclass(frozen=True)
class Shortlist:
    first: int
    """The first so many sub-words of the target are always among them."""
    offsets: np.ndarray
    """[source sub-words + 1] where the list of each begins."""
    words: np.ndarray
    """The lists one after the other."""

    def having(self, token: int, *, own: bool) -> "Shortlist":
        """The same with ``token`` in every list and, with ``own``, each sub-word in its own: it may be carried over."""
        counts = np.diff(self.offsets)
        sources = np.arange(len(counts))
        words, offsets = self.words, self.offsets
        for more in (np.full_like(sources, token), *([sources] if own else [])):
            words, offsets = np.insert(words, offsets[:-1], more), offsets + np.arange(len(offsets))
        return Shortlist(self.first, offsets, words)

    def uses(self, targets: int) -> np.ndarray:
        """How often each sub-word of the target is asked for in running text, ``[targets]``: most those always there.

        Vocabularies begin with what is frequent: a source sub-word's number says how often it occurs (Zipf's law).
        """
        frequency = 1 / np.arange(1, len(self.offsets))
        uses = np.bincount(self.words, np.repeat(frequency, np.diff(self.offsets)), targets)
        uses[: self.first] = np.inf
        return uses

    def of(self, sources: np.ndarray) -> np.ndarray:
        """Target sub-words for a sentence, in order."""
        lists = [self.words[self.offsets[source] : self.offsets[source + 1]] for source in np.unique(sources).tolist()]
        return np.unique(np.concatenate([np.arange(self.first), *lists]))


def read_shortlist(path: Path, sources: int, targets: int) -> Shortlist:
    """For vocabularies of those sizes. Raises :class:`export.marian.reader.FileError`."""
    reader = Reader(path)
    if reader.number("the magic number") != MAGIC:
        reader.fail("this is no binary shortlist", 0)
    reader.number("the checksum")
    first, _, starts, count = (
        reader.number(f"the number of {what}") for what in ("frequent words", "words for each", "offsets", "words")
    )
    if starts != sources + 1 or first > targets:
        reader.fail(f"it has {starts} offsets and {first} frequent words, the vocabularies {sources} and {targets}")
    start = reader.offset
    offsets = reader.numbers("<u8", starts, f"the table of {starts} offsets")
    words = reader.numbers("<u4", count, f"the lists of {count} words")
    if reader.left:
        reader.fail(f"{reader.left} bytes follow the last list")
    if offsets[0] != 0 or offsets[-1] != count or (offsets[1:] < offsets[:-1]).any():
        reader.fail("the offsets are not in order", start)
    if words.max(initial=0) >= targets:
        reader.fail(f"word {words.max()} is not one of {targets}", start + offsets.nbytes)
    return Shortlist(first, offsets.astype(np.int64), words.astype(np.int64))
