import itertools
import random
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text.dom import escape, read
from service.text.inline import Pair, write
from service.text.markup import Block, parse
from tests.service.pages import Outline

WORD = re.compile(r"\w+|[^\w\s]")
"""What is kept is cut into its characters: the worst case."""
Link = tuple[int, int] | tuple[int, int, float]


def words(text: str, start: int = 0) -> np.ndarray:
    found = [(match.start() + start, match.end() + start) for match in WORD.finditer(text)]
    return np.array(found, dtype=np.int64).reshape(len(found), 2)


def block(html: str) -> Block:
    [found] = parse(read(html, 200), escape).blocks
    return found


def pair(source: str, target: str, links: Sequence[Link], at: tuple[int, int] = (0, 0)) -> Pair:
    """Target words look at the source words they are linked with, others at all alike. ``at``: where the two begin."""
    source_words, target_words = words(source, at[0]), words(target, at[1])
    weights = np.zeros((len(target_words), len(source_words)))
    for link in links:
        weights[link[1], link[0]] += link[2] if len(link) == 3 else 1.0
    rest = 1 - weights.sum(axis=1, keepdims=True)
    weights += rest / len(source_words)
    return Pair((at[0], at[0] + len(source)), (at[1], at[1] + len(target)), source_words, target_words, weights)


def put(html: str, target: str, links: Sequence[Link] | None = None) -> str:
    """The block in another language; without links, word for word."""
    found = block(html)
    if links is None:
        links = [(number, number) for number in range(len(words(found.text)))]
    return write(found, target, [pair(found.text, target, links)])


@pytest.mark.parametrize(
    ("html", "target", "links", "expected"),
    [
        ("the <b>red</b> car", "la voiture rouge", [(0, 0), (2, 1), (1, 2)], "la voiture <b>rouge</b>"),
        ("<b>red</b> <i>car</i>", "voiture rouge", [(1, 0), (0, 1)], "<i>voiture</i> <b>rouge</b>"),
        ("<b>red <i>car</i></b>", "voiture rouge", [(1, 0), (0, 1)], "<b><i>voiture</i> rouge</b>"),
        ("<b>all of it</b>", "le tout", [(0, 1), (2, 0)], "<b>le tout</b>"),
        ("<b><i><u>all</u></i></b>", "tout entier", [], "<b><i><u>tout entier</u></i></b>"),
        ("<i> <b>all</b></i>\n", "tout entier", [], "<i><b>tout entier</b></i>\n"),
        # scattered: the stretch is worth its gap, or it is not
        ("<b>a <i>red</i></b> car", "une voiture rouge", [(0, 0), (2, 1), (1, 2)], "<b>une voiture <i>rouge</i></b>"),
        ("do <b>not</b> eat", "ne mange pas", [(1, 0), (2, 1), (1, 2)], "<b>ne mange pas</b>"),
        ("do <b>not</b> eat", "ne mange pas", [(1, 0, 0.6), (2, 1), (1, 2, 0.9)], "ne mange <b>pas</b>"),
        ("<b>up</b> to me", "haut a b c haut", [(0, 0), (1, 1), (2, 2), (2, 3), (0, 4)], "<b>haut</b> a b c haut"),
        # crossing: neither takes what is the other's
        ("<b>not</b> <i>eat</i>", "ne mange pas", [(0, 0), (1, 1), (0, 2)], "<b>ne</b> <i>mange</i> pas"),
        ("<a>a b</a> <a>c d</a>", "a c b d", [(0, 0), (2, 1), (1, 2), (3, 3)], "<a>a</a> c b <a>d</a>"),
        ("<b>do</b> <i>not</i>", "ne pas", [(1, 0, 0.7), (0, 0, 0.3), (1, 1)], "<b></b><i>ne pas</i>"),
        # nobody looks at it for certain, or at all
        ("I <b>am</b> here", "suis ici", [(0, 0, 0.7), (1, 0, 0.3), (2, 1)], "<b>suis</b> ici"),
        ("I <b>am</b> here", "suis ici", [(0, 0), (2, 1)], "suis <b></b>ici"),
        ("I <b>am <i>so</i></b> here", "suis ici", [(0, 0), (3, 1)], "suis <b><i></i></b>ici"),
        ("I <b>am</b>", "", [], "<b></b>"),
        # parts of words, and punctuation
        ("<b>H</b>ello you", "Bonjour toi", [(0, 0), (1, 1)], "<b>Bonjour</b> toi"),
        ("the <a>cat</a>.", "le chat.", [(0, 0), (1, 1), (1, 2)], "le <a>chat</a>."),
        ("<a>Oh cat!</a> dog", "Oh chat! chien", [(0, 0), (1, 1), (2, 2), (3, 3)], "<a>Oh chat!</a> chien"),
        ('a "<a>cat</a>"', "un «chat»", [(0, 0), (2, 1), (2, 2), (2, 3)], "un «<a>chat</a>»"),
        # beyond the basic plane
        ("😀 <b>cat</b> 😀", "😀😀 le chat 😀", [(0, 0), (0, 1), (1, 3), (2, 4)], "😀😀 le <b>chat</b> 😀"),
    ],
)
def test_elements_follow_the_words_they_enclosed(html: str, target: str, links: list[Link], expected: str) -> None:
    assert put(html, target, links) == expected


