"""What is to be translated of a text: its language, the model for it, its sentences as sub-words."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from service.cutting import Cutter
from service.errors import InvalidRequest, TooLarge
from service.parts import Piece
from service.prefix import begin
from service.registry import Model, Registry
from service.schemas.reply import Detected
from service.schemas.request import TranslateRequest
from service.text.detect import SAMPLE, Detector
from service.text.glossary import Glossary
from service.text.protect import NUMBER, Protected, gaps, overlapping, protect, without
from service.text.segment import segment
from service.text.tokens import Pieces
from service.text.unreadable import LETTERS

SURROGATE = re.compile("[\ud800-\udfff]")

REPLACED = "lone surrogates, which are no characters, were replaced by U+FFFD"
SPLIT = "a sentence longer than the model reads well was translated in parts"
UNREADABLE = "words in letters that the model cannot read were kept as they are"
UNCHANGED = "the text is in the target language already and was not translated"
PREFIX_UNUSED = "there was nothing to translate, so target_prefix was not used"

BEGINNING = 5 * SAMPLE
"""Code points in which a text's language is looked for: what is protected among them is passed over."""

NO_TERMS = Glossary({})


@dataclass
class Plan:
    """A text with what is to be translated of it; what lies between the pieces is kept as it is."""

    text: str
    source: str
    target: str
    model: Model | None
    """None where nothing is to be translated, or not by one model."""
    spans: Sequence[Protected]
    """What must come through, in order and apart."""
    terms: Sequence[tuple[str, Protected]] = ()
    """Source terms of the glossary, and where they stand."""
    detected: Detected | None = None
    pivot: str | None = None
    """The language between, where no model translates from the source to the target."""
    cutter: Cutter | None = None
    pieces: list[Piece] = field(default_factory=list)
    sentences: int = 0
    """Each counts as many times as it has parts that are translated apart."""
    warnings: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Kinds of what a first attempt has lost."""

    @property
    def unchanged(self) -> bool:
        """Is it in the target language already?"""
        return self.model is None and self.pivot is None

    def kept(self, start: int, end: int) -> str:
        """What stands in the translation for a stretch between pieces."""
        spans = overlapping(self.spans, start, end)
        rest = (self.text[a:b] for a, b in gaps(start, end, spans))
        return next(rest) + "".join(span.text + plain for span, plain in zip(spans, rest, strict=True))


class Planner:
    """Plans for the models of a registry, of at most ``max_sentences`` for a request.

    A text whose language is to be found, and is the target's with at least ``confidence``, is left as it is.
    """

    def __init__(self, registry: Registry, confidence: float, max_sentences: int) -> None:
        self.registry = registry
        self.confidence = confidence
        self.max_sentences = max_sentences
        self.detector = Detector(registry.languages())

    def plan(
        self,
        text: str,
        request: TranslateRequest,
        protected: Sequence[Protected] = (),
        glossary: Glossary = NO_TERMS,
        before: int = 0,
    ) -> Plan:
        """``protected``: what must come through besides what is found in the text; ``before``: sentences of the
        request's texts before this one.

        Raises :class:`service.errors.UnknownModel`, :class:`service.errors.UnknownDirection`, for too many sentences
        :class:`service.errors.TooLarge` and, for what the model cannot write, :class:`service.errors.InvalidRequest`.

        A lone surrogate cannot be sent back, nor read by a model. One comes from a text that was cut in the middle of
        a character: the rest of it is still worth translating, so it is replaced, and offsets stay.
        """
        target = request.target.lower()
        text, given = clean(text), text
        warnings = [REPLACED] if text != given else []
        spans = protect(text, protected)
        detected = None if request.source else self._detect(text, spans, target, request.model)
        source = detected.language if detected else (request.source or "").lower()
        plan = Plan(text, source, target, None, spans, detected=detected, warnings=warnings)
        if detected and source == target:
            warnings.append(UNCHANGED)
        else:
            plan.pivot = self.registry.pivot(request.model, source, target)
            if plan.pivot is None:
                plan.model = self.registry.select(request.model, source, target)
                self._cut(plan, request, plan.model, glossary, before)
        if request.target_prefix and not (plan.pieces or plan.pivot):
            warnings.append(PREFIX_UNUSED)
        return plan

    def rank(self, text: str, spans: Sequence[Protected] | None = None) -> list[tuple[str, float]]:
        """Languages with their probabilities, best first. What is protected says nothing of a text's language."""
        text = text[:BEGINNING]
        apart = protect(text) if spans is None else overlapping(spans, 0, len(text))
        return self.detector.rank(" ".join(text[start:end] for start, end in gaps(0, len(text), apart)))

    def _detect(self, text: str, spans: Sequence[Protected], target: str, name: str | None) -> Detected:
        """The target language itself where the text is surely in it, else the likeliest of those that lead to it."""
        sources = self.registry.sources(name, target)
        ranked = self.rank(text, spans)
        if ranked and ranked[0][0] == target and ranked[0][1] >= self.confidence:
            sources = [target]
        found = [(language, share) for language, share in ranked if language in sources] or [(sources[0], 0.0)]
        # A text without words is as likely in all of them: then there is no need of a language between.
        direct = self.registry.direct(name, target)
        language, share = max(found, key=lambda each: (each[1], each[0] in direct))
        return Detected(language=language, confidence=round(share, 4))

    def _cut(self, plan: Plan, request: TranslateRequest, model: Model, glossary: Glossary, before: int) -> None:
        """Fill in the pieces. What has nothing for a model lies between them."""
        plan.terms = list(glossary.find(plan.text))
        find = model.tokenizer.unreadable.find
        found = [span for a, b in gaps(0, len(plan.text), plan.spans) for span in find(plan.text, a, b)]
        _keep(plan, list(_unsaid(found, request.target_prefix or "")))
        terms = list(without((span for _, span in plan.terms), plan.spans))
        whole = sorted((span.start, span.end) for span in [*plan.spans, *terms])
        plan.cutter = cutter = Cutter(plan.text, plan.source, model, plan.spans, terms)
        prefix = model.tokenizer.target_pieces(request.target_prefix) if request.target_prefix else None
        _check_lengths(model, request, prefix)
        for start, end in segment(plan.text, plan.source, request.split_sentences, whole):
            pieces = cutter.pieces(start, end, request.min_length)
            plan.pieces += pieces
            plan.sentences += max(sum(len(piece.stretches) for piece in pieces), 1)
            if before + plan.sentences > self.max_sentences:
                raise TooLarge(f"a request has at most {self.max_sentences} sentences", field="text")
        if cutter.was_long:
            plan.warnings.append(SPLIT)
        if request.target_prefix and plan.pieces:
            first = plan.pieces[0]
            beginning = request.target_prefix.removeprefix(plan.kept(0, first.start).lstrip())
            plan.pieces[0] = begin(replace(first, beginning=beginning), plan.text, model.tokenizer)


