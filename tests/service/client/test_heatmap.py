import pytest
from rich.cells import cell_len

from service.client import Sentence
from service.client.heatmap import heatmap


def sentence(read: str, written: str, weights: list[list[float]] | None) -> Sentence:
    def tokens(words: str) -> list[dict[str, object]]:
        return [{"text": word, "start": 0, "end": len(word)} for word in words.split(" ")]

    span = {"text": "", "start": 0, "end": 0}
    sides = {"source_tokens": tokens(read), "target_tokens": tokens(written)}
    return Sentence.model_validate({"source": span, "target": span, "score": 0, "weights": weights} | sides)


def test_the_more_weight_the_fuller() -> None:
    drawn = heatmap(sentence("I eat", "Je mange", [[1, 0], [0.3, 0.7]]), 80).plain
    assert drawn.splitlines() == [
        "        e ",
        "        a ",
        "      I t ",
        "   Je ██  ",
        "mange ░░▓▓",
    ]


def test_what_has_no_room_follows_below() -> None:
    drawn = heatmap(sentence("a b c", "x", [[0, 0.5, 1]]), 6).plain
    assert drawn.splitlines() == ["  a b ", "x   ▒▒", "", "  c ", "x ██"]
    assert heatmap(sentence("a b", "long", [[0, 1]]), 1).plain.splitlines()[-1] == "long ██"


@pytest.mark.parametrize("word", ["日本", "a\x1b[31m", "é", "e\u0301", "a\tb"])
def test_columns_stay_under_each_other(word: str) -> None:
    lines = heatmap(sentence(f"{word} b", word, [[1, 1]]), 80).plain.splitlines()
    assert all(line.isprintable() for line in lines)
    assert len({cell_len(line) for line in lines}) == 1


def test_without_weights_there_is_nothing_to_see() -> None:
    assert heatmap(sentence("a", "b", None), 80).plain == ""