@pytest.mark.parametrize(
    ("html", "target", "expected"),
    [
        ("red <img> car", "rouge voiture", "rouge <img> voiture"),
        ("red <img>car", "rouge voiture", "rouge <img>voiture"),
        ("red<img> car", "rouge voiture", "rouge<img> voiture"),
        ("<img>red car", "rouge voiture", "<img>rouge voiture"),
        ("<img> <i></i><b>red</b> car", "rouge voiture", "<img> <i></i><b>rouge</b> voiture"),
        ("<b>red</b><img><i></i><b>car</b>", "rouge", "<b>rouge</b><img><i></i><b></b>"),
        ("<img> red car<img>", "rouge voiture", "<img> rouge voiture<img>"),
        ("red car <img>", "rouge voiture ", "rouge voiture <img>"),
        ("<b>red</b><img> car", "rouge voiture", "<b>rouge</b><img> voiture"),
        ("<b>red<img></b> car", "rouge voiture", "<b>rouge<img></b> voiture"),
        ("<b>red <img> car</b>", "rouge voiture", "<b>rouge <img> voiture</b>"),
        ("red<!-- <b> --> car", "rouge voiture", "rouge<!-- <b> --> voiture"),
        ('red <i class="icon"> </i> car', "rouge voiture", 'rouge <i class="icon"></i> voiture'),
        ("a<br>b", "c d", "c<br> d"),
        ("super<wbr>man", "superbe homme", "<wbr>superbe homme"),
    ],
)
def test_what_has_no_text_follows_the_word_before(html: str, target: str, expected: str) -> None:
    assert put(html, target) == expected


def test_what_stood_before_a_word_that_moves_stays_behind_the_one_before_it() -> None:
    links = [(0, 0), (2, 1), (1, 2)]
    assert put("a red <img> car", "une voiture rouge", links) == "une voiture rouge<img> "
    assert put("a <img> red car", "une voiture rouge", links) == "une <img> voiture rouge"
    # Nothing comes to stand in an element that it was not in.
    assert put("<b>red</b><img> <i>car</i>", "voiture rouge", [(1, 0), (0, 1)]) == "<i>voiture</i> <b>rouge</b><img>"
    assert (
        put("red<img> <i>big car</i>", "auto rouge haute", [(2, 0), (0, 1), (1, 2)]) == "<i>auto rouge haute</i><img>"
    )


def test_text_is_escaped() -> None:
    assert put("a &amp; <b>b</b>", "<c>\u00a0& d", [(2, 4)]) == "&lt;c&gt;&nbsp;&amp; <b>d</b>"
    assert put("a &amp; b", '<c> & "d"') == '&lt;c&gt; &amp; "d"'


def test_what_did_not_change_comes_back_to_the_letter() -> None:
    html = " <b> x </b><br>\n <i> </i> y "
    found = block(html)
    assert write(found, found.text, []) == html


def sentences(html: str, *pairs: tuple[str, str, Sequence[Link]]) -> str:
    """The block with each sentence translated, and what lies between them as it was."""
    found = block(html)
    translation, position = "", 0
    aligned = []
    for source, target, links in pairs:
        start = found.text.index(source, position)
        translation += found.text[position:start]
        aligned.append(pair(source, target, links, at=(start, len(translation))))
        translation += target
        position = start + len(source)
    return write(found, translation + found.text[position:], aligned)


def test_several_sentences() -> None:
    html = "<b>One. Two</b> three.<br>\n<i>Four.</i> <img> Five <u>six</u>.<br>"
    assert (
        sentences(
            html,
            ("One.", "Un.", [(0, 0), (1, 1)]),
            ("Two three.", "Trois deux.", [(1, 0), (0, 1), (2, 2)]),
            ("Four.", "Quatre!", [(0, 0), (0, 1)]),
            ("Five six.", "Cinq six.", [(0, 0), (1, 1), (2, 2)]),
        )
        == "<b>Un. Trois deux</b>.<br>\n<i>Quatre!</i> <img> Cinq <u>six</u>.<br>"
    )


def test_what_lies_between_sentences_keeps_its_place() -> None:
    html = "<br> One.<br><br>\n <b>Two.</b><!-- x --><br>"
    done = sentences(html, ("One.", "Un deux.", [(0, 1)]), ("Two.", "Un.", []))
    assert done == "<br> Un deux.<br><br>\n <b>Un.</b><!-- x --><br>"


