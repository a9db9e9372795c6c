"""Each check passes what is right and finds what is wrong, and finds nothing else there."""

import pytest

from loadtests.checks import CHECKS, Case, Output, failed, loops, numbers, turns
from loadtests.robustness import INPUTS, read_cases
from service.text.detect import Detector

SENTENCE = Case("sentences", "en", "The children are playing in the garden.")
RIGHT = "Les enfants jouent dans le jardin."


@pytest.fixture(scope="module")
def detector():
    return Detector({"en", "fr", "de"})


def case(text, *kept, kind="sentences"):
    return Case(kind, "en", text, kept)


WRONG = [
    ("whole", SENTENCE, Output("", "fr")),
    ("whole", SENTENCE, Output(RIGHT, "fr", truncated=True)),
    ("loop", SENTENCE, Output("Les enfants dans le dans le dans le dans le jardin.", "fr")),
    ("loop", case("Donau boat"), Output("le bateau du " + 7 * "donau", "fr")),
    ("length", case("The dog."), Output("Le chien que nous avons vu hier dans le jardin de mon oncle.", "fr")),
    ("length", case("The dog that we saw yesterday in my uncle's garden, near the old house."), Output("Chien.", "fr")),
    ("numbers", case("It costs 1,250 dollars."), Output("Cela coûte 1520 dollars.", "fr")),
    ("numbers", case("Rooms 12 and 12"), Output("Chambres 12", "fr")),
    ("signs", case("This book costs $19.99."), Output("Ce livre coûte 19.99.", "fr")),
    ("signs", case("From €5 to €7"), Output("De 5 à €7", "fr")),
    ("characters", case("The ticket costs 5 €."), Output("Le billet coûte 5 € \ufffd.", "fr")),
    ("kept", case("Hello {{name}}!", "{{name}}"), Output("Bonjour {{nom}} !", "fr")),
    ("kept", case("🎉 We won 🎉", "🎉"), Output("🎉 Nous avons gagné", "fr")),
    ("translated", case("garden"), Output("Garden", "fr")),
    ("language", SENTENCE, Output("Die Kinder spielen heute im Garten.", "fr")),
    ("invented", case("..."), Output("Je ne sais.", "fr")),
    ("capitals", case("CLOSE THE DOOR"), Output("Fermez la porte", "fr")),
    ("layout", case("One.\nTwo."), Output("Un. Deux.", "fr")),
    ("layout", case(" One."), Output("Un.", "fr")),
]


@pytest.mark.parametrize(("check", "asked", "output"), WRONG, ids=[row[0] for row in WRONG])
def test_a_check_finds_what_is_wrong(detector, check, asked, output):
    assert check in failed(asked, output, detector)


def test_every_check_can_fail():
    assert {row[0] for row in WRONG} == set(CHECKS)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (SENTENCE, RIGHT),
        (case("no no no no no"), "non non non non non"),
        (case("It costs 1,250.50 dollars, 3 % more."), "Cela coûte 1\u202f250,50 dollars, trois pour cent de plus."),
        (case("Hello {{name}}!", "{{name}}"), "Bonjour {{name}} !"),
        (case("See https://example.org/20", "https://example.org/20"), "Voir https://example.org/20"),
        (case("It costs $99, not €20."), "Ça coûte 99 $, pas 20 €."),
        (case("One \ufffd."), "Un \ufffd."),
        (case("👍", "👍"), "👍"),
        (case("..."), "..."),
        (case("CLOSE THE DOOR"), "FERMEZ LA PORTE"),
        (case("  One.\nTwo.\n"), "  Un.\nDeux.\n"),
        (case("SELECT name FROM users WHERE id = 42;", kind="code"), "SELECT name FROM users WHERE id = 42;"),
        (case("Ich habe heute keine Zeit für dich.", kind="wrong language"), "Ich habe heute keine Zeit für dich."),
        (case("OK"), "OK"),
    ],
    ids=lambda value: value.text if isinstance(value, Case) else "",
)
def test_what_is_right_passes(detector, asked, text):
    assert failed(asked, Output(text, "fr"), detector) == []


def test_turns():
    assert [turns(text.split()) for text in ("", "a b c", "x a b a b a b", "a a a a")] == [0, 1, 3, 4]
    assert turns("x" + "abc" * 5 + "ab") == 5


def test_as_much_repetition_as_in_the_source_is_no_loop():
    assert not loops("ha ha ha", "ah ah ah ah ah ah")
    assert loops("ha ha ha", "ah ah ah ah ah ah ah")
    assert not loops("1000000", "1 000 000 000000")


def test_numbers_are_compared_by_their_digits():
    assert numbers("1,250 or 1.250 or 1 250 or 1'250") == {"1250": 4}
    assert numbers("from 10:30 on 2024-11-30, 5 of 555 0199") == {
        "10": 1,
        "30": 2,
        "2024": 1,
        "11": 1,
        "555": 1,
        "0199": 1,
    }


def test_no_input_is_held_to_be_in_another_language(detector):
    """Else no translation into that language could be expected to pass."""
    cases = read_cases(INPUTS)
    assert [
        each.text for each in cases if not CHECKS["language"](each, Output(each.text, each.language), detector)
    ] == []
