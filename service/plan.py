"""What is to be translated of a text: its language, the model for it, its sentences as sub-words."""

import re
from dataclasses import dataclass, field

from service.registry import Model, Registry
from service.schemas import TranslateRequest
from service.text.detect import Detector
from service.text.segment import segment

SURROGATE = re.compile("[\ud800-\udfff]")

REPLACED = "lone surrogates, which are no characters, were replaced by U+FFFD"
SPLIT = "a sentence over the longest length the model can read was translated in parts"
UNCHANGED = "the text is in the target language already and was not translated"


@dataclass(frozen=True)
class Piece:
    """A stretch of a text that is translated by itself: a sentence, or a part of one that is too long."""

    start: int
    end: int
    ids: list[int]
    """Sub-words, without tag and EOS."""


@dataclass
class Plan:
    """A text with what is to be translated of it; what lies between the pieces is kept as it is."""

    text: str
    source: str
    target: str
    model: Model | None
    """None where nothing is to be translated."""
    pieces: list[Piece] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Planner:
    """Plans for the models of a registry.

    A text whose language is to be found, and is the target's with at least ``confidence``, is left as it is.
    """

    def __init__(self, registry: Registry, confidence: float) -> None:
        self.registry = registry
        self.confidence = confidence
        self.detector = Detector(registry.languages())

    def plan(self, text: str, request: TranslateRequest) -> Plan:
        """Raises :class:`service.errors.UnknownModel` and :class:`service.errors.UnknownDirection`.

        A lone surrogate cannot be sent back, nor read by a model. One comes from a text that was cut in the middle of
        a character: the rest of it is still worth translating, so it is replaced, and offsets stay.
        """
        target = request.target.lower()
        clean = SURROGATE.sub("\ufffd", text)
        warnings = [REPLACED] if clean != text else []
        source = request.source.lower() if request.source else self._detect(clean, target, request.model)
        if request.source is None and source == target:
            return Plan(clean, source, target, None, warnings=[*warnings, UNCHANGED])
        plan = Plan(clean, source, target, self.registry.select(request.model, source, target), warnings=warnings)
        self._cut(plan, request)
        return plan

    def _detect(self, text: str, target: str, name: str | None) -> str:
        """The target language itself where the text is surely in it, else the likeliest of those that lead to it."""
        sources = self.registry.sources(name, target)
        ranked = self.detector.rank(text)
        if ranked and ranked[0][0] == target and ranked[0][1] >= self.confidence:
            return target
        return next((language for language, _ in ranked if language in sources), sources[0])

    @staticmethod
    def _cut(plan: Plan, request: TranslateRequest) -> None:
        """Fill in the pieces. What has no sub-words, as control characters have none, lies between them."""
        assert plan.model is not None
        tokenizer, limit = plan.model.tokenizer, plan.model.max_subwords
        spans = segment(plan.text, plan.source, request.split_sentences)
        encoded = tokenizer.encode([plan.text[start:end] for start, end in spans])
        if any(len(ids) > limit for ids in encoded):
            plan.warnings.append(SPLIT)
        for (start, end), ids in zip(spans, encoded, strict=True):
            if len(ids) <= limit:
                parts = [(start, end, ids)]
            else:
                bounds = [(start + a, start + b) for a, b in tokenizer.split(plan.text[start:end], limit)]
                texts = [plan.text[a:b] for a, b in bounds]
                parts = [(a, b, part) for (a, b), part in zip(bounds, tokenizer.encode(texts), strict=True)]
            plan.pieces += [Piece(*part) for part in parts if part[2]]
