"""The native API."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect

from service import access
from service.core import Translator, maybe_in_thread
from service.schemas.reply import ErrorReply, LanguagesReply, ModelsReply, TranslateReply
from service.schemas.request import TranslateRequest

T = TypeVar("T")

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "`invalid_json`"},
    401: {"description": "`unauthorized`: the API key is missing or wrong"},
    404: {"description": "`unknown_model`, `unknown_direction`"},
    408: {"description": "`body_timeout`: the body did not come in time"},
    413: {"description": "`too_large`: the body, the list, a text, the number of sentences or of attention cells"},
    422: {"description": "`invalid_request`, with the field"},
    429: {"description": "`overloaded`, `rate_limited`; see Retry-After"},
    503: {"description": "`unavailable`: starting or stopping; see Retry-After"},
    504: {"description": "`timeout`"},
}

router = APIRouter(prefix="/v1", tags=["translation"], dependencies=[Depends(access.required)])


async def translator_of(request: Request) -> Translator:
    translator: Translator = request.app.state.translator
    return translator


Core = Annotated[Translator, Depends(translator_of)]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorReply, **ERRORS[status]} for status in statuses}


@router.post(
    "/translate",
    response_model=TranslateReply,
    responses=refusals(400, 401, 404, 408, 413, 422, 429, 503, 504),
)
async def translate(body: TranslateRequest, request: Request, translator: Core) -> Response:
    """Translate a text or a list of texts.

    White space and line breaks between sentences come back as they were; text without words comes back as it is. A lone
    surrogate is replaced by U+FFFD, with a warning. What was cut, at its longest length or as a loop, is `truncated`,
    with a warning.
    """
    reply = await unless_disconnected(request, translator.translate(body))
    # The reply is valid by construction; FastAPI would check every number of every matrix again.
    write = partial(reply.model_dump_json, exclude_none=True)
    return Response(await maybe_in_thread(sum(map(len, body.texts)), write), media_type="application/json")


@router.get("/models", responses=refusals(401, 429))
async def models(translator: Core) -> ModelsReply:
    """The models that serve."""
    return ModelsReply(models=translator.models())


@router.get("/languages", responses=refusals(401, 429))
async def languages(translator: Core) -> LanguagesReply:
    """Source languages, and what each can be translated into."""
    return LanguagesReply(languages=translator.languages())


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client goes away; then raises ``ClientDisconnect``."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
