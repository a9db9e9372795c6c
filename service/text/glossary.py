"""Terms of a text that have a wanted translation."""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from service.text.protect import Protected

TOKEN = re.compile(r"\w+|[^\w\s]")


class Match(NamedTuple):
    """A term, and how many tokens it has."""

    term: str
    length: int


NONE = Match("", 0)


@dataclass(slots=True)
class Node:
    """Tokens that a term ends with."""

    longest: Match = NONE
    """The longest term that these tokens begin with."""
    before: dict[str, "Node"] = field(default_factory=dict)
    """The same tokens with another before them."""
    shorter: "Node | None" = None
    """The longest node of fewer tokens that these begin with; None for the root, which has no tokens."""


class Automaton:
    """Aho-Corasick's, over tokens and from their last to their first: each token of a text costs the same on average,
    however long and however alike the terms are. Of the same tokens, the term that comes first counts.
    """

    def __init__(self, terms: Iterable[tuple[str, Sequence[str]]]) -> None:
        self.root = Node()
        for term, tokens in terms:
            node = self.root
            for token in reversed(tokens):
                node = node.before.setdefault(token, Node())
            if tokens and node.longest is NONE:
                node.longest = Match(term, len(tokens))
        self._link()

    def longest(self, tokens: Sequence[str]) -> list[Match]:
        """For each token the longest term that begins with it; :data:`NONE` where none does."""
        node, found = self.root, []
        for token in reversed(tokens):
            node = self._step(node, token)
            found.append(node.longest)
        return found[::-1]

    def _link(self) -> None:
        # Breadth first: a shorter node is complete before a longer one needs it.
        waiting = deque([self.root])
        while waiting:
            node = waiting.popleft()
            for token, longer in node.before.items():
                longer.shorter = shorter = self._step(node.shorter, token)
                if longer.longest is NONE:
                    longer.longest = shorter.longest
                waiting.append(longer)

    def _step(self, node: Node | None, token: str) -> Node:
        """The longest node that ``token``, followed by the tokens of ``node``, begins with."""
        while node is not None:
            if (longer := node.before.get(token)) is not None:
                return longer
            node = node.shorter
        return self.root


class Glossary:
    """Source terms, and what each is to be translated as.

    A term is found as whole words, whatever the white space between them and, unless it has capitals itself, whatever
    their case. Where several begin at the same word, the longest counts.
    """

    def __init__(self, terms: Mapping[str, str]) -> None:
        self.terms = terms
        tokens = [(term, TOKEN.findall(term)) for term in terms]
        self.exact = Automaton((term, found) for term, found in tokens if not term.islower())
        self.folded = Automaton((term, _folded(found)) for term, found in tokens if term.islower())

    def find(self, text: str) -> Iterator[tuple[str, Protected]]:
        """Terms in ``text``, in order and apart, and where they stand with their wanted translations."""
        if not self.terms:
            return
        tokens = list(TOKEN.finditer(text))
        words = [token[0] for token in tokens]
        exact, folded = self.exact.longest(words), self.folded.longest(_folded(words))
        index = 0
        while index < len(tokens):
            # Of two that are as long, the one with capitals is the narrower: it comes first.
            found = max(exact[index], folded[index], key=attrgetter("length"))
            if found.length:
                start, end = tokens[index].start(), tokens[index + found.length - 1].end()
                yield found.term, Protected(start, end, self.terms[found.term], "term")
            index += max(found.length, 1)


def _folded(tokens: Iterable[str]) -> list[str]:
    return [token.casefold() for token in tokens]
