import time
import xml.etree.ElementTree as ET
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text import xml
from service.text.dom import TooDeep
from service.text.markup import Page, parse
from service.text.xml import NotWellFormed, Tags

DEPTH = 200
DOCUMENT = """<?xml version="1.0" encoding="UTF-16"?>
<!DOCTYPE book [<!ELEMENT book ANY> <!-- no entities -->]>
<?style a?>
<book lang='en'>
  <title>A title</title>
  <!-- a note -->
  <par>One &amp; <b a = "&lt;">two</b>, three<br/> four.</par>
  <par><b>Five</b></par>
</book>
<!-- the end -->
"""


def read(
    source: str, depth: int = DEPTH, *, ignored: str = "", splitting: str = "", joining: str = "", outline: bool = True
) -> Page:
    tags = Tags(frozenset(ignored.split()), frozenset(splitting.split()), frozenset(joining.split()), outline)
    return parse(xml.read(source, depth, tags), xml.escape)


def texts(page: Page) -> list[str]:
    return [block.text for block in page.blocks]


@pytest.mark.parametrize(
    "source",
    [
        "",
        " \n ",
        "plain text &#233; &lt;",
        "one <b>two</b> three",
        "<p>one</p>\n\n<p x='1'>two <b/> three</p >  ",
        "<!-- <p> --><p>x<?php a > b ?>y</p>",
        "<a:p xmlns:a='urn:a' a:x='>'>x</a:p>",
        "\ufeff<?xml version='1.0'?><p>x</p>",
        '<!DOCTYPE html SYSTEM "http://www.w3.org/x.dtd"><p>a&nbsp;b</p>',
        DOCUMENT,
    ],
)
def test_what_is_not_translated_stays_as_it_was(source: str) -> None:
    assert read(source).write(lambda block: block.html) == source
    assert read(source, outline=False).write(lambda block: block.html) == source


def test_cdata_is_text() -> None:
    page = read("<p>a <![CDATA[<b> & ]]>c</p>")
    assert texts(page) == ["a <b> & c"]
    assert page.write(lambda block: block.html) == "<p>a &lt;b&gt; &amp; c</p>"


def test_entities_of_a_document_type() -> None:
    head = '<!DOCTYPE html SYSTEM "http://www.w3.org/x.dtd">'
    [block] = read(f"{head}<p>l&rsquo;&eacute;t&eacute; &ours; <b>&nbsp;</b>x</p>").blocks
    assert block.text == "l’été \u00a0x"
    assert [mark.open for mark in block.marks] == ["&ours;", "<b>"]
    assert texts(read(f"{head}<p>&eacute; <b>x</b></p>")) == ["é x"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("one <b>two</b> three", ["one two three"]),
        ("<p>one</p><p>two</p>", ["one", "two"]),
        ("<p>one <b><i>two</i></b></p>", ["one two"]),
        (DOCUMENT, ["A title", "One & two, three four.", "Five"]),
        # in one place the first words of a text are all bold, and the others in italics
        (
            "<d><p>one <b>x</b></p><p>two <b>x</b></p><p><b>three</b> <b>four</b></p></d>",
            ["one x", "two x", "three four"],
        ),
        # a paragraph once within an item's text is a paragraph everywhere else
        ("<d><p>one</p><p>two</p><li>three <p>four</p></li></d>", ["one", "two", "three four"]),
        ("<p>  white\n\n space </p>", ["white space"]),
    ],
)
def test_what_separates_texts_is_told_by_how_it_is_used(source: str, expected: list[str]) -> None:
    assert texts(read(source)) == expected


def test_what_separates_texts_can_be_said() -> None:
    source = "<d><t>one</t><t>two <u>three</u> four</t></d>"
    assert texts(read(source)) == ["one", "two three four"]
    assert texts(read(source, splitting="u")) == ["one", "two", "three", "four"]
    assert texts(read(source, joining="d t")) == ["onetwo three four"]
    assert texts(read(source, outline=False)) == ["onetwo three four"]
    assert texts(read(source, outline=False, splitting="t")) == ["one", "two three four"]
    # What is around something that separates does so too.
    assert texts(read("<d>one <t>two <u>three</u></t> four</d>", outline=False, splitting="u")) == [
        "one",
        "two",
        "three",
        "four",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "see <x>the <b>code</b></x> here",
        'see <y translate="no">the <b>code</b></y> here',
        'see <y its:translate="no" xmlns:its="http://www.w3.org/2005/11/its">the <b>code</b></y> here',
    ],
)
def test_what_is_not_to_be_translated(source: str) -> None:
    [block] = read(source, ignored="x").blocks
    assert block.said.split() == ["see", "here"]
    assert block.text == "see the code here"


