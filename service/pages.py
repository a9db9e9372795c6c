"""``format: "html"`` and ``"xml"``: pages in, pages out.

All texts of all pages go to the engines together, and each tag comes back around what it was around. Elements that may
not be translated are handed over as protected. A page has one language. Where browsers make no difference (quotes,
entities, capitals in names), a page of HTML may come back written in another way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from service import errors
from service.plan import REPLACED, UNCHANGED, Plan, Planner, clean
from service.reply import weighted
from service.schemas.reply import HonouredTerm, Sentence, Span, TranslateReply, Translation
from service.schemas.request import TranslateRequest, XmlOptions
from service.text import dom, inline, xml
from service.text.detect import SAMPLE
from service.text.markup import Block, Page, parse
from service.text.protect import Protected

Translate = Callable[[TranslateRequest, Sequence[Sequence[Protected]]], Awaitable[TranslateReply]]


@dataclass
class Text:
    """A text of the request, a plan for its beginning, which knows its language, and the translations of its blocks."""

    html: str
    page: Page
    plan: Plan
    warnings: list[str]
    done: list[Translation] = field(default_factory=list)


def read_all(request: TranslateRequest, planner: Planner, max_depth: int) -> list[Text]:
    """The texts of a request, read but not translated.

    Raises what :meth:`service.plan.Planner.plan` raises, :class:`service.errors.TooLarge`, and
    :class:`service.errors.InvalidRequest` for XML that is not well-formed.
    """
    texts = []
    for number, given in enumerate(request.texts):
        html = clean(given)
        name = "text" if isinstance(request.text, str) else f"text[{number}]"
        try:
            page = _read(html, request, max_depth)
        except dom.TooDeep as error:
            raise errors.TooLarge(f"elements are nested at most {max_depth} deep", field=name) from error
        except xml.NotWellFormed as error:
            raise errors.InvalidRequest(f"{name}: not well-formed XML: {error}", field=name) from error
        plan = planner.plan("\n".join(block.said for block in page.blocks)[:SAMPLE], request)
        warnings = [REPLACED] * (html != given) + [UNCHANGED] * plan.unchanged
        texts.append(Text(html, page, plan, warnings))
    return texts


def _read(html: str, request: TranslateRequest, max_depth: int) -> Page:
    if request.format == "html":
        return parse(dom.read(html, max_depth), dom.escape)
    told = request.xml or XmlOptions()
    tags = xml.Tags(
        frozenset(told.ignore_tags),
        frozenset(told.splitting_tags),
        frozenset(told.non_splitting_tags),
        told.outline_detection,
    )
    return parse(xml.read(html, max_depth, tags), xml.escape)


async def translate(request: TranslateRequest, texts: Sequence[Text], plain: Translate) -> TranslateReply:
    """``plain`` translates any number of texts without tags. Raises what it raises."""
    model = ""
    for source in dict.fromkeys(text.plan.source for text in texts) or [request.source]:
        same = [text for text in texts if text.plan.source == source and not text.plan.unchanged]
        blocks = [block for text in same for block in text.page.blocks]
        inner = request.model_copy(
            update={
                "text": [block.text for block in blocks],
                "source": source,
                "format": "text",
                "xml": None,
                "attention": "weights",
                "tokens": "words",
            }
        )
        reply = await plain(inner, [block.protected for block in blocks])
        model = model or reply.model
        done = iter(reply.translations)
        for text in same:
            text.done = [next(done) for _ in text.page.blocks]
    translations = await asyncio.to_thread(lambda: [_write(text, request) for text in texts])
    return TranslateReply(model=model, translations=translations)


def _write(text: Text, request: TranslateRequest) -> Translation:
    done = iter(text.done)
    html = text.page.write(lambda block: _block(block, next(done))) if text.done else text.html
    scores = [(sum(len(sentence.target.text) for sentence in each.sentences), each.score) for each in text.done]
    warnings = [*text.warnings, *(warning for each in text.done for warning in each.warnings)]
    return Translation(
        text=html,
        source=text.plan.source,
        target=text.plan.target,
        pivot=text.plan.pivot,
        detected=text.plan.detected,
        score=round(weighted(scores), 4),
        truncated=any(each.truncated for each in text.done),
        warnings=list(dict.fromkeys(warnings)),
        alternatives=[],
        sentences=[],
        glossary=None if request.glossary is None else _glossary(text.done),
    )


def _glossary(done: Sequence[Translation]) -> list[HonouredTerm]:
    terms: dict[str, HonouredTerm] = {}
    for term in (term for each in done for term in each.glossary or []):
        if terms.setdefault(term.source, term).honoured:
            terms[term.source] = term
    return list(terms.values())


def _block(block: Block, done: Translation) -> str:
    return inline.write(block, done.text, [_pair(sentence) for sentence in done.sentences])


def _pair(sentence: Sentence) -> inline.Pair:
    assert sentence.weights is not None
    return inline.Pair(
        (sentence.source.start, sentence.source.end),
        (sentence.target.start, sentence.target.end),
        _bounds(sentence.source_tokens or []),
        _bounds(sentence.target_tokens or []),
        sentence.weights,
    )


def _bounds(spans: Sequence[Span]) -> inline.Ints:
    return np.array([(span.start, span.end) for span in spans], dtype=np.int64).reshape(len(spans), 2)
