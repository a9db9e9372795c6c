"""Which of the served languages a text is in."""

from collections.abc import Iterable
from functools import cache

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


@cache
def _identifier(languages: frozenset[str]) -> LanguageIdentifier | None:
    """Loading the model takes a second, so it is done once. None where it knows none of the languages."""
    if not languages:
        return None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = languages & set(identifier.labels)
    identifier.set_languages(sorted(known))
    return identifier if known else None
