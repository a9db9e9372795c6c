"""What the native API answers."""

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

REPLY_EXAMPLE: Any = {
    "model": "transformer",
    "translations": [
        {
            "text": "Je bois du lait.",
            "source": "en",
            "target": "fr",
            "score": -0.21,
            "truncated": False,
            "warnings": [],
            "alternatives": [],
            "sentences": [
                {
                    "source": {"text": "I drink milk.", "start": 0, "end": 13},
                    "target": {"text": "Je bois du lait.", "start": 0, "end": 16},
                    "score": -0.21,
                }
            ],
        }
    ],
}


class Reply(BaseModel):
    model_config = ConfigDict(frozen=True)


def _rows(matrix: NDArray[np.float64]) -> list[list[float]]:
    rows: list[list[float]] = matrix.tolist()
    return rows


# As lists of floats they take four times the memory. And _rows is Python: between two matrices a thread that writes a
# reply lets go of the interpreter, which one that writes lists holds to the end.
Matrix = Annotated[
    NDArray[np.float64],
    PlainValidator(lambda rows: np.array(rows, np.float64), json_schema_input_type=list[list[float]]),
    PlainSerializer(_rows, return_type=list[list[float]]),
]


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
    """The last four are there only where ``attention`` asks for them."""

    before: str | None = Field(
        default=None,
        description="Only in a stream: what stands in the translation between the sentence before and this one",
    )
    source: Span
    target: Span
    score: float = Field(
        description="Log-probability over length to the power of `length_penalty`: by default the mean of a target "
        "sub-word. Those of `target_prefix` count as certain"
    )
    source_tokens: list[Span] | None = None
    target_tokens: list[Span] | None = None
    alignment: list[Link] | None = Field(
        default=None,
        description="For each target token the source token with the greatest weight. A weight under 0.4 often means "
        "that the word has no counterpart",
    )
    weights: Matrix | None = Field(default=None, description="[target tokens, source tokens]; each row sums to 1")


class Detected(Reply):
    language: str
    confidence: float = Field(description="Probability among the languages that are served")


class HonouredTerm(Reply):
    source: str
    target: str
    honoured: bool = Field(description="Is it translated so wherever it stands?")


class Translation(Reply):
    text: str
    source: str
    target: str
    pivot: str | None = Field(
        default=None,
        description="The language through which it was translated, where no model has the direction itself: `score` is "
        "then the sum of both translations' scores, and attention their product",
    )
    detected: Detected | None = Field(default=None, description="Where the request did not say which language it is in")
    score: float = Field(
        description="Mean of the sentences' scores, each weighted by its target sub-words; 0 where nothing had to be "
        "translated"
    )
    truncated: bool = Field(
        description="A sentence reached its longest length, or repeated itself and was cut; `warnings` says which"
    )
    warnings: list[str]
    alternatives: list[Alternative]
    sentences: list[Sentence]
    glossary: list[HonouredTerm] | None = Field(
        default=None, description="The terms of the request's glossary that stand in the text"
    )


class TranslateReply(Reply):
    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [REPLY_EXAMPLE]})

    model: str
    translations: list[Translation]


class SentenceEvent(Reply):
    """A finished sentence of the text with that ``index`` in the request."""

    index: int
    sentence: Sentence


class TranslationEvent(Reply):
    """The text with that ``index`` is done; its sentences came before."""

    index: int
    translation: Translation


class DoneEvent(Reply):
    """The end; there were so many texts."""

    translations: int


class AlignmentSource(Reply):
    """Which attention is returned: of the step that reads a target token (shift 1) or predicts it (0)."""

    shift: int
    layer: int | None
    heads: str


class ModelInfo(Reply):
    name: str
    architecture: str
    directions: list[tuple[str, str]] = Field(examples=[[["en", "fr"], ["fr", "en"]]])
    precision: str
    provider: str
    alignment: AlignmentSource
    version: str
    memory_bytes: int = Field(description="Of its weights, and of the states of its decode loops")


class ModelsReply(Reply):
    models: list[ModelInfo]


class LanguageInfo(Reply):
    code: str
    name: str
    targets: list[str] = Field(description="Those reached through a third language included")


class LanguagesReply(Reply):
    languages: list[LanguageInfo]


class PackageReport(Reply):
    package: str = Field(description="Its directory", examples=["transformer-en-fr-de"])
    outcome: Literal["loaded", "unchanged", "failed", "removed"] = Field(
        description="`failed`: what served in its place so far goes on serving"
    )
    serving: str | None = Field(
        description="Name and version of what serves in its place now", examples=["transformer-en-fr-de 1.0.0"]
    )
    error: str | None = Field(description="Why it failed; names the file that is wrong")


class KeysReport(Reply):
    outcome: Literal["loaded", "failed"] = Field(description="`failed`: the keys that were known so far go on")
    error: str | None = Field(description="Why it failed; names the key file")


class ReloadReply(Reply):
    packages: list[PackageReport]
    keys: KeysReport


class ErrorDetail(Reply):
    code: str = Field(examples=["invalid_request"])
    message: str
    field: str | None = Field(examples=["beam_size"])
    request_id: str | None


class ErrorReply(Reply):
    error: ErrorDetail


class BatchResult(Reply):
    """Either of the two."""

    translation: Translation | None = None
    error: ErrorDetail | None = None
