"""What is to be translated of a text: its language, the model for it, its sentences as sub-words."""

import math
import re
from dataclasses import dataclass, field, replace

from service.errors import InvalidRequest
from service.registry import Model, Registry
from service.schemas import TranslateRequest
from service.text.detect import Detector
from service.text.segment import segment
from service.text.tokens import Pieces

SURROGATE = re.compile("[\ud800-\udfff]")

REPLACED = "lone surrogates, which are no characters, were replaced by U+FFFD"
SPLIT = "a sentence over the longest length the model can read was translated in parts"
UNCHANGED = "the text is in the target language already and was not translated"
PREFIX_UNUSED = "there was nothing to translate, so target_prefix was not used"


@dataclass(frozen=True)
class Piece:
    """A stretch of a text that is translated by itself: a sentence, or a part of one that is too long."""

    start: int
    end: int
    ids: list[int]
    """Sub-words, without tag and EOS."""
    min_length: int = 0
    """Fewest sub-words of its translation."""
    prefix: Pieces | None = None
    """What its translation begins with."""


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
        """Raises :class:`service.errors.UnknownModel`, :class:`service.errors.UnknownDirection` and, for what the model
        cannot write, :class:`service.errors.InvalidRequest`.

        A lone surrogate cannot be sent back, nor read by a model. One comes from a text that was cut in the middle of
        a character: the rest of it is still worth translating, so it is replaced, and offsets stay.
        """
        target = request.target.lower()
        clean = SURROGATE.sub("\ufffd", text)
        warnings = [REPLACED] if clean != text else []
        source = request.source.lower() if request.source else self._detect(clean, target, request.model)
        if request.source is None and source == target:
            plan = Plan(clean, source, target, None, warnings=[*warnings, UNCHANGED])
        else:
            model = self.registry.select(request.model, source, target)
            plan = Plan(clean, source, target, model, warnings=warnings)
            prefix = model.tokenizer.pieces(request.target_prefix) if request.target_prefix else None
            _check_lengths(model, request, prefix)
            self._cut(plan, request)
            if plan.pieces:
                plan.pieces[0] = replace(plan.pieces[0], prefix=prefix)
        if request.target_prefix and not plan.pieces:
            plan.warnings.append(PREFIX_UNUSED)
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
            total = sum(len(part) for _, _, part in parts)
            for first, last, part in parts:
                if part:
                    # What is asked of a sentence is not asked of each of its parts: one of two words cannot have fifty.
                    share = math.ceil(request.min_length * len(part) / total)
                    plan.pieces.append(Piece(first, last, part, min_length=share))


def _check_lengths(model: Model, request: TranslateRequest, prefix: Pieces | None) -> None:
    """Raises :class:`service.errors.InvalidRequest` for a length that no translation of the model can have."""
    longest = model.manifest.max_length - 1
    for field_name, length in (("min_length", request.min_length), ("max_length", request.max_length or 0)):
        if length > longest:
            reason = f"{model.name} writes at most {longest} sub-words for a sentence"
            raise InvalidRequest(f"{field_name}: {reason}", field=field_name)
    longest = min(longest, request.max_length or longest)
    if prefix is not None and len(prefix.ids) > longest:
        reason = f"it has {len(prefix.ids)} sub-words, the translation of a sentence has at most {longest}"
        raise InvalidRequest(f"target_prefix: {reason}", field="target_prefix")
