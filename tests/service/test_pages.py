import asyncio
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace

import pytest

from service import errors, plan
from service.core import Translator
from service.engine import Hypothesis, Job
from service.schemas.reply import Translation
from service.schemas.request import BatchItem, TranslateRequest
from service.settings import Settings
from service.text.tokens import SPACE_MARK, Tokenizer
from tests.service import fakes
from tests.service.fakes import Client, EchoEngine, model, run, started
from tests.service.pages import HANDBOOK, Outline, long_page


class MirrorEngine(EchoEngine):
    """Says the words in reverse order, and looks at the one that it says."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.pieces = tokenizer.model

    def release(self) -> None:
        for job, future in self.waiting:
            future.set_result([self.mirrored(job)])
        self.waiting = []

    def mirrored(self, job: Job) -> Hypothesis:
        straight = self.hypothesis(job, 0)
        words: list[list[int]] = []
        for place, number in enumerate(straight.token_ids):
            if not words or self.pieces.id_to_piece(number).startswith(SPACE_MARK):
                words.append([])
            words[-1].append(place)
        order = [place for word in reversed(words) for place in word]
        return replace(
            straight,
            token_ids=[straight.token_ids[place] for place in order],
            attention=None if straight.attention is None else straight.attention[order],
        )


@pytest.fixture
def mirror(tokenizer: Tokenizer) -> Translator:
    return started([model(tokenizer, MirrorEngine(tokenizer))])


def translate(translator: Translator, html: str, **options: object) -> Translation:
    return fakes.translate(translator, html, format="html", **options)


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("the <b>red</b> table", "table <b>red</b> the"),
        ("<p>the <b>red <i>table</i></b></p>\n<p>cat</p>", "<p><b><i>table</i> red</b> the</p>\n<p>cat</p>"),
        ("<p> the <a href='?a&b'>cat</a>\n</p>", '<p> <a href="?a&amp;b">cat</a> the\n</p>'),
        ("<b>the cat</b><br><i>red</i> table<img>", "<b>cat the</b><br>table <i>red</i><img>"),
        (
            "<table><tr><td>the cat<td>red <u>table</u></table>",
            "<table><tr><td>cat the</td><td><u>table</u> red</td></tr></table>",
        ),
        (
            "<!DOCTYPE html><html><head><title>the cat</title></head><body>the <i>cat</i></body>",
            "<!DOCTYPE html><html><head><title>cat the</title></head><body><i>cat</i> the</body></html>",
        ),
        ("<td>red table</td>", "<td>table red</td>"),
    ],
)
def test_tags_follow_what_they_were_around(mirror: Translator, html: str, expected: str) -> None:
    assert translate(mirror, html).text == expected


def test_what_is_kept_comes_through(mirror: Translator) -> None:
    html = "the <code>a  b &lt;</code> cat <kbd>C</kbd> and <span class=notranslate>the <b>milk</b></span>"
    found = translate(mirror, html)
    assert Outline(found.text).tags == Outline(html).tags
    for kept in ("<code>a  b &lt;</code>", "<kbd>C</kbd>", '<span class="notranslate">the <b>milk</b></span>'):
        assert found.text.count(kept) == 1
    for word in ("cat", "and"):
        assert word in found.text
    # Nothing of what stood for them is left.
    assert found.text.isascii()


def test_the_reply_has_no_sentences(translator: Translator) -> None:
    found = translate(translator, "<p>the cat</p><p>milk</p>")
    assert (found.source, found.target, found.score, found.truncated) == ("en", "fr", -0.5, False)
    assert (found.sentences, found.alternatives, found.warnings, found.glossary) == ([], [], [], None)


def test_warnings_come_once(translator: Translator) -> None:
    long = "the cat sleeps on a red table " * 30
    found = translate(translator, f"<p>{long}</p><p>{long}</p>\ud800")
    assert found.warnings == [plan.REPLACED, plan.SPLIT]
    assert found.text.endswith("\ufffd")


@pytest.mark.parametrize("html", ["", " ", "<p></p>", "<P CLASS=a><!-- x --><script>the cat</script>", "&nbsp;"])
def test_a_page_without_text_comes_back_to_the_letter(translator: Translator, engine: EchoEngine, html: str) -> None:
    sent = len(engine.jobs)
    assert translate(translator, html).text == html
    assert translate(translator, html, source=None).text == html
    assert len(engine.jobs) == sent


def test_the_reply_names_the_model_that_would_have_translated(translator: Translator) -> None:
    for texts in ([], ["<p></p>"]):
        for source in ("en", None):
            request = TranslateRequest(text=list(texts), target="fr", source=source, format="html")
            assert run(translator.translate(request)).model == "echo"


def test_a_page_has_one_language_and_tags_are_not_in_it(mirror: Translator) -> None:
    french = (
        "<p title='the cat sleeps on the table and drinks milk'>Le chat boit du lait.</p>"
        "<script>the dog drinks water every day</script><code>the table and the house</code>"
    )
    english = "<P>The cat sleeps on the table and drinks milk.</P><p>Le chat boit.</p>"
    request = TranslateRequest(text=[french, english, french], target="fr", format="html")
    first, second, third = run(mirror.translate(request)).translations
    assert first == third
    assert (first.source, first.text, first.warnings) == ("fr", french, [plan.UNCHANGED])
    assert (second.source, second.warnings) == ("en", [])
    assert "Le chat" not in second.text
    assert second.detected is not None
    assert first.detected is not None
    assert first.detected.confidence > 0.9


def test_texts_of_several_languages(tokenizer: Tokenizer) -> None:
    directions = [("en", "fr"), ("fr", "en"), ("en", "de"), ("fr", "de")]
    mirror = started([model(tokenizer, MirrorEngine(tokenizer), directions=directions, tags=fakes.TAGS | {"de": 4})])
    texts = ["<b>The cat sleeps on the table.</b>", "<i>Le chat boit du lait.</i>", "<u>The dog drinks the milk.</u>"]
    found = run(mirror.translate(TranslateRequest(text=texts, target="de", format="html"))).translations
    assert [each.source for each in found] == ["en", "fr", "en"]
    assert [each.text[:3] for each in found] == ["<b>", "<i>", "<u>"]


def test_blocks_do_not_count_as_texts(tokenizer: Tokenizer) -> None:
    translator = started([model(tokenizer, MirrorEngine(tokenizer))], max_texts=1)
    html = "<p>the <b>cat</b></p>" * 50
    assert translate(translator, html).text == "<p><b>cat</b> the</p>" * 50
    with pytest.raises(errors.TooLarge):
        run(translator.translate(TranslateRequest(text=["x", "y"], target="fr", format="html")))


def test_depth_has_a_limit(tokenizer: Tokenizer) -> None:
    translator = started([model(tokenizer, EchoEngine())], max_html_depth=3)
    html = "<div><p><b>the cat</b></p></div>"
    assert translate(translator, html).text == html
    with pytest.raises(errors.TooLarge) as caught:
        run(translator.translate(TranslateRequest(text=["x", f"<div>{html}</div>"], target="fr", format="html")))
    assert caught.value.field == "text[1]"
    assert "3" in caught.value.message


def test_the_deepest_page_that_may_be_allowed(tokenizer: Tokenizer) -> None:
    deepest = next(each.le for each in Settings.model_fields["max_html_depth"].metadata if hasattr(each, "le"))
    translator = started([model(tokenizer, MirrorEngine(tokenizer))], max_html_depth=deepest)
    html = "<b>the <i>" * (deepest // 2) + "cat" + "</i></b>" * (deepest // 2)
    for page in (html, html.replace("cat", ""), html.replace("cat", "<br>")):
        assert Outline(translate(translator, page).text).tags == Outline(page).tags


def test_the_glossary_is_for_the_whole_page(translator: Translator) -> None:
    html = "<p>the <b>cat</b></p><p>milk and the cat</p><p>table</p>"
    found = translate(translator, html, glossary={"cat": "chat", "milk": "lait", "dog": "chien"})
    assert found.text == "<p>the <b>chat</b></p><p>lait and the chat</p><p>table</p>"
    assert found.glossary is not None
    assert [(term.source, term.target, term.honoured) for term in found.glossary] == [
        ("cat", "chat", True),
        ("milk", "lait", True),
    ]


@pytest.mark.parametrize("option", [{"alternatives": 1}, {"attention": "alignment"}, {"target_prefix": "Le"}])
def test_what_pages_cannot_have_is_refused(client: Client, option: dict[str, object]) -> None:
    reply = client.translate(text="the cat", format="html", **option)
    assert reply.status_code == 422
    [field] = option
    assert (reply.json()["error"]["code"], reply.json()["error"]["field"]) == ("invalid_request", field)
    assert client.translate(text="the cat", format="text", **option).status_code == 200


def test_over_http(client: Client) -> None:
    reply = client.translate(text=["<p>the <b>cat</b></p>", "milk"], format="html")
    assert reply.status_code == 200
    assert [found["text"] for found in reply.json()["translations"]] == ["<p>the <b>cat</b></p>", "milk"]
    deep = client.translate(text="<b>" * 1000 + "x", format="html")
    assert (deep.status_code, deep.json()["error"]["code"]) == (413, "too_large")
    assert client.translate(text="x", format="sgml").json()["error"]["field"] == "format"


def test_in_a_batch(translator: Translator) -> None:
    items = [{"text": "<p>the &amp; cat", "target": "fr", "format": "html"}, {"text": "the & cat", "target": "fr"}]
    results = run(translator.translate_each([BatchItem.model_validate(item) for item in items]))
    assert [result.translation and result.translation.text for result in results] == [
        "<p>the &amp; cat</p>",
        "the & cat",
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("the <b>red</b> table", "table <b>red</b> the"),
        (
            "<d><p>the <b x='&lt;'>cat</b> &#65;</p><p>red\u00a0table</p></d>",
            "<d><p>A <b x='&lt;'>cat</b> the</p><p>table red</p></d>",
        ),
        (
            "<?xml version='1.0'?>\n<d><!-- c --><p>the <br/>cat</p></d>",
            "<?xml version='1.0'?>\n<d><!-- c --><p>cat the<br/></p></d>",
        ),
    ],
)
def test_xml_tags_follow_what_they_were_around(mirror: Translator, source: str, expected: str) -> None:
    found = fakes.translate(mirror, source, format="xml")
    assert found.text == expected
    assert found.sentences == []


def test_what_xml_is_told_of_its_elements(mirror: Translator) -> None:
    source = "<d><t>the <u>red</u> table</t><t>the <x>CAT</x></t></d>"
    told = {"splitting_tags": ["u"], "ignore_tags": ["x"], "non_splitting_tags": [], "outline_detection": False}
    found = fakes.translate(mirror, source, format="xml", xml=told)
    assert found.text == "<d><t>the <u>red</u> table</t><t><x>CAT</x> the</t></d>"


def test_xml_in_and_xml_out(client: Client) -> None:
    reply = client.translate(text=["<p>the <b>cat</b></p>", "milk &lt;"], format="xml", xml={"ignore_tags": ["b"]})
    assert [found["text"] for found in reply.json()["translations"]] == ["<p>the <b>cat</b></p>", "milk &lt;"]


@pytest.mark.parametrize(
    ("body", "status", "field", "says"),
    [
        ({"text": ["<p/>", "<p>"], "format": "xml"}, 422, "text[1]", "not well-formed XML: mismatched tag in line 1"),
        ({"text": "a & b", "format": "xml"}, 422, "text", "not well-formed XML"),
        ({"text": "<b>" * 201 + "</b>" * 201, "format": "xml"}, 413, "text", "200"),
        ({"text": "x", "format": "html", "xml": {}}, 422, "xml", "for format xml only"),
        ({"text": "x", "xml": {"outline_detection": True}}, 422, "xml", "for format xml only"),
        ({"text": "x", "format": "xml", "xml": {"ignore_tags": "p"}}, 422, "xml", "list"),
        ({"text": "x", "format": "xml", "xml": {"tags": []}}, 422, "xml", ""),
        ({"text": "x", "format": "xml", "attention": "alignment"}, 422, "attention", "for format text only"),
    ],
)
def test_xml_that_is_refused(client: Client, body: dict[str, object], status: int, field: str, says: str) -> None:
    reply = client.translate(**body)
    error = reply.json()["error"]
    assert (reply.status_code, error["field"]) == (status, field)
    assert says in error["message"]


def test_text_is_text(translator: Translator) -> None:
    assert fakes.translate(translator, "the &amp; <b>cat</b>").text == "the &amp; <b>cat</b>"


@pytest.fixture(scope="module")
def shipped() -> Iterator[Translator]:
    """The shipped packages."""
    translator = Translator(Settings())
    asyncio.run(translator.start())
    yield translator
    asyncio.run(translator.close())


@pytest.mark.parametrize("architecture", ["transformer", "bahdanau"])
def test_a_page_as_people_write_them(shipped: Translator, architecture: str) -> None:
    found = translate(shipped, HANDBOOK, source=None, model=architecture)
    before, after = Outline(HANDBOOK), Outline(found.text)
    assert found.source == "en"
    assert after.tags == before.tags
    assert after.above == before.above
    assert after.comments == before.comments
    assert found.text.startswith('<!DOCTYPE html><html lang="en">')
    for key in ("code", "pre", "name"):
        assert after.inside(key).strip() == before.inside(key).strip()
    for script in ("if (1 < 2", "p > b { color"):
        assert script in found.text
    for key, word in {"all": "pain", "books": "livres", "sun": "soleil", "play": "jouent", "street": "rue"}.items():
        assert word in after.inside(key)
    assert "maison" not in after.inside("car")


@pytest.mark.parametrize("architecture", ["transformer", "bahdanau"])
def test_a_document_of_xml(shipped: Translator, architecture: str) -> None:
    source = (
        '<?xml version="1.0"?>\n<topic id="a">\n  <title>The cat sleeps.</title>\n'
        "  <p>She reads <b>books</b> in the garden.</p>\n"
        "  <p>Press <uicontrol>Save &amp; Quit</uicontrol> now.</p>\n</topic>\n"
    )
    options = {"source": "en", "model": architecture, "format": "xml", "xml": {"ignore_tags": ["uicontrol"]}}
    found = fakes.translate(shipped, source, **options).text
    assert ET.fromstring(found).findtext("p/b", "").split()[-1] == "livres"
    assert [each.tag for each in ET.fromstring(found).iter()] == ["topic", "title", "p", "b", "p", "uicontrol"]
    assert "<uicontrol>Save &amp; Quit</uicontrol>" in found
    assert found.startswith('<?xml version="1.0"?>\n<topic id="a">\n  <title>Le chat')
    assert found.endswith("</p>\n</topic>\n")


@pytest.mark.parametrize(("architecture", "least"), [("transformer", 0.95), ("bahdanau", 0.9)])
def test_a_long_page_has_its_tags_in_sensible_places(shipped: Translator, architecture: str, least: float) -> None:
    html = long_page(50_000)
    found = translate(shipped, html, source="en", model=architecture)
    before, after = Outline(html), Outline(found.text)
    assert after.tags == before.tags
    assert after.above == before.above
    assert after.comments == before.comments
    known = [key for key in before.above if not key.startswith("-") and key]
    right = sum(key.split("-")[0] in after.inside(key).lower() for key in known)
    assert len(known) > 500
    assert right / len(known) >= least
    # An element around one word is not around its sentence.
    around = [len(after.inside(key)) / len(before.inside(key)) for key in known]
    assert sum(around) / len(around) < 1.5
