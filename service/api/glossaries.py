"""DeepL's API for glossaries, in its two versions: of one dictionary each, and of one for each pair of languages."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from service import access, errors
from service.access import Caller
from service.api.deepl import DeepLError, account
from service.api.dialects import Code, base_language, in_body, read, refusals
from service.api.glossary_models import (
    Change,
    Dictionary,
    Glossary,
    Languages,
    Listed,
    ListedMultilingual,
    Multilingual,
    NewGlossary,
    NewMultilingual,
    Size,
    Supported,
    Written,
    WrittenDictionaries,
)
from service.api.native import Core
from service.core import Translator
from service.glossaries import Glossaries, Pair, no_dictionary
from service.text import entries

TSV = "text/tab-separated-values"
EXAMPLE = {
    "name": "Rivers",
    "source_lang": "EN",
    "target_lang": "FR",
    "entries": "river bank\trive",
    "entries_format": "tsv",
}
READING = refusals(DeepLError, 403, 404, 429)
WRITING = refusals(DeepLError, 400, 403, 404, 408, 413, 429, 503)

one = APIRouter(prefix="/v2", tags=["DeepL"])
many = APIRouter(prefix="/v3", tags=["DeepL"])


async def owner_of(request: Request, caller: Annotated[Caller, Depends(access.required)]) -> str:
    return account(request, caller)


async def kept_by(request: Request) -> Glossaries:
    glossaries: Glossaries = request.app.state.glossaries
    return glossaries


async def pair_of(source_lang: Code, target_lang: Code, translator: Core) -> Pair:
    """The languages of a dictionary, from the query string."""
    languages = translator.languages()
    return base_language(source_lang, languages), base_language(target_lang, languages)


Owner = Annotated[str, Depends(owner_of)]
Store = Annotated[Glossaries, Depends(kept_by)]
InQuery = Annotated[Pair, Depends(pair_of)]


def terms_of(given: Sequence[Dictionary | NewGlossary], translator: Translator) -> dict[Pair, dict[str, str]]:
    """The terms of each dictionary.

    Raises :class:`service.errors.UnknownDirection`, :class:`service.errors.InvalidRequest` for what is no list of terms
    and for two dictionaries of the same languages, and :class:`service.errors.Unavailable` where nothing is served yet.
    """
    languages = translator.languages()
    if not languages:
        raise errors.Unavailable("the models are not ready yet")
    found: dict[Pair, dict[str, str]] = {}
    for each in given:
        source, target = (base_language(code, languages) for code in (each.source_lang, each.target_lang))
        translator.registry.pivot(None, source, target)  # refuses what no way leads to
        if (source, target) in found:
            raise errors.InvalidRequest(f"dictionaries: two of them from {source} to {target}", field="dictionaries")
        try:
            found[source, target] = entries.read(each.entries, each.entries_format)
        except ValueError as error:
            raise errors.InvalidRequest(f"entries: {error}", field="entries") from error
    return found


@one.get("/glossary-language-pairs", responses=READING)
async def language_pairs(_owner: Owner, store: Store, translator: Core) -> Supported:
    """The languages that a dictionary can have; none where the server keeps no glossaries."""
    served = translator.languages() if store.file else []
    pairs = [Languages(source_lang=each.code, target_lang=target) for each in served for target in each.targets]
    return Supported(supported_languages=pairs)


@one.post("/glossaries", status_code=201, responses=WRITING, openapi_extra=in_body(NewGlossary, **EXAMPLE))
async def create(request: Request, store: Store, translator: Core) -> Glossary:
    """Keep a glossary of one dictionary; `/v2/translate` takes its `glossary_id`."""
    query, caller = await read(request, NewGlossary)
    terms = await asyncio.to_thread(terms_of, [query], translator)
    kept = await asyncio.to_thread(store.add, account(request, caller), query.name, terms)
    return Glossary.of(kept)


@one.get("/glossaries", responses=READING)
async def listed(owner: Owner, store: Store) -> Listed:
    """The caller's glossaries of one dictionary, the oldest first."""
    kept = await asyncio.to_thread(store.all, owner)
    return Listed(glossaries=[Glossary.of(each) for each in kept if len(each.sizes) == 1])