def test_all_of_it_may_be_kept() -> None:
    assert read("<d><x>one</x></d>", ignored="x").blocks == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("<p>one", "mismatched tag in line 1, column 9"),
        ("<p>one</b>", "mismatched tag in line 1, column 9"),
        ("one\n </p>", "in line 2, column 4"),
        ("a & b", "not well-formed (invalid token) in line 1, column 4"),
        ("<p>é €</p> & b", "not well-formed (invalid token) in line 1, column 13"),
        ("a&nbsp;b", "undefined entity in line 1, column 2"),
        ("a\x00b", "not well-formed (invalid token) in line 1, column 2"),
        ("<a:p>x</a:p", "not well-formed (invalid token) in line 1, column 12"),
        ('<!DOCTYPE d [<!ENTITY e "x">]><d>&e;</d>', "a document that declares entities is not read"),
        ("  <?xml version='1.0'?><p>x</p>", "XML or text declaration not at start of entity in line 1, column 3"),
        ("<?xml version='1.0'?>", "no element found in line 1, column 22"),
    ],
)
def test_what_is_not_well_formed_is_refused(source: str, says: str) -> None:
    with pytest.raises(NotWellFormed) as caught:
        read(source)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "piece", ["<!-- -->", "<?a b?>", "<!--", "<a>", "<a/>", "<b>x</b>", "<![CDATA[", "&amp;", "\n"]
)
@pytest.mark.parametrize("end", ["", "<!DOCTYPE a>"])
def test_hostile_xml_takes_little_time(piece: str, end: str) -> None:
    began = time.process_time()
    with suppress(NotWellFormed, TooDeep):
        read(piece * 50_000 + end)
    # It takes up to half a second; in time that grows with the square of the length it would be minutes.
    assert time.process_time() - began < 10


@pytest.mark.parametrize("head", ["", "<?xml version='1.0'?>"])
def test_depth_has_a_limit(head: str) -> None:
    source = f"{head}<a><b><c><d>x</d></c></b></a>"
    assert texts(read(source, 4)) == ["x"]
    with pytest.raises(TooDeep):
        read(source, 3)


NAMES = st.sampled_from(["a", "b", "c", "d"])
PIECES = st.recursive(
    st.text("xy &<>'\"é\u00a0\n", max_size=6).map(xml.escape)
    | st.just("<!-- - -->")
    | NAMES.map(lambda name: f"<{name}/>"),
    lambda inner: st.builds(
        lambda name, parts: f"<{name}>{''.join(parts)}</{name}>", NAMES, st.lists(inner, max_size=4)
    ),
)


@given(st.lists(PIECES, max_size=5).map("".join), st.booleans(), NAMES, NAMES, NAMES)
def test_any_xml_comes_back_as_it_was_with_all_its_text(
    source: str, outline: bool, ignored: str, splitting: str, joining: str
) -> None:
    page = read(source, outline=outline, ignored=ignored, splitting=splitting, joining=joining)
    assert page.write(lambda block: block.html) == source
    read_texts = "".join(block.text for block in page.blocks)
    whole = "".join(ET.fromstring(f"<all>{source}</all>").itertext())
    kept_alone = [part for part in page.parts if isinstance(part, str)]
    spoken = "".join(whole.split())
    outside = "".join("".join(ET.fromstring(f"<all>{''.join(kept_alone)}</all>").itertext()).split())
    assert len("".join(read_texts.split())) + len(outside) == len(spoken)


@given(st.text())
def test_whatever_comes_is_read_or_refused(source: str) -> None:
    source = source.encode("utf-8", "replace").decode("utf-8")
    try:
        page = read(source)
    except NotWellFormed:
        return
    assert page.write(lambda block: block.html).replace("\r", "\n") == source.replace("\r", "\n")
