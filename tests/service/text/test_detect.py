import pytest

from service.text.detect import Detector


@pytest.mark.parametrize(
    ("text", "language"),
    [("I drink a glass of milk.", "en"), ("Je bois un verre de lait.", "fr"), ("HELLO WORLD", "en")],
)
def test_finds_the_language(text: str, language: str) -> None:
    [best, other] = Detector(["en", "fr"]).rank(text)
    assert best[0] == language
    assert best[1] > 0.9
    assert best[1] + other[1] == pytest.approx(1)


@pytest.mark.parametrize("text", ["", "  \n", "123", "\x00", "😀"])
def test_knows_nothing_about_text_without_words(text: str) -> None:
    assert [language for language, _ in Detector(["fr", "en"]).rank(text)] == ["en", "fr"]


def test_languages_it_does_not_know() -> None:
    assert Detector(["xx"]).rank("Hello") == []
    assert [language for language, _ in Detector(["xx", "en"]).rank("Hello")] == ["en"]
