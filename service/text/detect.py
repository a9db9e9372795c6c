"""Which of the served languages a text is in."""

from collections.abc import Iterable
from copy import copy
from functools import cache
from threading import Lock

from py3langid.langid import MODEL_FILE, LanguageIdentifier

SAMPLE = 1000
"""Code points that are looked at: more of them change nothing and take time."""


class Detector:
    """py3langid restricted to the served languages; those that it does not know are never found."""

    def __init__(self, languages: Iterable[str]) -> None:
        self.identifier = _identifier(frozenset(languages))

    def rank(self, text: str) -> list[tuple[str, float]]:
        """Languages with their probabilities, best first; equal ones, as for digits only, in alphabetical order."""
        if self.identifier is None:
            return []
        found = self.identifier.rank(text.strip()[:SAMPLE])
        return sorted(((language, float(share)) for language, share in found), key=lambda pair: (-pair[1], pair[0]))


def load() -> LanguageIdentifier:
    """The model for all its languages. That takes half a second, so it is done once, whoever comes first."""
    with _loading:
        return _loaded()


_loading = Lock()


@cache
def _loaded() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _identifier(languages: frozenset[str]) -> LanguageIdentifier | None:
    """None where the model knows none of the languages."""
    if not languages:
        return None
    identifier = copy(load())
    known = languages & set(identifier.labels)
    identifier.set_languages(sorted(known))
    return identifier if known else None
