"""What is asked of the native API."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from service.engine.job import MAX_LENGTH_PENALTY

MAX_BEAM = 8
"""Widest beam: the rows that every server has."""
MARKUP = ("html", "xml")
"""Formats of pages."""
MAX_PREFIX_CHARS = 5000
"""More than any model writes in a sentence."""

REQUEST_EXAMPLES: list[Any] = [
    {"text": "I drink milk.", "target": "fr"},
    {
        "text": ["Good morning!", "The cat sleeps.\nIt is late."],
        "source": "en",
        "target": "fr",
        "model": "transformer",
        "beam_size": 4,
        "alternatives": 1,
        "attention": "weights",
        "tokens": "words",
    },
]

# Of much that is wrong the first is enough: a body has room for half a million errors, and each is made at a cost.
Strings = Annotated[list[str], Field(fail_fast=True)]
Terms = Annotated[dict[str, Annotated[str, Field(pattern=r"\S")]], Field(fail_fast=True)]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_one_unknown(cls, given: Any) -> Any:
        """Of the fields that nobody knows the first is left, to be refused."""
        if not isinstance(given, dict):
            return given
        known = cls.model_fields
        unknown = next((name for name in given if name not in known), None)
        return {name: value for name, value in given.items() if name in known or name == unknown}


def _integral(value: object) -> object:
    """JSON has one kind of number: 4.0 is an integer to it, as to JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Code = Annotated[str, Field(min_length=1, max_length=16, description="Language code, as in `/v1/languages`")]


class XmlOptions(Request):
    """What the elements of a vocabulary are for, each by its name with its prefix."""

    ignore_tags: Strings = Field(default=[], description="Not translated")
    splitting_tags: Strings = Field(default=[], description="They separate what is translated")
    non_splitting_tags: Strings = Field(default=[], description="They do not")
    outline_detection: bool = Field(
        default=True,
        description="Find out from how they are used which of the others separate what is translated; else none does",
    )


class TranslateRequest(Request):
    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": REQUEST_EXAMPLES})

    text: str | Strings = Field(description="One text, or a list of them; the reply has the same order")
    target: Code
    source: Code | None = Field(default=None, description="Detected for each text where it is not given")
    format: Literal["text", "html", "xml"] = Field(
        default="text",
        description="`html`: each text is a page or a part of one. Block elements separate what is translated, inline "
        'ones come back around the words they were around. What is in `code`, `pre`, `translate="no"` and the like '
        "stays, and so do attributes. `xml`: the same for any elements, see `xml`. Without `alternatives`, "
        "`attention` and `target_prefix`; the reply's `sentences` are empty",
    )
    xml: XmlOptions | None = Field(default=None, description="For format `xml`")
    model: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="Name or architecture, as in `/v1/models`"
    )
    beam_size: Annotated[int, Field(ge=1, le=MAX_BEAM), BeforeValidator(_integral)] = Field(
        default=1, description="1 is greedy search, the fastest"
    )
    alternatives: Annotated[int, Field(ge=0, lt=MAX_BEAM), BeforeValidator(_integral)] = Field(
        default=0,
        description="Further translations, best first; fewer where they would repeat one or be cut. Widens the beam as "
        "needed",
    )
    attention: Literal["none", "alignment", "weights"] = Field(
        default="none", description="`alignment` adds tokens and links between them, `weights` also the whole matrix"
    )
    tokens: Literal["words", "subwords"] = Field(default="words", description="What a token of the attention is")
    length_penalty: Annotated[float, Field(ge=0, le=MAX_LENGTH_PENALTY)] = Field(
        default=1.0,
        description="Translations are ranked by their log-probability over their length to this power: "
        "towards 0 a beam prefers short ones, towards 2 long ones",
    )
    no_repeat_ngram_size: Annotated[int, Field(ge=0), BeforeValidator(_integral)] = Field(
        default=0,
        description="No sequence of so many sub-words occurs twice in the translation of a sentence; 0 allows it",
    )
    min_length: Annotated[int, Field(ge=0), BeforeValidator(_integral)] = Field(
        default=0,
        description="Fewest sub-words of a sentence's translation; the parts of a split sentence share them",
    )
    max_length: Annotated[int, Field(ge=1), BeforeValidator(_integral)] | None = Field(
        default=None,
        description="Most sub-words of a sentence's translation, or of each part's where a sentence has to be split; "
        "never more than the model can write. By default about twice those of the source",
    )
    target_prefix: Annotated[str, Field(max_length=MAX_PREFIX_CHARS)] | None = Field(
        default=None,
        description="What the translation begins with; only for a single text, and there for its first sentence. White "
        "space around it is dropped",
    )
    split_sentences: Literal["default", "newlines", "punctuation", "none"] = Field(
        default="default",
        description="Where a sentence ends: `default` at punctuation and line breaks, `newlines` and `punctuation` at "
        "one of them only, `none` nowhere: each text is one sentence",
    )
    glossary: Terms | None = Field(
        default=None,
        description="Terms of the source, and what each is to be translated as. A term is found as whole words; its "
        "case counts where it has capitals itself. Of several that begin at the same word the longest counts",
        examples=[{"river bank": "rive"}],
    )
    timeout_ms: Annotated[int, Field(ge=1, le=86_400_000), BeforeValidator(_integral)] | None = Field(
        default=None, description="Deadline in milliseconds, counted from the request; then 504"
    )

    @field_validator("max_length")
    @classmethod
    def _check_max_length(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value < info.data.get("min_length", 0):
            raise PydanticCustomError("less_than_min_length", "Input should be greater than or equal to min_length")
        return value

    @field_validator("target_prefix")
    @classmethod
    def _check_target_prefix(cls, value: str | None, info: ValidationInfo) -> str | None:
        prefix = value.strip() if value else None
        text = info.data.get("text")
        if prefix and isinstance(text, list) and len(text) != 1:
            raise PydanticCustomError("one_text", "Input is for a request with a single text")
        return prefix or None

    @field_validator("alternatives", "attention", "target_prefix")
    @classmethod
    def _check_format(cls, value: int | str | None, info: ValidationInfo) -> int | str | None:
        if info.data.get("format") in MARKUP and value not in {0, "none", None}:
            raise PydanticCustomError("text_only", "Input is for format text only")
        return value

    @field_validator("xml")
    @classmethod
    def _check_xml(cls, value: XmlOptions | None, info: ValidationInfo) -> XmlOptions | None:
        if value is not None and info.data.get("format", "xml") != "xml":
            raise PydanticCustomError("xml_only", "Input is for format xml only")
        return value

    @property
    def texts(self) -> list[str]:
        return [self.text] if isinstance(self.text, str) else self.text


def _tell_options(schema: dict[str, Any]) -> None:
    """Put the options into the schema of an item: BentoML's clients send what they find there and nothing else."""
    whole = TranslateRequest.model_json_schema()
    options = whole["properties"]
    # Written out: what a reference names would not be there.
    options["xml"]["anyOf"] = [whole["$defs"]["XmlOptions"], {"type": "null"}]
    schema["properties"] = options | schema["properties"]
    schema["example"] = REQUEST_EXAMPLES[0]


class BatchItem(BaseModel):
    """One text with the options of ``/v1/translate``, which are checked for each item by itself."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_tell_options)

    text: str
    target: str
