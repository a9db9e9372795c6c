"""HTML as a sequence of tags and texts, read as a browser reads it.

Two rules of the HTML standard would make a parsed page another one than its author wrote, so :func:`_mark` changes the
source before it is parsed, and :func:`read` takes the changes back:

- A formatting element that is left open is opened again in every block that follows, so 40 kB can become millions of
  elements. Under names of their own these elements are ordinary ones: they end, at the latest, where their parent ends.
- ``html``, ``head``, ``body``, ``tbody``, ``tr`` and ``colgroup`` come into being where they are missing. Those that
  are in the source get an attribute; those without it are not written.
"""

import secrets
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FORMATTING = _names("a b big code em font i nobr s small strike strong tt u")
IMPLIED = _names("html head body tbody tr colgroup")
WHOLE = _names("!doctype html head body frameset")
"""A source that has one of them is a page; another one is a fragment."""
SEPARATE = _names(
    # what browsers put on lines of its own, or into a cell
    "address article aside blockquote body caption center col colgroup dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li listing main "
    "menu nav ol p pre search section summary table tbody td tfoot th thead title tr ul "
    # what stands for itself wherever it is
    "audio button canvas datalist input label object optgroup option select textarea video"
)
"""Elements that separate texts; all others, unknown ones too, are a part of the text they stand in."""
VOID = _names("area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr")
RAW = _names("iframe noembed noframes noscript plaintext script style svg template xmp")
"""Elements that are left as they are and say nothing: their content is no text, or is another page."""
KEPT = _names("code kbd listing math pre textarea")
"""Elements that are left as they are and are words in the text around them."""
NEWLINE_FIRST = _names("listing pre textarea")
"""Parsers drop a line break that follows their start tag."""

NAME_ENDS = str.maketrans("\t\n\f\r/>", "      ")
LONGEST_NAME = max(map(len, FORMATTING | IMPLIED | WHOLE))


class TooDeep(Exception):  # noqa: N818 - it is a limit
    """Elements are nested in one another deeper than allowed."""


@dataclass(slots=True, eq=False)
class Element:
    """``separate``: it, or something in it, separates texts. ``kept``: nothing in it may be translated."""

    parent: "Element | None"
    kept: bool
    separate: bool = False

    def set_apart(self) -> None:
        """It separates texts, and so does all that it is in."""
        above: Element | None = self
        while above is not None and not above.separate:
            above.separate = True
            above = above.parent


class Event(NamedTuple):
    """Together the ``html`` of all events is the page.

    ``text`` is what is read: of a text its characters; of an element that is an event of its own, as all that have no
    end tag and all that are left as they are without a look into them, a line break or nothing.
    """

    kind: Literal["open", "close", "text", "single"]
    html: str
    text: str = ""
    element: Element | None = None


def read(html: str, max_depth: int) -> list[Event]:
    """Raises :class:`TooDeep`. ``html`` must not have lone surrogates. Linear in its length."""
    nonce = "x" + secrets.token_hex(8)
    marked, names, doctype = _mark(html, nonce)
    if names & WHOLE:
        first = _parse(marked).root
        while first is not None and first.prev is not None:
            first = first.prev
    else:
        # In a template even a table's row may stand alone. The comment is there because the first node of a fragment
        # cannot be told from the whole fragment.
        root = _parse(f"<!---->{marked}", is_fragment=True, fragment_tag="template").root
        first = None if root is None else root.next
    return _Reader(nonce, doctype, max_depth).read(first)


def _parse(html: str, **options: Any) -> LexborHTMLParser:
    """Without the copies of an option that an element may ask for, and with ``noscript`` as one piece."""
    return LexborHTMLParser(html, options=LexborDocumentOptions.WO_EVENTS, scripting=True, **options)


def escape(text: str, quote: bool = False) -> str:
    text = text.replace("&", "&amp;").replace("\u00a0", "&nbsp;")
    return text.replace('"', "&quot;") if quote else text.replace("<", "&lt;").replace(">", "&gt;")


