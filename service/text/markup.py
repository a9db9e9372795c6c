"""A page, HTML or XML, as texts to translate, and back.

Elements that separate texts are kept where they are. What stands between two of them is one :class:`Block`: its text is
translated as a whole, and :mod:`service.text.inline` puts its tags back. Attributes, ``alt`` and ``title`` too, stay as
they are, as do comments, scripts, style sheets and whatever else :mod:`service.text.dom` does not look into.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from service.text.dom import Element, Event
from service.text.protect import Protected
from service.text.segment import trim

SPACE = " \t\n\f\r"
"""What browsers show as one space; a no-break space is a character like others."""
SPACES = re.compile(f"[{SPACE}]+")

Escape = Callable[[str], str]

KEY_START = "\ue000"
KEY_LENGTH = 6
"""Of private characters: nothing else in a text looks so, and there is no case and no digit to change."""


@dataclass(slots=True)
class Mark:
    """Tags around the text of a block from ``start`` up to ``end``, with the marks within.

    Where the two are the same it is something without text, and ``after`` the white space that follows. ``key`` stands
    in the translation for what may not be translated; all of that is ``open``.
    """

    open: str
    start: int
    close: str = ""
    end: int = 0
    after: str = ""
    inside: list["Mark"] = field(default_factory=list)
    key: str = ""


@dataclass(slots=True)
class Block:
    """``html`` is what it was; ``text`` is what is read of it: white space as browsers show it, and a line break for
    each ``br``. White space at its ends, ``before`` and ``after``, is not a part of it."""

    html: str
    text: str
    marks: list[Mark]
    before: str
    after: str
    escape: Escape

    @property
    def protected(self) -> list[Protected]:
        """What may not be translated, in order."""
        return [Protected(mark.start, mark.end, mark.key, "markup") for mark in every(self.marks) if mark.key]

    @property
    def said(self) -> str:
        """The text without what may not be translated."""
        kept = self.protected
        bounds = zip([0, *(span.end for span in kept)], [*(span.start for span in kept), len(self.text)], strict=True)
        return " ".join(self.text[start:end] for start, end in bounds)


@dataclass(frozen=True)
class Page:
    """Blocks with text, and the HTML between them."""

    parts: list[str | Block]

    @property
    def blocks(self) -> list[Block]:
        return [part for part in self.parts if isinstance(part, Block)]

    def write(self, translated: Callable[[Block], str]) -> str:
        """The page with ``translated`` of each block in its place."""
        return "".join(part if isinstance(part, str) else translated(part) for part in self.parts)


def parse(events: Iterable[Event], escape: Escape) -> Page:
    """``escape`` writes characters as such a page has them."""
    parts: list[str | Block] = []
    reader = _BlockReader(escape)
    for event in _keep(events):
        if event.element is not None and event.element.separate:
            parts += [reader.finish(), event.html]
            reader = _BlockReader(escape)
        else:
            reader.add(event)
    parts.append(reader.finish())
    return Page(parts)


def every(marks: Iterable[Mark]) -> Iterator[Mark]:
    """These and all within, in order."""
    waiting = [*marks][::-1]
    while waiting:
        mark = waiting.pop()
        yield mark
        waiting += reversed(mark.inside)


def _keep(events: Iterable[Event]) -> Iterator[Event]:
    """Each element that may not be translated becomes one event."""
    kept: Element | None = None
    inside: list[Event] = []
    for event in events:
        if kept is None and event.element is not None and event.element.kept:
            kept, inside = event.element, []
        if kept is None:
            yield event
            continue
        inside.append(event)
        if event.kind == "close" and event.element is kept:
            html, text = ("".join(parts) for parts in zip(*((each.html, each.text) for each in inside), strict=True))
            yield Event("single", html, text, kept)
            kept = None


class _BlockReader:
    """Makes a block of events."""

    def __init__(self, escape: Escape) -> None:
        self.escape = escape
        self.html: list[str] = []
        self.text: list[str] = []
        self.length = 0
        self.blank = False
        """White space has been read that is not in the text yet."""
        self.spaced = True
        """Further white space would not be seen."""
        self.root = Mark("", 0)
        self.open = [self.root]
        self.last: Mark | None = None
        """What has no text and was the last to be read; white space that is not seen stays with it."""

    def add(self, event: Event) -> None:
        self.html.append(event.html)
        if event.kind == "text":
            self._read(event.text)
        elif event.kind == "close":
            mark = self.open.pop()
            mark.close, mark.end = event.html, self.length
            self.last = mark if mark.start == mark.end else None
        else:
            self._flush()
            mark = Mark(event.html, self.length)
            self.open[-1].inside.append(mark)
            self.last = None
            if event.kind == "open":
                self.open.append(mark)
            else:
                self._single(event, mark)

    def finish(self) -> Block | str:
        """As HTML where there is nothing to read."""
        html, text = "".join(self.html), "".join(self.text)
        if not text.strip():
            return html
        if self.last is not None:
            self.last.after = ""
        for mark in every(self.root.inside):
            mark.start, mark.end = (
                trim(text, mark.start, mark.end) if mark.start < mark.end else (mark.start, mark.start)
            )
        before, after = html[: len(html) - len(html.lstrip(SPACE))], html[len(html.rstrip(SPACE)) :]
        return Block(html, text, self.root.inside, before, after, self.escape)

    def _single(self, event: Event, mark: Mark) -> None:
        if event.element is not None:
            self._read(event.text.strip(SPACE))
        elif event.text:
            self._append(event.text)
            self.spaced = True
        if event.element is not None and mark.start < self.length:
            mark.end = self.length
            mark.key = _new_key()
        else:
            self.last = mark

    def _read(self, text: str) -> None:
        seen = text.strip(SPACE)
        self._space(text[: len(text) - len(text.lstrip(SPACE))])
        if seen:
            self._flush()
            self._append(SPACES.sub(" ", seen))
            self._space(text[len(text.rstrip(SPACE)) :])

    def _space(self, space: str) -> None:
        if not self.spaced:
            self.blank = self.blank or bool(space)
        elif self.last is not None:
            self.last.after += space

    def _flush(self) -> None:
        if self.blank:
            self._append(" ")
            self.blank, self.spaced = False, True

    def _append(self, text: str) -> None:
        self.text.append(text)
        self.length += len(text)
        self.spaced, self.last = False, None


def _new_key() -> str:
    return KEY_START + "".join(chr(ord(KEY_START) + 1 + secrets.randbelow(6000)) for _ in range(KEY_LENGTH - 1))
