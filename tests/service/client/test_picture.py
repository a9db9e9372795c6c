from pathlib import Path

import pytest

from service.client.picture import MAX_TOKENS, figure
from tests.service.client.test_heatmap import sentence


def test_every_token_has_its_label_and_every_strong_weight_its_number() -> None:
    [axes] = figure([("m", sentence("a b c", "x y", [[0.9, 0.1, 0.0], [0.01, 0.04, 0.95]]))]).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]
    assert sorted(text.get_text() for text in axes.texts) == ["0.10", "0.90", "0.95"]
    assert axes.get_title() == "m"


def test_dollars_are_no_formula(tmp_path: Path) -> None:
    drawn = figure([("$m$", sentence("$a^$ $5$", "$\\x$ $", [[0.9, 0.1], [0.1, 0.9]]))])
    drawn.savefig(tmp_path / "seen.svg")
    [axes] = drawn.axes
    labels = [axes.title, *axes.get_xticklabels(), *axes.get_yticklabels()]
    assert not any(label.get_parse_math() for label in labels)


def test_sentences_stand_side_by_side() -> None:
    one, two = sentence("a", "x", [[1.0]]), sentence("a b", "x", [[0.5, 0.5]])
    assert len(figure([("m", one), ("n", two)]).axes) == 2


def test_a_picture_has_an_end() -> None:
    half = MAX_TOKENS // 2
    wide = sentence(" ".join("a" * half), "x", [[1 / half] * half])
    assert figure([("m", wide), ("m", wide)]).axes
    with pytest.raises(ValueError, match="room"):
        figure([("m", wide), ("m", wide), ("m", wide)])


@pytest.mark.parametrize("weights", [[], [None]])
def test_nothing_to_draw(weights: list[None]) -> None:
    with pytest.raises(ValueError, match="no attention"):
        figure([("m", sentence("a", "x", each)) for each in weights])
