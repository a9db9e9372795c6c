import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text import dom
from service.text.dom import TooDeep
from service.text.markup import Block, Page, every, parse
from tests.service.pages import HANDBOOK, Outline, long_page

DEPTH = 200


def read(html: str, max_depth: int = DEPTH) -> Page:
    return parse(dom.read(html, max_depth), dom.escape)


def again(html: str) -> str:
    """The page with every block as it was."""
    return read(html).write(lambda block: block.html)


def texts(html: str) -> list[str]:
    return [block.text for block in read(html).blocks]


def block(html: str) -> Block:
    [found] = read(html).blocks
    return found


@pytest.mark.parametrize(
    "html",
    [
        "",
        " \n ",
        "plain text",
        "<p>one</p>\n  <p>two <b>and</b> more </p>\n",
        '<a href="?a=1&amp;b=&quot;2&quot;" title="" download @click="f(1 > 0)" {{more}}>x</a>',
        'x<br> y <br>\n<img src="a"> <wbr>z<hr>',
        "<!-- a --><p>x<!-- <b> --> y</p><!-- c -->",
        "<!DOCTYPE html><html><head><title>a &lt;b&gt; &amp; c</title></head><body><p>x</p></body></html>",
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0//EN" "http://www.w3.org/x.dtd"><html><head></head></html>',
        "<html><body><p>no head</p></body></html>",
        '<body class="a"><p>only a body</p></body>',
        "<head><title>only a head</title></head>",
        "<frameset><frame></frameset>",
        "<td>a cell</td><td>and its neighbour</td>",
        "<tr><td>a row</td></tr>",
        "<table><tr><td>no tbody</td></tr></table>",
        "<table><tbody><tr><td>a tbody</td></tr></tbody></table>",
        "<li>a</li><li>b</li>",
        "<option>a</option><option>b</option>",
        '<p>a<script>if (1 < 2 && "<b>") {}</script>b<style>p > b {}</style></p>',
        "<noscript><img src=x><b>kept</noscript><p>x</p>",
        "<template><b>x</b></template><p>x</p>",
        '<svg viewBox="0 0 1 1"><linearGradient></linearGradient><a>x</a></svg>',
        "<pre>\n\n a  b</pre><textarea>\n\n&lt;b&gt;</textarea><code> a  b </code>",
        "<?php echo 1 ?><p>x</p>",
        "<x-card><my-icon></my-icon> Foo <x-name>bar</x-name></x-card>",
        "<select><button><selectedcontent></selectedcontent></button><option selected>a</option></select>",
        "<p>&lt;b&gt; &amp;amp; &nbsp;😀 é</p>",
        '<video src="a">x</video><math><mi>x</mi></math>',
    ],
)
def test_well_formed_html_comes_back(html: str) -> None:
    assert again(html) == html


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<P CLASS='a b' ID=c>x<BR/>y", '<p class="a b" id="c">x<br>y</p>'),
        ("<ul><li>a<li>b</ul>", "<ul><li>a</li><li>b</li></ul>"),
        ("<p>a<p>b", "<p>a</p><p>b</p>"),
        ("<table><tr><td>a<td>b</table>", "<table><tr><td>a</td><td>b</td></tr></table>"),
        ("&eacute;&copy;&#x1F600;&unknown;", "é©😀&amp;unknown;"),
        ("a < b > c & d", "a &lt; b &gt; c &amp; d"),
        ("<b><i>x</b>y</i>", "<b><i>x</i></b>y"),
        ("<p>a <b>b<p>c</b>d", "<p>a <b>b</b></p><p>cd</p>"),
        ("x</b></p></div>y", "xy"),
        ("<a href=x>y<", '<a href="x">y&lt;</a>'),
        ("<b title='", ""),
        ("x<!-- never closed", "x<!-- never closed-->"),
        ("<title>a <b> c</title>", "<title>a &lt;b&gt; c</title>"),
        ("<p title='<b> <tr>'>x", '<p title="<b> <tr>">x</p>'),
        ("<table>x<tr><td>y</table>", "x<table><tr><td>y</td></tr></table>"),
        ("\x00a\r\nb", "a\nb"),
    ],
)
def test_other_html_is_put_right(html: str, expected: str) -> None:
    assert again(html) == expected
    assert again(expected) == expected


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>one</p>two<div>three</div>", ["one", "two", "three"]),
        ("<p>one <b>and <i>two</i></b>, <a>three</a>.</p>", ["one and two, three."]),
        ("  a\n\t <b> b </b> c<i> d</i> ", ["a b c d"]),
        ("a &amp; b&nbsp;&lt;c&gt;", ["a & b\u00a0<c>"]),
        ("a<br>b <br> <br>c", ["a\nb \n\nc"]),
        ("a<wbr>b <img> c<!-- x -->d", ["ab cd"]),
        ("<a>x<div>in</div> y</a> z", ["x", "in", "y", "z"]),
        ("<b><i>x<p>y</p></i></b>", ["x", "y"]),
        ("<table><tr><td>a</td><th>b</th></tr></table>", ["a", "b"]),
        ("<select><option>a</option><option>b</option></select>", ["a", "b"]),
        ("<label>Name <input></label><button>Send</button>", ["Name", "Send"]),
        ("<title>a</title><script>b</script><style>c</style><noscript>d</noscript><template>e</template>", ["a"]),
        ("<pre>a</pre><textarea>b</textarea><div translate=no>c <p>d</p></div><p class='x notranslate'>e</p>", []),
        ("<p translate=yes>a</p><p translate>b</p><p class=translate>c</p>", ["a", "b", "c"]),
        ("<ul>\n <li>a\n <li>b\n</ul>", ["a", "b"]),
        ("<unknown>x</unknown> y", ["x y"]),
        ("<p> </p><b></b> <i> <!-- x --> </i>&nbsp;", []),
    ],
)
def test_what_is_read(html: str, expected: list[str]) -> None:
    assert texts(html) == expected


