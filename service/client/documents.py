"""Texts of any length, in as many requests as they need."""

import re
from collections.abc import Iterator

from . import wire
from .client import Client
from .failure import AttentiveError
from .replies import TranslateReply

PIECE_CHARS = 10_000
"""Well within the server's limits, and some seconds of its work at most."""
LEAST_CHARS = 100
"""A server that refuses so little is not asked for less."""
SENTENCE_END = re.compile(r"[.!?…]['\"’”»)\]]*\s+|[。！？]")
WHITE_SPACE = re.compile(r"\s+")


def translate(client: Client, text: str, target: str, options: wire.Options) -> Iterator[tuple[str, TranslateReply]]:
    """Each piece of ``text`` with its reply, in order; together the pieces are ``text``, and so are their translations.

    A language that is to be detected is that of the first piece with a sentence. HTML and XML stay whole: half a page
    is none.
    """
    whole = options.get("format", "text") != "text"
    options = options.copy()
    waiting = [text] if whole else [*cut(text, PIECE_CHARS)][::-1]
    while waiting:
        piece = waiting.pop()
        try:
            reply = client.ask(wire.translate(piece, target, options))
        except AttentiveError as error:
            if error.code != "too_large" or whole or len(piece) <= LEAST_CHARS:
                raise
            waiting += [*cut(piece, (len(piece) + 1) // 2)][::-1]
            continue
        found = reply.translations[0]
        if found.sentences and found.source != found.target:
            options.setdefault("source", found.source)
        yield piece, reply


def cut(text: str, longest: int) -> Iterator[str]:
    """Consecutive stretches of at most ``longest`` characters that together are ``text``.

    They end with a line where that is possible, else with a sentence, else with a word.
    """
    start = 0
    while len(text) - start > longest:
        end = _end(text, start, start + longest)
        yield text[start:end]
        start = end
    yield text[start:]


def _end(text: str, start: int, limit: int) -> int:
    line = text.rfind("\n", start, limit)
    if line >= 0:
        return line + 1
    for boundary in (SENTENCE_END, WHITE_SPACE):
        ends = [match.end() for match in boundary.finditer(text, start, limit)]
        if ends:
            return ends[-1]
    return limit