@one.get("/glossaries/{glossary_id}", responses=READING)
async def found(glossary_id: str, owner: Owner, store: Store) -> Glossary:
    """A glossary of one dictionary."""
    return Glossary.of(await asyncio.to_thread(store.find, owner, glossary_id))


@one.get(
    "/glossaries/{glossary_id}/entries",
    response_class=Response,
    responses=READING | {200: {"content": {TSV: {"schema": {"type": "string"}}}, "description": "Terms"}},
)
async def terms(glossary_id: str, owner: Owner, store: Store) -> Response:
    """A term and its translation on each line, with a tab between."""
    glossary = Glossary.of(await asyncio.to_thread(store.find, owner, glossary_id))
    pair = glossary.source_lang, glossary.target_lang
    kept = await asyncio.to_thread(store.terms, owner, glossary_id, pair)
    return Response(entries.write(kept or {}), media_type=TSV)


@many.post("/glossaries", status_code=201, responses=WRITING)
async def create_multilingual(body: NewMultilingual, owner: Owner, store: Store, translator: Core) -> Multilingual:
    """Keep a glossary of several dictionaries; `/v2/translate` takes its `glossary_id`."""
    terms = await asyncio.to_thread(terms_of, body.dictionaries, translator)
    return Multilingual.of(await asyncio.to_thread(store.add, owner, body.name, terms))


@many.get("/glossaries", responses=READING)
async def listed_multilingual(owner: Owner, store: Store) -> ListedMultilingual:
    """The caller's glossaries, the oldest first."""
    return ListedMultilingual(glossaries=[Multilingual.of(each) for each in await asyncio.to_thread(store.all, owner)])


@many.get("/glossaries/{glossary_id}", responses=READING)
async def found_multilingual(glossary_id: str, owner: Owner, store: Store) -> Multilingual:
    """A glossary."""
    return Multilingual.of(await asyncio.to_thread(store.find, owner, glossary_id))


@many.patch("/glossaries/{glossary_id}", responses=WRITING)
async def change(glossary_id: str, body: Change, owner: Owner, store: Store, translator: Core) -> Multilingual:
    """Give a glossary another name, more terms, or terms another translation."""
    terms = await asyncio.to_thread(terms_of, body.dictionaries, translator)
    return Multilingual.of(await asyncio.to_thread(store.change, owner, glossary_id, terms, body.name))


@many.put("/glossaries/{glossary_id}/dictionaries", responses=WRITING)
async def replace(glossary_id: str, body: Dictionary, owner: Owner, store: Store, translator: Core) -> Size:
    """Put a dictionary in the place of the one of these languages, if there is one."""
    terms = await asyncio.to_thread(terms_of, [body], translator)
    await asyncio.to_thread(store.change, owner, glossary_id, terms, replace=True)
    (((source, target), kept),) = terms.items()
    return Size(source_lang=source, target_lang=target, entry_count=len(kept))


@many.get("/glossaries/{glossary_id}/entries", responses=refusals(DeepLError, 400) | READING)
async def written(glossary_id: str, pair: InQuery, owner: Owner, store: Store) -> WrittenDictionaries:
    """The terms of a dictionary."""
    terms = await asyncio.to_thread(store.terms, owner, glossary_id, pair)
    if terms is None:
        raise no_dictionary(pair)
    source, target = pair
    return WrittenDictionaries(
        dictionaries=[Written(source_lang=source, target_lang=target, entries=entries.write(terms))]
    )


@many.delete("/glossaries/{glossary_id}/dictionaries", status_code=204, responses=refusals(DeepLError, 400) | READING)
async def delete_dictionary(glossary_id: str, pair: InQuery, owner: Owner, store: Store) -> None:
    """Delete a dictionary."""
    await asyncio.to_thread(store.remove, owner, glossary_id, pair)


@one.delete("/glossaries/{glossary_id}", status_code=204, responses=READING)
@many.delete("/glossaries/{glossary_id}", status_code=204, responses=READING)
async def delete(glossary_id: str, owner: Owner, store: Store) -> None:
    """Delete a glossary."""
    await asyncio.to_thread(store.remove, owner, glossary_id)