def kept(html: str, target: str, links: Sequence[Link] | None = None) -> str:
    """``{0}`` in the target is what is kept first."""
    found = block(html)
    target = target.format(*(span.text for span in found.protected))
    if links is None:
        links = [(number, number) for number in range(len(words(found.text)))]
    return write(found, target, [pair(found.text, target, links)])


def test_what_is_kept_stands_where_the_translation_has_it() -> None:
    html = "run <code>a  &lt; b</code> and <kbd>x</kbd> now"
    done = "maintenant <kbd>x</kbd> et <code>a  &lt; b</code> cours"
    assert kept(html, "maintenant {1} et {0} cours") == done
    assert kept("<code>x</code>", "{0}") == "<code>x</code>"
    assert kept("a <code>x\ny</code>", "<b> {0}") == "&lt;b&gt; <code>x\ny</code>"


def test_elements_go_with_what_is_kept_in_them() -> None:
    # The attention says otherwise.
    assert kept("run <a><code>x</code></a> now", "{0} cours ici", [(0, 0), (0, 1), (2, 2)]) == (
        "<a><code>x</code></a> cours ici"
    )
    # A word that has grown together with what is kept is in the element whole.
    found = block("run <a>a <code>x</code></a> now")
    target = f"cours a{found.protected[0].text} ici"
    halves = np.array([[0, 5], [6, 9], [9, 13], [14, 17]])
    weights = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    done = write(found, target, [Pair((0, 11), (0, 17), words(found.text), halves, weights)])
    assert done == "cours <a>a<code>x</code></a> ici"


def test_what_is_kept_and_lost_comes_back_once() -> None:
    html = "run <code>x</code> now"
    assert kept(html, "cours ici", [(0, 0), (2, 1)]) == "cours <code>x</code>ici"
    assert kept(html, "{0} cours {0}", [(0, 1)]).count("<code>x</code>") == 1


LEAVES = [
    "one two",
    " ",
    "three.",
    "x",
    "\u00a0",
    "four, &amp;",
    "😀",
    "<br>",
    "<img>",
    "<!-- x -->",
    "<code>y z</code>",
]
TREES = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.tuples(st.sampled_from(["b", "i", "a", "span", "div", "section"]), st.lists(inner, max_size=4)),
    max_leaves=25,
)
Tree = str | tuple[str, list["Tree"]]


def html_of(tree: Tree, ids: Iterator[int]) -> str:
    """Each element but those that are kept has an id."""
    if isinstance(tree, str):
        return re.sub("<(br|img)", lambda found: f'<{found[1]} id="{next(ids)}"', tree)
    name, inner = tree
    return f'<{name} id="{next(ids)}">' + "".join(html_of(each, ids) for each in inner) + f"</{name}>"


def invented(found: Block, chance: random.Random) -> tuple[str, list[Pair]]:
    """A translation that has nothing to do with the text, with attention at random."""
    vocabulary = ["un", "<b>", "&amp;", "😀", ".", *(span.text for span in found.protected)]
    translation, position = "", 0
    pairs = []
    for sentence in re.finditer(r"\S[^.\n]*\.?", found.text):
        start, end = sentence.span()
        end -= len(sentence[0]) - len(sentence[0].rstrip())
        translation += found.text[position:start]
        target = chance.choice([" ", ""]).join(chance.choices(vocabulary, k=chance.randint(0, 6)))
        sources, targets = words(found.text[start:end], start), words(target, len(translation))
        weights = np.array([[chance.random() ** 4 + 1e-9 for _ in sources] for _ in targets]).reshape(
            len(targets), len(sources)
        )
        weights /= weights.sum(axis=1, keepdims=True)
        pairs.append(Pair((start, end), (len(translation), len(translation) + len(target)), sources, targets, weights))
        translation += target
        position = end
    return translation + found.text[position:], pairs


@given(st.lists(TREES, max_size=4), st.randoms(use_true_random=False))
def test_whatever_the_attention_the_tags_and_their_order_stay(trees: list[Tree], chance: random.Random) -> None:
    ids = itertools.count()
    html = "".join(html_of(tree, ids) for tree in trees)
    translations = []

    def translated(found: Block) -> str:
        translations.append(invented(found, chance))
        return write(found, *translations[-1])

    before, after = Outline(html), Outline(parse(read(html, 200), escape).write(translated))
    assert after.tags == before.tags
    del before.above[""], after.above[""]
    assert after.above == before.above
    assert after.comments == before.comments
    said = re.sub("[\ue000-\uf8ff]{6}", "", "".join(text for text, _ in translations))
    assert "".join(after.text.replace("y z", "").split()) == "".join(said.split())
