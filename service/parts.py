"""What a sentence is made of: stretches for a model, and what comes through without one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from service.registry import Model
from service.text import capitals
from service.text.protect import Protected
from service.text.tokens import Edit, Pieces


@dataclass(frozen=True, slots=True)
class Item:
    """What the translation of a stretch must have, as ``span.text``.

    The model reads the ``mark`` in its place. Without one it reads the span itself: numbers are mostly copied, and of a
    term the attention shows where the wanted one belongs.
    """

    span: Protected
    mark: str | None = None
    is_begun: bool = False
    """What the translation begins with has it already."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What comes through without a model, as ``text``."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a model translates at once: a sentence, or a part of one."""

    start: int
    end: int
    text: str
    read: str
    """``text`` as the model reads it."""
    ids: list[int]
    """Sub-words of ``read``, without tag and EOS."""
    items: Sequence[Item]
    marks: Sequence[Edit]
    """Where the marks are in ``read``, and what stands there in ``text``."""

    @property
    def free(self) -> list[Item]:
        """Items whose place in the translation may have to be found by attention."""
        return [item for item in self.items if item.mark is None]

    def source(self, model: Model) -> Pieces:
        """Its sub-words, and where they stand in ``text``."""
        return replace(model.tokenizer.pieces(self.read).edited(self.marks), text=self.text)


Part = Kept | Stretch


@dataclass(frozen=True)
class Piece:
    """A sentence, or a part of one that is too long."""

    start: int
    end: int
    parts: Sequence[Part]
    is_capital: bool
    min_length: int = 0
    """Fewest sub-words of its translation."""
    beginning: str = ""
    """What the caller has its translation begin with."""
    prefix: Pieces | None = None
    """What the translation of its first stretch begins with: the same without what is kept before that."""
    attempt: int = 1

    @cached_property
    def stretches(self) -> list[Stretch]:
        return [part for part in self.parts if isinstance(part, Stretch)]

    @cached_property
    def size(self) -> int:
        """Sub-words that the model reads."""
        return sum(len(stretch.ids) for stretch in self.stretches)


def written(span: Protected, is_capital: bool) -> str:
    """What stands for ``span``. In a sentence in capitals a term without any has them too."""
    return capitals.upper(span.text) if is_capital and span.kind == "term" and span.text.islower() else span.text
