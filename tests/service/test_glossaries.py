import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service import errors
from service.glossaries import Glossaries
from service.settings import ROOT, Settings

EN_FR, FR_EN = ("en", "fr"), ("fr", "en")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "not" / "yet" / "there.sqlite"


def kept_in(file: Path, **settings: Any) -> Glossaries:
    return Glossaries(Settings(glossaries_file=str(file), **settings))


@pytest.fixture
def store(file: Path) -> Glossaries:
    return kept_in(file)


def test_what_is_kept_is_there_after_a_restart(store: Glossaries, file: Path) -> None:
    made = store.add("ann", "Häuser 🏠", {EN_FR: {"house": "baraque"}, FR_EN: {"maison": "cabin", "été": "summer"}})
    assert (made.name, made.sizes) == ("Häuser 🏠", {EN_FR: 1, FR_EN: 2})
    again = kept_in(file)
    assert again.find("ann", made.id) == made
    assert again.terms("ann", made.id, FR_EN) == {"maison": "cabin", "été": "summer"}
    assert again.terms("ann", made.id, ("en", "de")) is None


def test_they_are_listed_in_the_order_in_which_they_were_made(store: Glossaries) -> None:
    made = [store.add("ann", name, {EN_FR: {"a": name}}) for name in "cab"]
    store.remove("ann", made[1].id)
    made.append(store.add("ann", "d", {EN_FR: {"a": "d"}}))
    assert store.all("ann") == [made[0], made[2], made[3]]


def test_each_owner_has_its_own(store: Glossaries) -> None:
    made = store.add("ann", "hers", {EN_FR: {"cat": "matou"}})
    assert store.all("bob") == []
    for ask in (
        lambda: store.find("bob", made.id),
        lambda: store.terms("bob", made.id, EN_FR),
        lambda: store.change("bob", made.id, {EN_FR: {"cat": "x"}}),
        lambda: store.remove("bob", made.id),
    ):
        with pytest.raises(errors.UnknownGlossary):
            ask()
    assert store.terms("ann", made.id, EN_FR) == {"cat": "matou"}


def test_changes(store: Glossaries) -> None:
    made = store.add("ann", "animals", {EN_FR: {"cat": "matou", "dog": "cabot"}})
    assert store.change("ann", made.id, {EN_FR: {"dog": "toutou", "cow": "vache"}, FR_EN: {"chat": "cat"}}).sizes == {
        EN_FR: 3,
        FR_EN: 1,
    }
    assert store.terms("ann", made.id, EN_FR) == {"cat": "matou", "dog": "toutou", "cow": "vache"}
    replaced = store.change("ann", made.id, {EN_FR: {"pig": "porc"}}, replace=True)
    assert (replaced.name, list(replaced.sizes.items())) == ("animals", [(EN_FR, 1), (FR_EN, 1)])
    assert store.terms("ann", made.id, EN_FR) == {"pig": "porc"}
    assert store.change("ann", made.id, {}, "beasts") == store.find("ann", made.id)
    assert store.find("ann", made.id).name == "beasts"


def test_a_dictionary_is_deleted_alone_and_all_with_their_glossary(store: Glossaries, file: Path) -> None:
    made = store.add("ann", "both", {EN_FR: {"cat": "matou"}, FR_EN: {"chat": "cat"}})
    store.remove("ann", made.id, EN_FR)
    with pytest.raises(errors.UnknownGlossary, match="from en to fr"):
        store.remove("ann", made.id, EN_FR)
    assert store.find("ann", made.id).sizes == {FR_EN: 1}
    store.remove("ann", made.id)
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM dictionary").fetchone() == (0,)
    database.close()


def test_limits(file: Path) -> None:
    store = kept_in(file, max_glossaries=2, max_glossary_terms=2, max_term_chars=3)
    two = store.add("ann", "two", {EN_FR: {"a": "abc", "abc": "c"}})
    for terms in ({"a": "1", "b": "2", "c": "3"}, {"abcd": "1"}, {"a": "1234"}):
        with pytest.raises(errors.TooLarge):
            store.add("ann", "too much", {EN_FR: terms})
        with pytest.raises(errors.TooLarge):
            store.change("ann", two.id, {EN_FR: terms}, "renamed")
    with pytest.raises(errors.TooLarge, match="2 terms"):
        store.change("ann", two.id, {EN_FR: {"c": "d"}})
    assert store.all("ann") == [two]
    assert store.terms("ann", two.id, EN_FR) == {"a": "abc", "abc": "c"}
    store.add("ann", "second", {EN_FR: {"a": "b"}})
    with pytest.raises(errors.TooLarge, match="2 glossaries"):
        store.add("ann", "third", {EN_FR: {"a": "b"}})
    assert store.add("bob", "his first", {EN_FR: {"a": "b"}}) in store.all("bob")


def test_threads_do_not_lose_each_others_changes(store: Glossaries) -> None:
    made = store.add("ann", "all", {EN_FR: {"0": "0"}})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.change("ann", made.id, {EN_FR: {str(number): "x"}}), range(1, 40)))
        list(pool.map(lambda number: store.add("ann", str(number), {EN_FR: {"a": "b"}}), range(20)))
    assert store.find("ann", made.id).sizes == {EN_FR: 40}
    assert len(store.all("ann")) == 21


def test_without_a_file_there_are_none() -> None:
    store = Glossaries(Settings())
    assert store.all("ann") == []
    with pytest.raises(errors.UnknownGlossary):
        store.find("ann", "x")
    with pytest.raises(errors.UnknownGlossary):
        store.remove("ann", "x")
    with pytest.raises(errors.UnknownGlossary):
        store.change("ann", "x", {EN_FR: {"a": "b"}})
    with pytest.raises(errors.InvalidRequest, match="ATTENTIVE_GLOSSARIES_FILE"):
        store.add("ann", "x", {EN_FR: {"a": "b"}})


def test_a_file_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("This is no database, and long enough to be seen as none." * 20)
    for file in (text, text / "kept.sqlite", tmp_path):
        with pytest.raises(ValueError, match="ATTENTIVE_GLOSSARIES_FILE"):
            kept_in(file)


def test_a_relative_path_is_the_checkouts() -> None:
    assert Settings(glossaries_file="data/glossaries.sqlite").glossaries == ROOT / "data" / "glossaries.sqlite"
