"""LibreTranslate's API: applications that speak it need another URL, and nothing else."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from service import errors
from service.api.dialects import (
    WARNINGS,
    Alternatives,
    Code,
    Parameters,
    Texts,
    all_languages,
    base_language,
    in_body,
    read,
    refusals,
)
from service.api.native import Core, unless_disconnected
from service.core import Translator
from service.gate import check_text
from service.languages import NAMES
from service.plan import REPLACED, clean
from service.schemas.reply import LanguageInfo, Reply, Translation
from service.schemas.request import TranslateRequest

AUTO = "auto"
TYPING_PAUSE_MS = 500
"""How long LibreTranslate's page waits for the next letter, by its default."""


class LibreTranslateParameters(Parameters):
    key_name = "api_key"

    api_key: str | None = None


class LibreTranslateQuery(LibreTranslateParameters):
    q: Texts
    source: Code = Field(description="Code of the language, or `auto`")
    target: Code
    format: Literal["text", "html", ""] | None = Field(default="text", description="An empty one is `text`")
    alternatives: Alternatives | None = Field(
        default=0, description="How many further translations of each text, at most"
    )


class LibreTranslateDetectQuery(LibreTranslateParameters):
    q: str


class LibreTranslateObject(Reply):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, validate_by_name=True)


class LibreTranslateDetection(LibreTranslateObject):
    language: str
    confidence: int = Field(ge=0, le=100)


class LibreTranslateReply(LibreTranslateObject):
    """Lists where ``q`` was a list."""

    translated_text: str | list[str]
    detected_language: LibreTranslateDetection | list[LibreTranslateDetection] | None = Field(
        default=None, description="For `auto` only"
    )
    alternatives: list[str] | list[list[str]] | None = Field(default=None, description="If any were asked for")
    warnings: list[str] | list[list[str]] | None = Field(default=None, description=WARNINGS)


class LibreTranslateError(LibreTranslateObject):
    error: str


class LibreTranslateLanguage(LibreTranslateObject):
    code: str
    name: str


class LibreTranslatePair(LibreTranslateObject):
    source: LibreTranslateLanguage
    target: LibreTranslateLanguage


class LibreTranslateSettings(LibreTranslateObject):
    char_limit: int = Field(description="Code points in one text")
    frontend_timeout: int = Field(description="How long a page waits for the next letter, in milliseconds")
    api_keys: bool
    key_required: bool
    suggestions: bool = False
    files_translation: bool = False
    supported_files_format: tuple[()] = ()
    language: LibreTranslatePair


class LibreTranslateHealth(LibreTranslateObject):
    status: Literal["ok"] = "ok"


router = APIRouter(tags=["LibreTranslate"])


@router.post(
    "/translate",
    response_model=LibreTranslateReply,
    responses=refusals(LibreTranslateError, 400, 403, 408, 413, 429, 503, 504),
    openapi_extra=in_body(LibreTranslateQuery, q="I drink milk.", source="en", target="fr"),
)
async def translate(request: Request, translator: Core) -> Response:
    """Translate a text or a list of texts; the parameters may also come in the query string.

    HTML has no alternatives, however many are asked for. From a language to itself a text stays as it is.
    """
    query, _ = await read(request, LibreTranslateQuery)
    languages = translator.languages()
    form = query.format or "text"
    wanted = TranslateRequest(
        text=query.q,
        source=None if query.source == AUTO else base_language(query.source, languages),
        target=base_language(query.target, languages),
        format=form,
        alternatives=0 if form == "html" else query.alternatives or 0,
    )
    if wanted.source == wanted.target and wanted.target in all_languages(languages):
        translations = await _unchanged(translator, wanted)
    else:
        translations = (await unless_disconnected(request, translator.translate(wanted))).translations
    texts = [each.text for each in translations]
    alternatives = [[each.text for each in found.alternatives] for found in translations]
    warnings = [each.warnings for each in translations]
    detected = [
        _detection(found.detected.language, found.detected.confidence) for found in translations if found.detected
    ]
    one = isinstance(query.q, str)
    reply = LibreTranslateReply(
        translated_text=texts[0] if one else texts,
        detected_language=None if wanted.source else detected[0] if one else detected,
        alternatives=None if not query.alternatives else alternatives[0] if one else alternatives,
        warnings=None if not any(warnings) else warnings[0] if one else warnings,
    )
    return Response(reply.model_dump_json(by_alias=True, exclude_none=True), media_type="application/json")


@router.post(
    "/detect",
    responses=refusals(LibreTranslateError, 400, 403, 408, 413, 429, 503),
    openapi_extra=in_body(LibreTranslateDetectQuery, q="I drink milk."),
)
async def detect(request: Request, translator: Core) -> list[LibreTranslateDetection]:
    """The languages that a text may be in, the likeliest first; the parameters may also come in the query string."""
    query, _ = await read(request, LibreTranslateDetectQuery)
    _check_ready(translator)
    check_text(query.q, translator.settings, "q")
    return [_detection(language, share) for language, share in translator.detect(query.q)]


@router.get("/languages")
async def languages(translator: Core) -> list[LanguageInfo]:
    """All languages, and what each can be translated into: itself among them."""
    served = translator.languages()
    targets = {language.code: language.targets for language in served}
    return [
        LanguageInfo(code=code, name=NAMES.get(code, code), targets=sorted([code, *targets.get(code, [])]))
        for code in all_languages(served)
    ]


@router.get("/frontend/settings", responses=refusals(LibreTranslateError, 503))
async def settings(request: Request, translator: Core) -> LibreTranslateSettings:
    """What a page needs to know."""
    _check_ready(translator)
    keys: bool = request.app.state.access.keys is not None
    target = translator.languages()[0].targets[0]
    return LibreTranslateSettings(
        char_limit=translator.settings.max_text_chars,
        frontend_timeout=TYPING_PAUSE_MS,
        api_keys=keys,
        key_required=keys,
        language=LibreTranslatePair(
            source=LibreTranslateLanguage(code=AUTO, name="Auto Detect"),
            target=LibreTranslateLanguage(code=target, name=NAMES.get(target, target)),
        ),
    )


@router.get("/health", responses=refusals(LibreTranslateError, 503))
async def health(translator: Core) -> LibreTranslateHealth:
    """Whether texts are translated."""
    _check_ready(translator)
    return LibreTranslateHealth()


async def _unchanged(translator: Translator, request: TranslateRequest) -> list[Translation]:
    """Each text as its own translation. Raises what :meth:`service.gate.Gate.inside` does."""
    async with translator.gate.inside(request):
        return [
            Translation(
                text=clean(text),
                source=request.target,
                target=request.target,
                score=0,
                truncated=False,
                warnings=[REPLACED] if clean(text) != text else [],
                alternatives=[],
                sentences=[],
            )
            for text in request.texts
        ]


def _check_ready(translator: Translator) -> None:
    if not translator.ready:
        raise errors.Unavailable("the server is starting or stopping")


def _detection(language: str, share: float) -> LibreTranslateDetection:
    return LibreTranslateDetection(language=language, confidence=round(100 * share))
