"""Terms of a text that have a wanted translation."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from service.text.protect import Protected

TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(slots=True)
class Node:
    """Where the search is after some tokens of a text: the terms that end here, and what may follow."""

    terms: list[str] = field(default_factory=list)
    following: dict[str, "Node"] = field(default_factory=dict)


class Glossary:
    """Source terms, and what each is to be translated as.

    A term is found as whole words, whatever the white space between them and, unless it has capitals itself, whatever
    their case. Where several begin at the same word, the longest counts.
    """

    def __init__(self, terms: Mapping[str, str]) -> None:
        self.terms = terms
        self.root = Node()
        for term in terms:
            node = self.root
            for token in TOKEN.findall(term):
                node = node.following.setdefault(token.casefold(), Node())
            # One with capitals is the narrower: it is looked at first.
            node.terms = sorted([*node.terms, term], key=str.islower)

    def find(self, text: str) -> Iterator[tuple[str, Protected]]:
        """Terms in ``text``, in order and apart, and where they stand with their wanted translations."""
        if not self.terms:
            return
        tokens = list(TOKEN.finditer(text))
        index = 0
        while index < len(tokens):
            term, last = self._longest(tokens, index)
            if term is None:
                index += 1
            else:
                start, end = tokens[index].start(), tokens[last].end()
                yield term, Protected(start, end, self.terms[term], "term")
                index = last + 1

    def _longest(self, tokens: list["re.Match[str]"], first: int) -> tuple[str | None, int]:
        """The longest term that begins with token ``first``, and its last token."""
        node, found, end = self.root, None, first
        for index in range(first, len(tokens)):
            if (following := node.following.get(tokens[index][0].casefold())) is None:
                break
            node = following
            for term in node.terms:
                if term.islower() or TOKEN.findall(term) == [token[0] for token in tokens[first : index + 1]]:
                    found, end = term, index
                    break
        return found, end