def _unsaid(spans: Sequence[Protected], prefix: str) -> Iterator[Protected]:
    """Without the amounts whose number a prefix has with another sign, or with a word for it, as often as it has it:
    they have been translated, and would be written again if they were kept.
    """
    said = Counter(found.group() for found in NUMBER.finditer(prefix))
    for span in spans:
        numbers = [found.group() for found in NUMBER.finditer(span.text)] if span.kind == "amount" else []
        is_said = any(said[number] > 0 for number in numbers)
        said.subtract(numbers)
        if not is_said or span.text in prefix:
            yield span


def _keep(plan: Plan, unreadable: Sequence[Protected]) -> None:
    """Protect what the model cannot read. Where signs are a part of a glossary's term, the term is what is kept."""
    letters = [span for span in unreadable if span.kind == LETTERS]
    signs = [span for span in unreadable if span.kind != LETTERS]
    terms = [span for _, span in plan.terms]
    kept = [*letters, *without(signs, terms), *(term for term in terms if overlapping(signs, term.start, term.end))]
    if letters:
        plan.warnings.append(UNREADABLE)
    if kept:
        plan.spans = protect(plan.text, [*plan.spans, *kept])


def clean(text: str) -> str:
    """``text`` without lone surrogates, as long as before."""
    return SURROGATE.sub("\ufffd", text)


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
