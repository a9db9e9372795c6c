"""DeepL's API for texts: applications that speak it need another URL, and nothing else."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from service import errors
from service.access import Caller
from service.api.dialects import (
    WARNINGS,
    Code,
    Flag,
    Parameters,
    Texts,
    base_language,
    get_and_post,
    in_query,
    read,
    refusals,
)
from service.api.native import Core, unless_disconnected
from service.glossaries import Glossaries
from service.languages import NAMES
from service.schemas.reply import Reply, Translation
from service.schemas.request import Strings, TranslateRequest, XmlOptions
from service.text.segment import Mode

SPLIT: dict[str, Mode] = {"0": "none", "1": "default", "nonewlines": "punctuation"}
VARIANTS = {
    "en": {"EN-GB": "English (British)", "EN-US": "English (American)"},
    "pt": {"PT-BR": "Portuguese (Brazilian)", "PT-PT": "Portuguese (European)"},
}
"""Targets for which DeepL's own clients insist on a region. They are one language to the models."""
UNLIMITED = 10**12
"""The limit that DeepL reports where there is none."""


def _refuse(value: object) -> None:
    if value not in (None, "", []):
        raise PydanticCustomError("unsupported", "This server does not support it")


Unsupported = Annotated[
    None, BeforeValidator(_refuse), WithJsonSchema({"enum": [None, "", []], "description": "Refused"})
]


def _listed(value: object) -> object:
    """A list, where it is one string or several with commas in them."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        return value
    return [name for each in given for name in each.replace(",", " ").split()]


TagNames = Annotated[
    Strings,
    BeforeValidator(_listed),
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}],
            "description": "Names of elements, in a list or with commas between them; for XML",
        }
    ),
]


class DeepLParameters(Parameters):
    key_name = "auth_key"

    auth_key: str | None = Field(default=None, description="For clients that do not send the key in a header")


class DeepLQuery(DeepLParameters):
    text: Texts
    target_lang: Code = Field(description="Code of a target language; a region, as in EN-GB, changes nothing")
    source_lang: Code | None = Field(default=None, description="Detected for each text where it is not given")
    split_sentences: Literal["0", "1", "nonewlines"] | None = Field(
        default="1",
        description="Sentences end nowhere, at punctuation and line breaks, or at punctuation only. HTML and XML "
        "have no line breaks but those of tags, at which they end in either case",
    )
    tag_handling: Literal["html", "xml"] | None = None
    outline_detection: Flag | None = Field(
        default=True, description="For XML. Off: only `splitting_tags` separate what is translated"
    )
    splitting_tags: TagNames | None = None
    non_splitting_tags: TagNames | None = None
    ignore_tags: TagNames | None = None
    preserve_formatting: Flag | None = Field(default=False, description="Formatting is kept in any case")
    formality: Literal["default", "prefer_more", "prefer_less"] | None = Field(
        default=None, description="Accepted, and without effect: the models know no degrees of it"
    )
    context: str | None = Field(default=None, description="Accepted, and without effect")
    show_billed_characters: Flag | None = False
    glossary_id: str | None = Field(
        default=None,
        pattern="^[0-9A-Za-z-]{0,64}$",
        description="As `/v2/glossaries` and `/v3/glossaries` give it; needs `source_lang`",
    )
    glossary_ids: Unsupported = None
    style_id: Unsupported = None
    translation_memory_id: Unsupported = None
    custom_instructions: Unsupported = None

    @field_validator("splitting_tags", "non_splitting_tags", "ignore_tags")
    @classmethod
    def _check_handling(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if value and info.data.get("tag_handling", "xml") != "xml":
            raise PydanticCustomError("xml_only", "Input is for tag_handling xml only")
        return value

    @field_validator("glossary_id")
    @classmethod
    def _check_glossary(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("source_lang") is None:
            raise PydanticCustomError("source_lang_needed", "Input needs source_lang")
        return value or None

    @property
    def xml(self) -> XmlOptions | None:
        if self.tag_handling != "xml":
            return None
        return XmlOptions(
            ignore_tags=self.ignore_tags or [],
            splitting_tags=self.splitting_tags or [],
            non_splitting_tags=self.non_splitting_tags or [],
            outline_detection=self.outline_detection is not False,
        )


class DeepLLanguagesQuery(DeepLParameters):
    type: Literal["source", "target"] = "source"


class DeepLTranslation(Reply):
    detected_source_language: str
    text: str
    billed_characters: int | None = Field(default=None, description="Code points, where `show_billed_characters` asks")
    warnings: list[str] | None = Field(default=None, description=WARNINGS)


class DeepLReply(Reply):
    translations: list[DeepLTranslation]


class DeepLLanguage(Reply):
    language: str
    name: str
    supports_formality: Literal[False] | None = Field(default=None, description="For targets")


class DeepLUsage(Reply):
    """``character_limit`` is the number that DeepL reports where there is no limit."""

    character_count: int = Field(description="Translated through `/v2/translate` since this server started")
    character_limit: int


class DeepLError(Reply):
    message: str
    detail: str = Field(description="The `code` of the error in the native API")


router = APIRouter(prefix="/v2", tags=["DeepL"])


@get_and_post(
    router,
    "/translate",
    DeepLQuery,
    {"text": ["I drink milk."], "source_lang": "EN", "target_lang": "FR"},
    response_model=DeepLReply,
    responses=refusals(DeepLError, 400, 403, 404, 408, 413, 429, 503, 504),
)
async def translate(request: Request, translator: Core) -> Response:
    """Translate texts. Parameters of DeepL's that are not listed are passed over."""
    query, caller = await read(request, DeepLQuery)
    languages, owner = translator.languages(), account(request, caller)
    split = SPLIT[query.split_sentences or "1"]
    wanted = TranslateRequest(
        text=[query.text] if isinstance(query.text, str) else query.text,
        source=None if query.source_lang is None else base_language(query.source_lang, languages),
        target=base_language(query.target_lang, languages),
        split_sentences="default" if query.tag_handling and split == "punctuation" else split,
        format=query.tag_handling or "text",
        xml=query.xml,
    )
    if query.glossary_id and wanted.source:
        store: Glossaries = request.app.state.glossaries
        pair = wanted.source, wanted.target
        terms = await asyncio.to_thread(store.terms, owner, query.glossary_id, pair)
        if terms is None:
            raise errors.InvalidRequest("glossary_id: it has no dictionary for these languages", field="glossary_id")
        wanted = wanted.model_copy(update={"glossary": terms})
    done = await unless_disconnected(request, translator.translate(wanted))
    request.app.state.deepl_characters[owner] += sum(map(len, wanted.texts))
    translations = [
        DeepLTranslation(
            detected_source_language=found.source.upper(),
            text=found.text,
            billed_characters=len(text) if query.show_billed_characters else None,
            warnings=[*found.warnings, *_not_honoured(found)] or None,
        )
        for text, found in zip(wanted.texts, done.translations, strict=True)
    ]
    reply = DeepLReply(translations=translations).model_dump_json(exclude_none=True)
    return Response(reply, media_type="application/json")


