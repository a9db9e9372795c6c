"""What the server answers, as types. Offsets count Unicode code points.

They say what the server's own schemas say, but are more lenient: what a later server adds is kept, not refused.
"""

from pydantic import BaseModel, ConfigDict


class Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Span(Reply):
    """``text`` is what stands from ``start`` up to ``end`` in the whole text of the request or the reply."""

    text: str
    start: int
    end: int


class Link(Reply):
    """Indexes into ``source_tokens`` and ``target_tokens``."""

    source: int
    target: int
    weight: float


class Alternative(Reply):
    text: str
    score: float


class Sentence(Reply):
    """The last four are there only where ``attention`` asks for them; ``weights`` is [target tokens, source tokens].

    ``before`` is there only in a stream: what stands in the translation between the sentence before and this one.
    """

    before: str | None = None
    source: Span
    target: Span
    score: float
    source_tokens: list[Span] | None = None
    target_tokens: list[Span] | None = None
    alignment: list[Link] | None = None
    weights: list[list[float]] | None = None


class Detected(Reply):
    """``confidence`` is the probability among the languages that are served."""

    language: str
    confidence: float


class HonouredTerm(Reply):
    """A term of the glossary that stands in the text: is it translated so wherever it stands?"""

    source: str
    target: str
    honoured: bool


class Translation(Reply):
    """``detected`` is there where the request named no source language, ``glossary`` where it had one."""

    text: str
    source: str
    target: str
    pivot: str | None = None
    detected: Detected | None = None
    score: float
    truncated: bool
    warnings: list[str]
    alternatives: list[Alternative]
    sentences: list[Sentence]
    glossary: list[HonouredTerm] | None = None


class TranslateReply(Reply):
    """``translations`` are in the order of the texts."""

    model: str
    translations: list[Translation]


class AlignmentSource(Reply):
    """Which attention is returned: of the step that reads a target token (shift 1) or predicts it (0)."""

    shift: int
    layer: int | None
    heads: str


class ModelInfo(Reply):
    name: str
    architecture: str
    directions: list[tuple[str, str]]
    precision: str
    provider: str
    alignment: AlignmentSource
    version: str
    memory_bytes: int


class ModelsReply(Reply):
    models: list[ModelInfo]


class LanguageInfo(Reply):
    code: str
    name: str
    targets: list[str]


class LanguagesReply(Reply):
    languages: list[LanguageInfo]


class Detection(Reply):
    """``confidence`` is in percent."""

    language: str
    confidence: int


class ErrorDetail(Reply):
    code: str
    message: str
    field: str | None = None
    request_id: str | None = None


class ErrorReply(Reply):
    error: ErrorDetail


class PlainErrorReply(Reply):
    """Of what the server has from LibreTranslate, as the detection of languages."""

    error: str
