"""HTML for tests: what is in a page, a page as people write them, and a long one made from a seed."""

import itertools
import random
from collections import Counter
from html.parser import HTMLParser

VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}


class Outline(HTMLParser):
    """What is in ``html``, which must be well-formed: every element that can be closed is, and in the right order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[tuple[str, tuple[tuple[str, str | None], ...]]] = Counter()
        self.text = ""
        self.comments: list[str] = []
        self.open: list[str] = []
        self.within: dict[str, list[str]] = {}
        """Of each element with an id: its text."""
        self.above: dict[str, list[str]] = {"": []}
        """Of each element with an id: the ids of those that it is in."""
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags[tag, tuple(attrs)] += 1
        key = dict(attrs).get("id") or ""
        self.above[key] = [above for above in self.ids if above]
        self.within[key] = []
        if tag not in VOID:
            self.open.append(tag)
            self.ids.append(key)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag
        self.ids.pop()

    def handle_comment(self, data):
        self.comments.append(data)

    def handle_data(self, data):
        self.text += data
        for key in self.ids:
            self.within[key].append(data)

    def inside(self, key: str) -> str:
        """The text in the element with the id ``key``."""
        return "".join(self.within[key])


HANDBOOK = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>A house by the sea &amp; a garden</title>
  <link rel="stylesheet" href="style.css?a=1&amp;b=2">
  <style>p > b { color: red }</style>
  <script>if (1 < 2 && "<b>") { document.write("<p>The cat</p>") }</script>
</head>
<body class="page">
  <!-- The header: <b>not</b> to be translated. -->
  <header>
    <h1>Welcome to <em id="h1">our house</em></h1>
    <nav><ul>
      <li><a id="home" href="/" title="Home">The house</a></li>
      <li><a id="garden" href="/garden">The garden</a></li>
      <li><a id="contact" href="mailto:anna@example.com">Write to us</a></li>
    </ul></nav>
  </header>
  <main>
    <p>The <a id="car" href="/cars?x=1&amp;y=2">red car</a> is in front of the <b id="front">house</b>.
       <i id="all">I eat bread every morning.</i> My sister
       <strong id="reads">reads <u id="books">many books</u></strong> in the garden.</p>
    <p><img src="cat.png" alt='A "cat"'> The cat sleeps under the table.<br>The dog drinks water.<br/>
       It is five o&#39;clock&nbsp;&mdash; time for tea.</p>
    <div class="note">
      To start it, type <code id="code">make serve &amp;&amp; echo "ok"</code> and press <kbd>Enter</kbd>.
      <pre id="pre">
def hello():
    return "&lt;b&gt;"   # kept</pre>
      The word <span id="name" translate="no">Sunny Hill</span> is <span class="big notranslate">a name</span>.
    </div>
    <table>
      <thead><tr><th>Day</th><th>Weather</th></tr></thead>
      <tbody>
        <tr><td>Monday</td><td>The <b id="sun">sun</b> shines.</td></tr>
        <tr><td>Tuesday</td><td>It <i id="rain">rains</i> all day.</td></tr>
      </tbody>
    </table>
    <form action="/send">
      <label for="q">Your name</label> <input id="q" placeholder="Anna" disabled>
      <select><option value="1">A room with a view</option><option selected>A small room</option></select>
      <textarea>Do not &lt;touch&gt; this</textarea>
      <button type="submit">Send the letter</button>
    </form>
    <blockquote><p>Children <em id="play">play</em> in the <em id="street">street</em>.</p></blockquote>
    <p></p><p> <b></b> </p><hr>
  </main>
  <footer><small id="small">We are <a id="open" href="#">open</a> every day.</small></footer>
</body>
</html>
"""

# What stands in elements of its own, and a part of the word that a French translation of it has.
PEOPLE = (
    ("my sister", "sœur"),
    ("the man", "homme"),
    ("the woman", "femme"),
    ("a child", "enfant"),
    ("the king", "roi"),
)
THINGS = (
    ("the red car", "voiture"),
    ("a small house", "maison"),
    ("the old table", "table"),
    ("my new book", "livre"),
    ("a glass of water", "eau"),
    ("the big dog", "chien"),
    ("two apples", "pomme"),
    ("a long letter", "lettre"),
)
SENTENCES = (
    "I think that {0} is looking at {1}.",
    "Yesterday {0} bought {1} in the market.",
    "Does {0} want to sell {1}?",
    "When I came in, {0} was sitting near {1}.",
    "We know that {0} has {1}, and they are happy.",
)
INLINE = ("b", "i", "em", "strong", "u", "span", "a", "small", "mark")
BLOCKS = ("p", "li", "h2", "td", "blockquote", "div")


def long_page(size: int, seed: int = 0) -> str:
    """A well-formed page of at least ``size`` characters. Elements around what a translation can be known of have ids
    that begin with it."""
    chance = random.Random(seed)
    ids = itertools.count()

    def wrap(text: str, key: str = "") -> str:
        tag = chance.choice(INLINE)
        return f'<{tag} id="{key}-{next(ids)}">{text}</{tag}>'

    def sentence() -> str:
        person, thing = chance.choice(PEOPLE), chance.choice(THINGS)
        what = wrap(*thing)
        if chance.random() < 0.5:
            first, rest = thing[0].split(" ", 1)
            what = wrap(f"{first} {wrap(rest, thing[1])}", thing[1])
        text = chance.choice(SENTENCES).format(wrap(*person), what)
        if chance.random() < 0.2:
            text = wrap(text)
        return text + chance.choice(["", "", "", "<br>", " <!-- note -->", ' <img src="x.png">'])

    def block() -> str:
        text = " ".join(sentence() for _ in range(chance.randint(1, 4)))
        match chance.choice(BLOCKS):
            case "td":
                return f"<table><tbody><tr><td>{text}</td></tr></tbody></table>\n"
            case "li":
                return f"<ul>\n  <li>{text}</li>\n</ul>\n"
            case tag:
                return f"<{tag}>{text}</{tag}>\n"

    parts = ["<!DOCTYPE html><html><head><title>A long page</title></head><body>\n"]
    while sum(map(len, parts)) < size:
        parts.append(block())
    return "".join([*parts, "</body></html>"])
