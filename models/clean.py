"""Cleaning of parallel text: one pass, in which every pair is kept or dropped for the first reason that holds.

============  =========================================================================================================
``empty``     A side has no text.
``encoding``  A replacement character or a control character: text was lost on its way.
``length``    One side has over 2.5 times the characters of the other, and 20 more: not each other's translation.
``letters``   Less than half of a side's visible characters are letters: tables, code, rules, lists of numbers.
``copy``      A side of three words or more is the other one, case and punctuation aside: never translated.
``numbers``   Both sides have numbers of two digits or more and not one in common: shifted by a line, or outdated.
``repeated``  The same two sentences came before, case and punctuation aside.
``template``  Three pairs came before that differ in their numbers only ("Step 3 of 5").
``language``  A side of 30 letters or more is more likely (0.8) in the other side's language. py3langid is asked, with
              the pair's two languages alone: of all the languages that it knows it would find too many.
============  =========================================================================================================

What is a matter of taste or of spelling stays: an archaic Bible, the ``œ`` that Europarl lost, sentences in lower case.
"""

import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from py3langid.langid import MODEL_FILE, LanguageIdentifier
from rich.progress import track

from models.config import DataConfig
from models.pairs import Pair, read_pairs

MAX_RATIO = 2.5
RATIO_SLACK = 20
LETTERS = 0.5
COPIED_WORDS = 3
TRUSTED_LETTERS = 30
"""Language identification guesses on shorter sentences."""
CERTAIN = 0.8
SAME_TEMPLATE = 3


@cache
def identifier(languages: tuple[str, ...]) -> LanguageIdentifier:
    """py3langid restricted to ``languages``; loading it takes a second."""
    known = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known.set_languages(sorted(languages))
    return known


def fold(text: str) -> str:
    """Letters and digits, case folded, other characters as single spaces."""
    return " ".join("".join(char if char.isalnum() else " " for char in text.casefold()).split())


def numbers(folded: str) -> set[str]:
    """Numbers of two digits or more in a folded text; smaller ones are often written as words."""
    runs = "".join(char if char.isdigit() else " " for char in folded).split()
    return {run for run in runs if len(run) > 1}


def in_wrong_language(text: str, languages: tuple[str, str]) -> bool:
    """Is ``text`` rather in the second of ``languages`` than in the first? False where it is too short to say."""
    if sum(map(str.isalpha, text)) < TRUSTED_LETTERS:
        return False
    found, certainty = identifier(tuple(sorted(languages))).classify(text)
    return found == languages[1] and float(certainty) >= CERTAIN


def mostly_letters(text: str) -> bool:
    visible = sum(not char.isspace() for char in text)
    return sum(map(str.isalpha, text)) >= LETTERS * visible


def is_damaged(text: str) -> bool:
    return any(char == "\ufffd" or unicodedata.category(char) == "Cc" for char in text)


def any_in_wrong_language(pair: Pair, languages: tuple[str, str]) -> bool:
    first, second = languages
    return in_wrong_language(pair.first, (first, second)) or in_wrong_language(pair.second, (second, first))


def damage(sides: tuple[str, str]) -> str:
    """What is wrong with a pair that shows without reading it."""
    short, long = sorted(len(side) for side in sides)
    if not short:
        return "empty"
    if any(map(is_damaged, sides)):
        return "encoding"
    if long > MAX_RATIO * short + RATIO_SLACK:
        return "length"
    return "" if all(map(mostly_letters, sides)) else "letters"


def mismatch(folded: tuple[str, str]) -> str:
    """What is wrong with two sides that are compared."""
    first, second = folded
    if first == second and first.count(" ") >= COPIED_WORDS - 1:
        return "copy"
    found = [numbers(text) for text in folded]
    return "numbers" if all(found) and not found[0] & found[1] else ""


class Cleaner:
    """Goes through pairs of one or more files and counts what it does in ``counts[corpus][reason or "kept"]``."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.seen: set[int] = set()
        """Hashes of the folded pairs; a collision costs one pair in 10^13."""
        self.templates: Counter[int] = Counter()

    def clean(self, pairs: Iterable[Pair], languages: tuple[str, str]) -> Iterator[Pair]:
        """The pairs that are kept, in their order."""
        for pair in pairs:
            reason = self.reason(pair, languages)
            self.counts[pair.corpus][reason or "kept"] += 1
            if not reason:
                yield pair

    def reason(self, pair: Pair, languages: tuple[str, str]) -> str:
        """Why a pair is dropped; empty where it is kept, which is then remembered."""
        folded = fold(pair.first), fold(pair.second)
        repeated = hash(folded)
        template = hash(tuple("".join("0" if char.isdigit() else char for char in text) for text in folded))
        reason = damage((pair.first, pair.second)) or mismatch(folded)
        if not reason and repeated in self.seen:
            reason = "repeated"
        if not reason and self.templates[template] >= SAME_TEMPLATE and any(map(numbers, folded)):
            reason = "template"
        if not reason and any_in_wrong_language(pair, languages):
            reason = "language"
        if not reason:
            self.seen.add(repeated)
            self.templates[template] += 1
        return reason


def read(files: Sequence[Path], config: DataConfig, seed: int, cleaner: Cleaner) -> list[Pair]:
    """Clean pairs of the corpora that the configuration names, ``corpus`` being as in ``config.shares``."""
    kept: list[Pair] = []
    draw = random.Random(seed)
    for file in files:
        languages = config.pair_of(file)
        first, second = languages.split("-")
        named = (pair._replace(corpus=f"{languages}/{pair.corpus}") for pair in read_pairs([file]))
        drawn = (pair for pair in named if draw.random() < config.prepared(pair.corpus))
        kept += cleaner.clean(track(drawn, file.name), (first, second))
    return kept
