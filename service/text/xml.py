"""XML as a sequence of tags and texts, as :mod:`service.text.dom` has HTML.

Nobody says what the elements of an unknown vocabulary are for, so :class:`Tags` does, or how they are used: an element
that stands among words is a part of their text, and one that stands among elements alone is a text of its own. One by
itself proves little: what stands among words at least as often as not is a part of a text wherever it is.

Tags, comments, instructions, entities and what comes before the first element are written as they were.
"""

import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html.entities import html5
from typing import Literal, NamedTuple
from xml.parsers import expat

from service.text.dom import Element, Event, TooDeep

DOCUMENT = re.compile(r"\ufeff?\s*+(<\?xml\s|(<!--.*?-->|<\?.*?\?>|\s)*+<!DOCTYPE)", re.DOTALL)
"""How a source begins that has more than elements and texts."""
KEEP = ("translate", "its:translate")
"""Attributes that say whether an element may be translated (Internationalization Tag Set 2.0, section 8.1)."""


class NotWellFormed(Exception):  # noqa: N818 - it is the input's
    """Says what is wrong, and in which line and column."""


@dataclass(frozen=True)
class Tags:
    """Elements by name. ``ignored`` ones are not translated, ``splitting`` ones separate texts, ``joining`` ones never
    do; all others as they are used, or never without ``outline``."""

    ignored: frozenset[str] = frozenset()
    splitting: frozenset[str] = frozenset()
    joining: frozenset[str] = frozenset()
    outline: bool = True


def read(xml: str, max_depth: int, tags: Tags) -> list[Event]:
    """Whole documents, and parts of one that may have any number of elements and texts side by side.

    Raises :class:`NotWellFormed`, and :class:`service.text.dom.TooDeep`. ``xml`` must not have lone surrogates. Linear
    in its length.
    """
    is_part = DOCUMENT.match(xml) is None
    name = f"x{secrets.token_hex(8)}"
    start, end = (f"<{name}>", f"</{name}>") if is_part else ("", "")
    reader = _Reader(max_depth + is_part, tags)
    try:
        events = reader.read(f"{start}{xml}{end}".encode())
    except expat.ExpatError as error:
        column = error.offset - len(start) * (error.lineno == 1) + 1
        what = expat.ErrorString(error.code) or "error"
        raise NotWellFormed(f"{what} in line {error.lineno}, column {column}") from None
    _separate(reader.nodes, tags)
    return events[2:-1] if is_part else events


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(slots=True)
class _Node:
    """An element, and how it is used."""

    name: str
    element: Element
    parent: "_Node | None"
    has_words: bool = False
    """Between its children."""
    inline: bool = False


class _Piece(NamedTuple):
    """What begins ``at`` a byte of the source; ``html``, where it is not written as it was."""

    at: int
    kind: Literal["open", "close", "text", "single"]
    text: str = ""
    element: Element | None = None
    html: str | None = None


class _Reader:
    """Notes where each piece of the source begins: it ends where the next one does."""

    def __init__(self, max_depth: int, tags: Tags) -> None:
        self.max_depth = max_depth
        self.tags = tags
        self.nodes: list[_Node] = []
        self.pieces: list[_Piece] = []
        self.open: list[_Node] = []
        self.in_data = False

    def read(self, source: bytes) -> list[Event]:
        """Raises ``expat.ExpatError``, :class:`NotWellFormed` and :class:`service.text.dom.TooDeep`."""
        parser = expat.ParserCreate("utf-8")

        def noting(note: Callable[..., None]) -> Callable[..., None]:
            return lambda *given: note(parser.CurrentByteIndex, *given)

        parser.StartElementHandler = noting(self._start)
        parser.EndElementHandler = noting(self._end)
        parser.CharacterDataHandler = noting(self._text)
        parser.StartCdataSectionHandler = noting(partial(self._data, begins=True))
        parser.EndCdataSectionHandler = noting(partial(self._data, begins=False))
        for name in ("Comment", "ProcessingInstruction", "XmlDecl", "StartDoctypeDecl"):
            setattr(parser, f"{name}Handler", noting(self._other))
        parser.SkippedEntityHandler = noting(self._entity)
        parser.EntityDeclHandler = _refuse_entity
        parser.Parse(source, True)
        return [Event("single", source[: self.pieces[0].at].decode()), *self._events(source)]

    def _events(self, source: bytes) -> Iterator[Event]:
        ends = [*(piece.at for piece in self.pieces[1:]), len(source)]
        for piece, end in zip(self.pieces, ends, strict=True):
            html = source[piece.at : end].decode() if piece.html is None else piece.html
            yield Event(piece.kind, html, piece.text, piece.element)

    def _start(self, at: int, name: str, attributes: Mapping[str, str]) -> None:
        if len(self.open) == self.max_depth:
            raise TooDeep
        parent = self.open[-1] if self.open else None
        kept = name in self.tags.ignored or any(attributes.get(each, "").strip() == "no" for each in KEEP)
        node = _Node(name, Element(parent.element if parent else None, kept), parent)
        self.nodes.append(node)
        self.open.append(node)
        self.pieces.append(_Piece(at, "open", element=node.element))

    def _end(self, at: int, _: str) -> None:
        self.pieces.append(_Piece(at, "close", element=self.open.pop().element))

    def _text(self, at: int, text: str) -> None:
        if not text.isspace():
            self.open[-1].has_words = True
        self.pieces.append(_Piece(at, "text", text, html=escape(text) if self.in_data else None))

    def _data(self, at: int, begins: bool) -> None:
        """What is in a CDATA section is text like other text, and is written so."""
        self.in_data = begins
        self.pieces.append(_Piece(at, "text", html=""))

    def _entity(self, at: int, name: str, _: int) -> None:
        """What a document type would declare, which is not read: those that all know are text."""
        if (text := html5.get(f"{name};")) is None:
            self._other(at)
        else:
            self._text(at, text)

    def _other(self, at: int, *_: object) -> None:
        self.pieces.append(_Piece(at, "single"))


def _refuse_entity(*_: object) -> None:
    raise NotWellFormed("a document that declares entities is not read")


def _separate(nodes: Sequence[_Node], tags: Tags) -> None:
    """Find the elements that separate texts. Those that an element is in come before it."""
    among, alone = Counter[str](), Counter[str]()
    for node in nodes:
        node.inline = node.parent is not None and (node.parent.has_words or node.parent.inline)
        (among if node.inline else alone)[node.name] += 1
    for node in nodes:
        node.inline = (
            node.inline or (node.parent is not None and node.parent.inline) or among[node.name] >= alone[node.name]
        )
        splits = tags.outline and not node.inline and node.name not in tags.joining
        if splits or node.name in tags.splitting:
            node.element.set_apart()