def _mark(html: str, nonce: str) -> tuple[str, set[str], str]:
    """The source to be parsed, the names of all tags in it, and its document type.

    Whatever looks like a tag is marked, in a comment or an attribute too; there the mark is taken out again.
    """
    head, *rest = html.split("<")
    parts, names, doctype = [head], set(), ""
    for part in rest:
        slash = "/" if part.startswith("/") else ""
        body = part[len(slash) :]
        name = body[: LONGEST_NAME + 1].translate(NAME_ENDS).partition(" ")[0].lower()
        names.add(name)
        if name in FORMATTING:
            body = f"{nonce}-{body}"
        elif name in IMPLIED and not slash:
            body = f"{body[: len(name)]} {nonce}{body[len(name) :]}"
        elif name == "!doctype" and not doctype:
            doctype = f"<{body.partition('>')[0]}>"
        parts += ["<", slash, body]
    return "".join(parts), names, doctype


class _Reader:
    def __init__(self, nonce: str, doctype: str, max_depth: int) -> None:
        self.nonce = nonce
        self.doctype = doctype
        self.max_depth = max_depth
        self.events: list[Event] = []
        self.open: list[Element] = []

    def read(self, first: LexborNode | None) -> list[Event]:
        """``first`` and all that follows it, from its first child to its last neighbour's last."""
        waiting: list[LexborNode | str | None] = [first]
        while waiting:
            node = waiting.pop()
            if isinstance(node, str):
                self.events.append(Event("close", node, element=self.open.pop()))
            elif node is not None:
                waiting.append(node.next)
                end = self._enter(node)
                if end is not None:
                    waiting += [end, node.first_child]
        return self.events

    def _enter(self, node: LexborNode) -> str | None:
        """The end tag of an element that is to be looked into."""
        if node.is_text_node:
            self._text(self._clean(node.text_content or ""))
            return None
        name = self._clean(node.tag or "")
        if not node.is_element_node or name in RAW:
            html = self.doctype if name == "-doctype" else self._clean(node.html or "")
            self.events.append(Event("single", html))
            return None
        attributes = node.attributes
        tag = self._start_tag(name, attributes)
        if name in VOID and name not in SEPARATE:
            self.events.append(Event("single", tag, "\n" if name == "br" else ""))
            return None
        self._open(name, tag, _is_kept(name, attributes))
        return f"</{name}>" if tag and name not in VOID else ""

    def _text(self, text: str) -> None:
        html = escape(text)
        if text.startswith("\n") and self.events and self.events[-1].html.startswith(_NEWLINE_EATERS):
            html = "\n" + html
        self.events.append(Event("text", html, text))

    def _open(self, name: str, tag: str, kept: bool) -> None:
        if len(self.open) == self.max_depth:
            raise TooDeep
        element = Element(self.open[-1] if self.open else None, kept)
        if name in SEPARATE:
            element.set_apart()
        self.open.append(element)
        self.events.append(Event("open", tag, element=element))

    def _start_tag(self, name: str, attributes: dict[str, str | None]) -> str:
        """Empty for an element that is not in the source."""
        if name in IMPLIED and self.nonce not in attributes:
            return ""
        written = [name]
        for attribute, value in attributes.items():
            if attribute != self.nonce:
                written.append(attribute if value is None else f'{attribute}="{escape(value, quote=True)}"')
        return self._clean(f"<{' '.join(written)}>")

    def _clean(self, text: str) -> str:
        """``text`` without marks."""
        if self.nonce not in text:
            return text
        return text.replace(f"{self.nonce}-", "").replace(f' {self.nonce}=""', "").replace(f" {self.nonce}", "")


_NEWLINE_EATERS = tuple(f"<{name}{end}" for name in sorted(NEWLINE_FIRST) for end in (" ", ">"))


def _is_kept(name: str, attributes: dict[str, str | None]) -> bool:
    return (
        name in KEPT
        or (attributes.get("translate") or "").strip().lower() == "no"
        or "notranslate" in (attributes.get("class") or "").split()
    )
