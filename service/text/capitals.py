"""Sentences in capitals, of which models know little: they read small letters, and what they write is raised again."""

import re
from collections.abc import Callable

ENOUGH = 5
"""Letters; fewer are an abbreviation more often than a sentence."""
NEARLY_ALL = 0.9
LONE_I = re.compile(r"(?<![\w'’])i(?!\w)")


def is_capitals(text: str) -> bool:
    """Is it written in capitals? Characters that have no case do not count."""
    upper = sum(map(str.isupper, text))
    return upper >= ENOUGH and upper >= NEARLY_ALL * (upper + sum(map(str.islower, text)))


def lower(text: str, language: str) -> str:
    """Small letters, as long as ``text``; in English the pronoun "I" stays."""
    small = _keeping_length(str.lower, text)
    return LONE_I.sub("I", small) if language == "en" else small


def capitalise(text: str) -> str:
    """The first letter as a capital, as long as ``text``."""
    for index, letter in enumerate(text):
        if letter.isalpha():
            return text[:index] + _keeping_length(str.upper, letter) + text[index + 1 :]
    return text


def upper(text: str) -> str:
    """Capitals, as long as ``text``."""
    return _keeping_length(str.upper, text.replace("ß", "ẞ"))


def _keeping_length(change: Callable[[str], str], text: str) -> str:
    """What would become longer, as a ligature does, stays as it is."""
    changed = change(text)
    if len(changed) == len(text):
        return changed
    return "".join(new if len(new := change(each)) == 1 else each for each in text)