def test_what_is_kept_is_a_word_in_its_text() -> None:
    found = block(
        'Type <code class="x">a  <b>b</b> &amp; c </code>, <kbd>X</kbd> or <i translate=NO>d</i><code></code>.'
    )
    assert found.text == "Type a b & c, X or d."
    assert [found.text[span.start : span.end] for span in found.protected] == ["a b & c", "X", "d"]
    assert len({span.text for span in found.protected}) == 3
    assert [mark.open for mark in found.marks] == [
        '<code class="x">a  <b>b</b> &amp; c </code>',
        "<kbd>X</kbd>",
        '<i translate="NO">d</i>',
        "<code></code>",
    ]


def test_marks_are_around_words() -> None:
    found = block("<p>one<b> two <i>three</i> </b>four<u>\n<br></u></p>")
    assert found.text == "one two three four \n"
    assert [(mark.open, found.text[mark.start : mark.end]) for mark in every(found.marks)] == [
        ("<b>", "two three"),
        ("<i>", "three"),
        ("<u>", ""),
        ("<br>", ""),
    ]


def test_white_space_at_the_ends_is_not_read() -> None:
    found = block("<p>\n   one <b>two</b>\t</p>")
    assert (found.before, found.text, found.after) == ("\n   ", "one two", "\t")


def test_depth_has_a_limit() -> None:
    for name in ("b", "div", "x-y", "code"):
        html = f"<{name}>" * 5 + "x" + f"</{name}>" * 5
        assert read(html, 5).write(lambda block: block.html) == html
        with pytest.raises(TooDeep):
            read(html, 4)


def test_what_is_never_closed_does_not_multiply() -> None:
    # Read to the letter of the standard, this is 4 million elements.
    html = "<p>" + "".join(f"<b id={number}>" for number in range(150)) + "<p>x" * 25_000
    assert len(again(html)) < 3 * len(html)


@pytest.mark.parametrize(
    "html",
    [
        "<b>" * 33_000,
        "<div>" * 20_000,
        "<ul><li>" * 12_500,
        "<p>" + "<b>x" * 190 + "<p>x" * 24_000,
        "".join(f"<p><b id={number}>x</p>" for number in range(5_000)),
        "<svg>" + "<g>" * 33_000,
        "<x-y>" * 10_000 + "</z>" * 12_000,
        "<p " + " ".join(f"a{number}" for number in range(15_000)) + ">x",
        "<code>" + "<b></b>" * 14_000,
        "x<br>" * 20_000,
        "<p>" + "<b>" * 190 + "<br>" * 24_000 + "x",
        "<i></i> " * 12_000 + "x",
        "<" * 100_000,
        "<!--" * 25_000,
    ],
    ids=lambda html: html[:12],
)
def test_hostile_html_takes_little_time(html: str) -> None:
    began = time.process_time()
    try:
        again(html)
    except TooDeep:
        assert html.count("<") > DEPTH
    # It takes up to half a second; in time that grows with the square of the length it would be minutes.
    assert time.process_time() - began < 10


@pytest.mark.parametrize("html", [HANDBOOK, long_page(20_000)], ids=["written", "made"])
def test_whole_pages_come_back(html: str) -> None:
    assert Outline(again(html)).tags == Outline(html).tags
    assert Outline(again(html)).text.split() == Outline(html).text.split()
    assert again(again(html)) == again(html)


SOUP = """
<b> </b> <i class=x> </i> <p> </p> <div> </div> <a href='x'> </a> <br> <td> <tr> <table> </table> <li> <ul> </ul> <code>
</code> <pre> </pre> <script> </script> <title> </title> <!-- --> <!DOCTYPE> <html> <body> </body> <svg> </svg> <select>
<option> </select> <textarea> </textarea> <template> </template> <math> <mi> <? > < </ = " ' &amp; &nbsp; &lt <img>
<input> <noscript> </noscript> translate=no
"""
SOUPS = st.lists(st.sampled_from([" ", "\n", *SOUP.split()]) | st.text(max_size=5), max_size=40).map("".join)


@given(SOUPS)
def test_whatever_comes_is_read(html: str) -> None:
    page = read(html.encode("utf-8", "replace").decode("utf-8"))
    for found in page.blocks:
        assert found.text.strip()
        spans = [(span.start, span.end) for span in found.protected]
        assert spans == sorted(spans)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        for mark in every(found.marks):
            assert 0 <= mark.start <= mark.end <= len(found.text)
            assert found.text[mark.start : mark.end].strip() == found.text[mark.start : mark.end]
            assert all(
                mark.start <= each.start and each.end <= mark.end for each in mark.inside if each.start < each.end
            )
    # Nothing of what was put into the source is left in the page.
    assert len(page.write(lambda block: block.html)) < 20 * len(html) + 50
