"""What of parallel text is kept, and why the rest is not."""

import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.clean import SAME_TEMPLATE, Cleaner, fold, numbers, read
from models.pairs import Pair
from tests.models.tiny import sentences

FRENCH = "Le chat que nous avons vu hier dans le jardin est revenu ce matin."
ENGLISH = "The cat that we saw in the garden yesterday came back this morning."


def kept(*rows, languages=("en", "fr")):
    cleaner = Cleaner()
    pairs = list(cleaner.clean([Pair(first, second, "x") for first, second in rows], languages))
    return pairs, dict(cleaner.counts["x"])


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (ENGLISH, FRENCH, "kept"),
        ("Paris", "Paris", "kept"),  # names are the same in both languages
        ("Hello, Tom.", "hello tom", "kept"),
        ("", "Un chat.", "empty"),
        ("A cat.", "", "empty"),
        ("A c\ufffdt.", "Un chat.", "encoding"),
        ("A cat.", "Un\x07 chat.", "encoding"),
        ("a" * 10, "b" * 45, "kept"),
        ("a" * 10, "b" * 46, "length"),
        ("b" * 46, "a" * 10, "length"),
        ("ab 12", "ab !?", "kept"),
        ("ab 123", "ab", "letters"),
        ("ab", "| 0 | 1 | b |", "letters"),
        ("This was never translated.", "this was never translated", "copy"),
        ("In the year 1984", "Cela fut en 1985", "numbers"),
        ("In the year 1984, 2 cats", "En 1984, deux chats", "kept"),
        ("In room 7", "Dans la pièce 8", "kept"),  # too small a number to say
        (ENGLISH, "The dog that they saw in the street yesterday came back at noon.", "language"),
        (FRENCH, FRENCH.replace("chat", "chien"), "language"),
        ("Linux kernel", "Linux kernel mailing list", "kept"),  # too short to say
    ],
)
def test_every_reason(first, second, reason):
    assert kept((first, second))[1] == {reason: 1}


def test_languages_are_those_of_the_pair():
    assert kept((ENGLISH, FRENCH), languages=("fr", "en"))[1] == {"language": 1}
    german = "Die Katze, die wir gestern im Garten gesehen haben, kam heute Morgen zurück."
    assert kept((ENGLISH, german), languages=("en", "de"))[1] == {"kept": 1}


def test_repetitions_differ_in_case_and_punctuation_only():
    pairs, counts = kept(
        ("A cat!", "Un chat !"), ("a cat", "Un chat."), ("A cat!", "Une chatte !"), ("Cats", "Un chat")
    )
    assert counts == {"kept": 3, "repeated": 1}
    assert pairs[0] == Pair("A cat!", "Un chat !", "x")


def test_templates_differ_in_numbers_only():
    steps = [(f"Step number {i} of the tour", f"Étape numéro {i} de la visite") for i in range(10, 20)]
    assert kept(*steps)[1] == {"kept": SAME_TEMPLATE, "template": 10 - SAME_TEMPLATE}


def test_repetitions_are_found_over_all_files():
    cleaner = Cleaner()
    for corpus in ("one", "two"):
        list(cleaner.clean([Pair("A cat.", "Un chat.", corpus)], ("en", "fr")))
    assert cleaner.counts == {"one": {"kept": 1}, "two": {"repeated": 1}}


@given(st.text())
def test_folding_twice_changes_nothing(text):
    assert fold(fold(text)) == fold(text)


def test_fold_and_numbers():
    assert fold("  L'Été, c'est 12,5 °C!") == "l été c est 12 5 c"
    assert numbers("12 5 a34b 1984") == {"12", "34", "1984"}


def configured(configure, **fractions):
    return configure("bahdanau").data.model_copy(update={"fractions": fractions})


def write(path, rows):
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.writelines("\t".join(row) + "\n" for row in rows)
    return path


def test_only_what_some_epochs_take_is_read(tmp_path, configure):
    pairs = dict.fromkeys(sentences(2000, seed=4))
    path = write(tmp_path / "words.tsv.xz", [(*pair, str(i % 2)) for i, pair in enumerate(pairs)])
    config = configured(configure, **{"en-fr": {"0": 0.01, "1": 0.1}})
    cleaner = Cleaner()
    kept = read([path], config, seed=1, cleaner=cleaner)
    assert 50 < cleaner.counts["en-fr/0"].total() < 150
    assert 900 < cleaner.counts["en-fr/1"].total() <= 1000
    assert sum(counts["kept"] for counts in cleaner.counts.values()) == len(kept)
    assert kept == read([path], config, seed=1, cleaner=Cleaner())


def test_files_of_several_pairs_of_languages(tmp_path, configure):
    config = configured(configure, **{"en-fr": {"x": 1.0}, "en-de": {"x": 1.0}})
    files = [
        write(tmp_path / "en-fr.tsv.xz", [("A cat.", "Un chat.", "x")]),
        write(tmp_path / "b.en-de.tsv.xz", [("A dog.", "Ein Hund.", "x"), ("A bird.", "Ein Vogel.", "y")]),
    ]
    pairs = read(files, config, seed=1, cleaner=Cleaner())
    assert pairs == [Pair("A cat.", "Un chat.", "en-fr/x"), Pair("A dog.", "Ein Hund.", "en-de/x")]
