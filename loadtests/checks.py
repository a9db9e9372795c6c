"""What is wrong with a translation that can be seen without knowing the language: twelve checks, each yes or no.

==============  =======================================================================================================
``whole``       There is a translation, and the server did not have to cut it.
``loop``        Nothing is repeated more than three times in a row, or twice as often as in the source.
``length``      Neither side has over 2.5 times the characters of the other, and 20 more.
``numbers``     Every number of two digits or more is there, however it is punctuated.
``signs``       Every currency sign is there.
``characters``  No U+FFFD, which stands for bytes that are no character, is there that is not in the source.
``kept``        What must not be touched (placeholders, addresses, emoji, names) is there as it was.
``translated``  Of what has four letters or more besides, something has changed.
``language``    It is not rather (0.8) in another served language; asked of texts of 20 letters or more.
``invented``    A source without letters has a translation without letters.
``capitals``    A source in capitals has a translation in capitals.
``layout``      Line breaks, and white space at both ends, are those of the source.
==============  =======================================================================================================
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from service.text.detect import Detector

MAX_RATIO = 2.5
RATIO_SLACK = 20
TURNS = 3
LETTER_TURNS = 6
"""Of a stretch of characters: ``1000000`` and ``......`` are no loops."""
LONGEST_TURN = 24
"""Words, or characters, of the longest stretch whose repetition is looked for."""
TRUSTED_LETTERS = 20
CERTAIN = 0.8
ENOUGH = 4
"""Letters of which some must change."""
CAPITALS = 0.9
NUMBER = re.compile(r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,'’]\d+)*")
REPLACED = "\ufffd"
ANY_LANGUAGE = frozenset({"code", "wrong language"})
"""Kinds of input that are not in the source language, and may stay as they are."""


@dataclass(frozen=True)
class Case:
    """One input: of which kind, in which language, and what of it must come through untouched."""

    kind: str
    language: str
    text: str
    kept: tuple[str, ...] = ()

    @property
    def rest(self) -> str:
        """The text without what must stay."""
        return without(self.text, self.kept)


@dataclass(frozen=True)
class Output:
    """What a model answered."""

    text: str
    target: str
    truncated: bool = False


def letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def without(text: str, parts: Sequence[str]) -> str:
    for part in parts:
        text = text.replace(part, " ")
    return text


def turns(items: Sequence[str]) -> int:
    """How often in a row the stretch occurs that is repeated most: 1 for ``a b c``, 3 for ``x a b a b a b``."""
    most = min(1, len(items))
    for period in range(1, min(LONGEST_TURN, len(items) // 2) + 1):
        run = 0
        for place in range(period, len(items)):
            run = run + 1 if items[place] == items[place - period] else 0
            most = max(most, run // period + 1)
    return most


def loops(source: str, text: str) -> bool:
    """Does ``text`` repeat itself, and ``source`` not half as much?"""
    source, text = source.casefold(), text.casefold()
    by_word = turns(text.split()) > max(TURNS, 2 * turns(source.split()))
    return by_word or turns(text) > max(LETTER_TURNS, 2 * turns(source))


def numbers(text: str) -> Counter[str]:
    """Digits of the numbers of two digits or more; smaller ones may be written as words."""
    found = (re.sub(r"\D", "", number) for number in NUMBER.findall(text))
    return Counter(digits for digits in found if len(digits) > 1)


def signs(text: str) -> Counter[str]:
    """Currency signs."""
    return Counter(each for each in text if unicodedata.category(each) == "Sc")


def sane_length(source: str, text: str) -> bool:
    short, long = sorted((len(source.strip()), len(text.strip())))
    return long <= MAX_RATIO * short + RATIO_SLACK


def is_capitals(text: str) -> bool:
    upper, lower = sum(map(str.isupper, text)), sum(map(str.islower, text))
    return upper >= ENOUGH and upper >= CAPITALS * (upper + lower)


def ends(text: str) -> tuple[str, str]:
    """White space before and after what can be seen."""
    return text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]


def in_language(case: Case, output: Output, detector: Detector) -> bool:
    """False only where the detector is sure of another language."""
    text = without(output.text, case.kept)
    if case.kind in ANY_LANGUAGE or letters(text) < TRUSTED_LETTERS:
        return True
    ranked = detector.rank(text.lower())  # that it knows better than capitals
    return not ranked or ranked[0][0] == output.target or ranked[0][1] < CERTAIN


def translated(case: Case, output: Output) -> bool:
    if case.kind in ANY_LANGUAGE or letters(case.rest) < ENOUGH:
        return True
    return output.text.casefold().split() != case.text.casefold().split()


Check = Callable[[Case, Output, Detector], bool]
CHECKS: Mapping[str, Check] = {
    "whole": lambda case, output, _: bool(output.text.strip()) and not output.truncated,
    "loop": lambda case, output, _: not loops(case.text, output.text),
    "length": lambda case, output, _: sane_length(case.text, output.text),
    "numbers": lambda case, output, _: numbers(case.rest) <= numbers(without(output.text, case.kept)),
    "signs": lambda case, output, _: signs(case.text) <= signs(output.text),
    "characters": lambda case, output, _: output.text.count(REPLACED) <= case.text.count(REPLACED),
    "kept": lambda case, output, _: all(output.text.count(part) >= case.text.count(part) for part in case.kept),
    "translated": lambda case, output, _: translated(case, output),
    "language": in_language,
    "invented": lambda case, output, _: letters(case.text) > 0 or letters(output.text) == 0,
    "capitals": lambda case, output, _: not is_capitals(case.text) or is_capitals(output.text),
    "layout": lambda case, output, _: (
        output.text.count("\n") == case.text.count("\n") and ends(output.text) == ends(case.text)
    ),
}


def failed(case: Case, output: Output, detector: Detector) -> list[str]:
    """Names of the checks that ``output`` does not pass; ``detector`` knows the served languages."""
    return [name for name, passes in CHECKS.items() if not passes(case, output, detector)]
