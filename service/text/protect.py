"""Stretches of a text that no model may touch: each comes through whole, or as what is to stand in its place."""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from service.text.segment import Bounds

PICTOGRAPHS = (
    "\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
"""Blocks that Unicode keeps for them, those to come too. The letters of flags are among them."""
SIGNS = re.compile(rf"[@{{%<⟦\u20e3{PICTOGRAPHS}]")
ADDRESSES = ("/", "=", "www.", ".com", ".org", ".net", ".edu", ".gov", ".info")
"""In small letters. Most texts have neither the one nor the other, and nothing to find."""
# No alternative begins inside what another of its kind would begin with, and what has matched is not given back piece
# by piece: the search takes time in proportion to the text, whatever the text.
FOUND = re.compile(
    r"""
    (?P<email> (?<![\w.+%-]) [\w.+%-]++ @ [\w-]++ (?:\.[\w-]++)++ )
    | (?P<url> (?<![\w@.-])
          (?: [A-Za-z][A-Za-z\d+.-]{1,30}+://[^\s<>"]++
            | (?i:www)\.[^\s<>"/]++ (?:PATH)?
            | (?:[\w-]++\.)+
              (?: (?:com|org|net|edu|gov|info|COM|ORG|NET|EDU|GOV|INFO)(?![\w@-]) (?::\d{1,5})? (?:PATH)?
                | (?:[a-z]{2,63}+|[A-Z]{2,63}+) (?::\d{1,5})? (?:PATH)  # not "the end.And/or"
              )
          )
      )
    | (?P<placeholder>
          \{\{[^{}\n]{1,100}\}\}                                  # {{name}}
        | [$%\#]?\{[\w.:!$@\[\]-]{0,100}\}                        # {0}, ${name}, %{name}, {price:.2f}
        | (?<![\d%])%(?:\(\w{1,100}\)|\d{1,3}\$)?                 # %s, %1$s, %(name)s, %.2f
          [-+0\#]{0,5}\d{0,3}(?:\.\d{1,3})?(?:hh?|ll?|[zjtL])?[sdifuxXoeEgGcpq@](?![A-Za-z])
        | ⟦\d{1,9}⟧                                               # what models see in place of all these
      )
    | (?P<tag> </?(?:[A-Za-z][\w:-]*+(?:\s[^<>]*+)?|\d{1,9}\s?)/?> )  # <b>, <0>
    | (?P<emoji>
          [\U0001f1e6-\U0001f1ff]{2}                              # a flag: two letters
        | [0-9\#*]\ufe0f?\u20e3                                   # a key
        | PICTOGRAPH (?:\u200d PICTOGRAPH)*+                      # one, or several drawn as one
      )
    """.replace(
        "PICTOGRAPH",
        # And its variation, skin tone or region.
        f"[{PICTOGRAPHS}][\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*+",
    ).replace("PATH", r"""(?:/|\?[\w-]++=)[^\s<>"]*+"""),
    re.VERBOSE,
)
BEHIND = frozenset(".,;:!?'\"’”»…*_")
"""What ends the sentence or the quotation around an address, not the address."""
OPENING = {")": "(", "]": "[", "}": "{"}
MINUS = "-−–"
WRITTEN_MINUS = MINUS + "—"
"""What models make of it."""
NUMBER = re.compile(
    rf"(?:(?<!\S)[{MINUS}])?+"  # -5, but not 3-5
    r"\d(?:\d{0,2}(?:[ \u00a0\u202f]\d{3}(?!\d))++(?:[.,]\d++)*+"  # 1 234 567,89
    r"|\d*+(?:[.,'’:]\d++)*+)"  # 1,234.56 or 7:30
)
SPACE = r"[ \u00a0\u202f]"
SEPARATOR = r"[.,'’ \u00a0\u202f]"
POINT = r"(?:[.,'’:]|\s?h\s?)"
"""7:30 is 7.30 to some, and 7 h 30 to others."""
UNITS = "%°€$£"
AROUND = ".,;:!?'\"’”»“«…()[]"
"""Punctuation around a word with a number in it."""
LOOSE = frozenset({"emoji", "tag", "symbol"})
"""Kinds that no sentence is built around: at its ends they are none of a model's business."""


@dataclass(frozen=True, slots=True)
class Protected:
    """What stands from ``start`` up to ``end`` in a text; ``text`` stands for it in the translation."""

    start: int
    end: int
    text: str
    kind: str


def protect(text: str, given: Sequence[Protected] = ()) -> list[Protected]:
    """What is found in ``text`` and what is ``given``, in order and apart. Where two overlap, what is given counts.

    Those that touch become one: a model could not tell where one ends.
    """
    kept = list(apart(sorted(given, key=_start)))
    runs: list[list[Protected]] = []
    for span in sorted([*kept, *without(_find(text), kept)], key=_start):
        if runs and runs[-1][-1].end == span.start:
            runs[-1].append(span)
        else:
            runs.append([span])
    return [_join(run) for run in runs]


def apart(spans: Iterable[Protected]) -> Iterator[Protected]:
    """Those of ``spans``, which are sorted, that do not overlap one before."""
    end = 0
    for span in spans:
        if span.start >= end:
            yield span
            end = span.end


def without(spans: Iterable[Protected], others: Sequence[Protected]) -> Iterator[Protected]:
    """Those of ``spans`` that overlap none of the ``others``, which are in order and apart."""
    return (span for span in spans if not overlapping(others, span.start, span.end))


def overlapping(spans: Sequence[Protected], start: int, end: int) -> Sequence[Protected]:
    """Those of ``spans``, which are in order and apart, that have a part between ``start`` and ``end``."""
    if not spans:
        return spans
    first = bisect_right(spans, start, key=_end)
    return spans[first : bisect_left(spans, end, lo=first, key=_start)]


def gaps(start: int, end: int, spans: Sequence[Protected]) -> Iterator[Bounds]:
    """What ``spans``, which are in order and apart, leave between ``start`` and ``end``."""
    for span in spans:
        yield start, span.start
        start = span.end
    yield start, end


def numbers(text: str, start: int, end: int) -> Iterator[Protected]:
    """Numbers between ``start`` and ``end``."""
    for found in NUMBER.finditer(text, start, end):
        yield Protected(*found.span(), found[0], "number")


def words_with_numbers(text: str, start: int, end: int) -> Iterator[Protected]:
    """Words between ``start`` and ``end`` that have a number, as 1984, COVID-19, 12/05/2021, 7:30 and 5 % do."""
    runs: list[Bounds] = []
    for found in NUMBER.finditer(text, start, end):
        first, last = found.span()
        done = runs[-1][1] if runs else start
        while first > done and not text[first - 1].isspace():
            first -= 1
        last = max(last, done)
        while last < end and not text[last].isspace():
            last += 1
        if runs and first <= done:
            first = runs.pop()[0]
        runs.append((first, last))
    for first, last in runs:
        has_unit = last + 1 < end and text[last + 1] in UNITS and not text[last + 2 : last + 3].isalnum()
        run = text[first : last + 2 * has_unit]
        start = first + len(run) - len(run.lstrip(AROUND))
        word = run.strip(AROUND)
        yield Protected(start, start + len(word), word, "number")


def number_pattern(number: str) -> "re.Pattern[str]":
    """Finds a number in a translation, where it may have other separators: 1,000.5 is 1.000,5 and 1 000,5.

    A zero at the beginning of two digits, as of a day, does not count; those of a longer one, as of a telephone, do. A
    minus does.
    """
    minus = rf"[{WRITTEN_MINUS}]\s?" if number[0] in MINUS else ""
    first, *rest = re.split(r"(\D)", ascii_digits(number).lstrip(MINUS))
    if not rest and len(first) <= 2:
        first = first.lstrip("0") or "0"
    digits = _in_thousands(first)
    for separator, group in zip(rest[::2], rest[1::2], strict=True):
        # Without its separator 1.5 or 0.125 is another number, and 1,000 is not.
        may_be_thousands = len(group) == 3 and separator != ":" and not first.startswith("0")
        digits += (f"{SEPARATOR}?" if may_be_thousands else POINT) + _in_thousands(group)
    return re.compile(rf"(?<!\d)(?<!\d[.,]){minus}0*{digits}(?!\d|[.,]\d)")


def _in_thousands(digits: str) -> str:
    """A pattern of ``digits`` with any space between them, and with other separators where thousands have them."""
    left = range(len(digits) - 1, -1, -1)
    behind = (f"{SPACE if rest % 3 else SEPARATOR}?" if rest else "" for rest in left)
    return "".join(digit + separator for digit, separator in zip(digits, behind, strict=True))


def ascii_digits(text: str) -> str:
    """``text`` with digits of all scripts as those of one; its length stays."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in text)


def _join(run: Sequence[Protected]) -> Protected:
    if len(run) == 1:
        return run[0]
    kind = next((span.kind for span in run if span.kind not in LOOSE), run[0].kind)
    return Protected(run[0].start, run[-1].end, "".join(span.text for span in run), kind)


def _find(text: str) -> Iterator[Protected]:
    small = text.lower()
    if not SIGNS.search(text) and not any(part in small for part in ADDRESSES):
        return
    for found in FOUND.finditer(text):
        start, end = found.span()
        kind = found.lastgroup or ""
        if kind == "url":
            end = _end_of_address(text, start, end)
        yield Protected(start, end, text[start:end], kind)


def _end_of_address(text: str, start: int, end: int) -> int:
    """Without the punctuation behind it, and without brackets that it does not open."""
    surplus = {last: text.count(last, start, end) - text.count(first, start, end) for last, first in OPENING.items()}
    while text[end - 1] in BEHIND or surplus.get(text[end - 1], 0) > 0:
        end -= 1
        if text[end] in surplus:
            surplus[text[end]] -= 1
    return end


def _start(span: Protected) -> int:
    return span.start


def _end(span: Protected) -> int:
    return span.end