@get_and_post(
    router,
    "/languages",
    DeepLLanguagesQuery,
    {"type": "target"},
    response_model_exclude_none=True,
    responses=refusals(DeepLError, 400, 403, 408, 413, 429),
)
async def languages(request: Request, translator: Core) -> list[DeepLLanguage]:
    """Source or target languages."""
    query, _ = await read(request, DeepLLanguagesQuery)
    served = translator.languages()
    if query.type == "source":
        return [DeepLLanguage(language=each.code.upper(), name=each.name) for each in served]
    targets = sorted({target for each in served for target in each.targets})
    named = [VARIANTS.get(code, {code.upper(): NAMES.get(code, code)}) for code in targets]
    return [
        DeepLLanguage(language=code, name=name, supports_formality=False)
        for variants in named
        for code, name in variants.items()
    ]


@router.get("/usage", responses=refusals(DeepLError, 400, 403, 429), openapi_extra=in_query(DeepLParameters))
async def usage(request: Request) -> DeepLUsage:
    """How much the caller's key has been used for; without keys, how much has been translated for all."""
    _, caller = await read(request, DeepLParameters)
    characters = request.app.state.deepl_characters[account(request, caller)]
    return DeepLUsage(character_count=characters, character_limit=UNLIMITED)


def _not_honoured(found: Translation) -> list[str]:
    """What the native API says of each term."""
    terms = (term for term in found.glossary or [] if not term.honoured)
    return [f"the term {term.source!r} could not be translated as {term.target!r}" for term in terms]


def account(request: Request, caller: Caller) -> str:
    """Whose usage is counted, and whose glossaries are kept.

    Callers without keys are one: they are their addresses, and nobody knows how many of those there will be.
    """
    return "" if request.app.state.access.keys is None else caller.name
